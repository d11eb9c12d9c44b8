"""What nobody has thought of ends a reload, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from gateway.log import get_logger
from gateway.supervisor import Supervisor


@pytest.mark.parametrize(("begun", "said"), [(None, ["reloading", "ready"]), (object(), ["reloading"])])
def test_a_fault_of_our_own_refuses_the_reload_and_those_who_serve_go_on(
    begun: object, said: list[str]
) -> None:
    told: list[str] = []

    def read() -> None:
        raise UnicodeError("label too long")

    supervisor = Supervisor.__new__(Supervisor)
    parts = {
        "_read": read,
        "_files": set,
        "_log": get_logger(),
        "_generations": SimpleNamespace(latest=None, next=begun),
        "_service": SimpleNamespace(
            reloading=lambda: told.append("reloading"), ready=lambda _text: told.append("ready")
        ),
    }
    for name, part in parts.items():
        setattr(supervisor, name, part)
    with capture_logs() as events:
        supervisor._reload()
    (event,) = events
    assert (event["event"], event["log_level"]) == ("reload refused", "error")
    assert event["error"] == "UnicodeError('label too long')"
    assert "in read" in event["exception"]
    # Where one is under way already, it is that one's to say that all is well.
    assert told == said
