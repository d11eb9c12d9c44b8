"""Each connection has one line when it is over, of one shape, whatever became of it."""

from __future__ import annotations

import re
import ssl
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from gateway import access_log, session
from gateway.access_log import Over
from gateway.config.model import Config, Log
from gateway.config.rules import remarks
from gateway.log import get_logger
from gateway.native import End
from gateway.upstream import Upstream
from gateway.worker import _log_end
from tests.brokers import dead_broker
from tests.listeners import listener
from tests.relay_parts import hear_the_end
from tests.test_layers import ROOT
from tests.test_session import V12, V13, House, build, house

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["build", "house"]

KEYS = [
    *("listener", "peer", "subject", "issuer", "serial", "server_name", "alpn", "tls", "cipher", "resumed"),
    *("verdict", "broker", "end", "detail", "came", "seconds", "bytes_in", "bytes_out", "event", "log_level"),
]


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with capture_logs() as captured:
        yield captured


@pytest.fixture(autouse=True)
def _on(house: House) -> None:
    house.door.over = partial(access_log.write, get_logger(listener="external"))


def line(events: list[Any]) -> Any:
    """The one line of the access log; it has every value, in order."""
    [found] = [event for event in events if event["event"] == "connection over"]
    assert list(found) == KEYS
    assert found["log_level"] == "info"
    assert datetime.fromisoformat(found["came"]).tzinfo is not None
    return found


@pytest.mark.parametrize(("version", "name"), [(V12, "TLSv1.2"), (V13, "TLSv1.3")])
async def test_a_connection_that_was_relayed_is_told_whole(
    house: House, events: list[Any], version: ssl.TLSVersion, name: str
) -> None:
    arrival, client = house.arrive(version)
    peer = "{}:{}".format(*client.sock.getsockname())
    with closing(client):
        await session.serve(house.door, arrival)
        assert house.relays(client)
        cipher = client.tls.cipher()
        client.finish()
        hear_the_end(client)
    _log_end(house.door, house.gate.ended(0))
    found = line(events)
    assert cipher is not None
    assert (found["peer"], found["subject"], found["verdict"]) == (peer, "CN=device", "good")
    assert (found["tls"], found["cipher"], found["resumed"]) == (name, cipher[0], False)
    assert (found["server_name"], found["alpn"]) == ("localhost", "")
    assert (found["broker"], found["bytes_in"], found["bytes_out"]) == (str(house.broker.address), 4, 4)
    assert found["end"] in ("client_closed", "broker_closed")


async def test_a_session_that_was_resumed_is_told_as_one(house: House, events: list[Any]) -> None:
    tls = house.gate.tls(V12)
    ticket = house.gate.ticket(tls)
    arrival, client = house.gate.arrive(tls, session=ticket)
    with closing(client):
        await session.serve(house.door, arrival)
        assert house.relays(client)
    _log_end(house.door, house.gate.ended(0))
    assert (line(events)["resumed"], line(events)["subject"]) == (True, "CN=device")


async def test_a_client_that_is_refused_has_its_line_too(house: House, events: list[Any]) -> None:
    house.publish(house.gate.files[0].serial)
    arrival, client = house.arrive()
    with closing(client):
        await session.serve(house.door, arrival)
    found = line(events)
    assert (found["end"], found["verdict"], found["subject"]) == (
        "client_refused",
        "certificate_revoked",
        "CN=device",
    )
    assert (found["broker"], found["bytes_in"], found["seconds"]) == ("", 0, 0.0)


async def test_a_handshake_that_failed_has_its_line_with_openssls_reason(
    house: House, events: list[Any]
) -> None:
    arrival, client = house.gate.arrive(ssl.create_default_context())  # which does not trust the server
    with closing(client):
        await session.serve(house.door, arrival)
    found = line(events)
    assert (found["end"], found["detail"]) == ("handshake_failed", "tlsv1 alert unknown ca")
    assert (found["subject"], found["verdict"]) == ("", "not_asked")


async def test_a_client_whose_broker_is_gone_has_its_line_with_who_it_was(
    house: House, events: list[Any]
) -> None:
    with dead_broker() as dead:
        house.door.upstream = Upstream([dead])
        arrival, client = house.arrive()
        with closing(client):
            await session.serve(house.door, arrival)
    found = line(events)
    assert (found["end"], found["subject"], found["verdict"]) == ("broker_unreachable", "CN=device", "good")
    assert str(dead) in found["detail"]


def test_what_is_over_is_told_once(house: House, events: list[Any]) -> None:
    arrival, client = house.arrive()
    with closing(client):
        for _ in range(2):
            session.dismiss(house.door, arrival.conn, "stopped")
    assert line(events)["end"] == "stopped"


def test_without_it_nothing_is_looked_at() -> None:
    nobody: Any = object()
    access_log.ignore(nobody, Over("stopped"))


def test_where_its_level_is_not_logged_that_is_remarked() -> None:
    found = dict(remarks(Config(listeners=(listener(),), log=Log(access=True, level="warning"))))
    assert found["log.access"].startswith("has no effect")
    assert "log.access" not in dict(remarks(Config(listeners=(listener(),), log=Log(access=True))))


def test_every_end_is_documented() -> None:
    before = set(re.findall(r'dismiss\([^"]*"(\w+)"', Path(session.__file__).read_text()))
    ends = {end.name.lower() for end in End if end is not End.BROKER_REFUSED} | before
    ends |= {"client_refused", "handshake_failed"}
    (row,) = re.findall(r"^\| `end` \|.*$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == ends | {"end"}
