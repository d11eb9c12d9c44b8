"""One event is one line of printable characters, whatever a peer or a certificate says of itself."""

from __future__ import annotations

import ast
import io
import json
import os
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway import log
from gateway.config.model import Address, Log
from gateway.names import IssuerId

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTILE = [
    "two\nlines",
    "carriage\rreturn",
    "\x1b[2Jclears the screen",
    "\u202eright to left",
    "\u2028line separator",
    "\x85next line",
    'a "quote"',
    "a \\ backslash",
    "\\n is not a newline",
    "\udc80",
    "",
    " ",
    "key=value",
    'end" level=error forged="1',
]


@pytest.fixture(autouse=True)
def leave_no_trace() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def written(
    style: Literal["text", "json"],
    values: dict[str, Any],
    *,
    level: Literal["debug", "info", "warning", "error"] = "debug",
    method: str = "info",
) -> str:
    """What one event writes to standard error."""
    with redirect_stderr(io.StringIO()) as output:
        log.configure(Log(level=level, format=style))
        getattr(log.get_logger(process="test"), method)("event happened", **values)
    return output.getvalue()


def is_one_printable_line(text: str) -> bool:
    return text.endswith("\n") and text[:-1].isprintable()


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_breaks_a_line_of_text(value: str) -> None:
    line = written("text", {"subject": value})
    assert is_one_printable_line(line)
    assert ast.literal_eval(line.partition("subject=")[2]) == value


@given(st.text(), st.text())
def test_one_event_of_text_is_one_printable_line_and_says_exactly_the_values(first: str, second: str) -> None:
    line = written("text", {"first": first, "second": second})
    assert is_one_printable_line(line)
    values = line.partition(" first=")[2]
    shown = f"{_written_as(first)} second={_written_as(second)}\n"
    assert values == shown


def _written_as(value: str) -> str:
    """The value between blanks; what was quoted says the same to any reader of escapes."""
    line = written("text", {"only": value}).removesuffix("\n").partition(" only=")[2]
    if line.startswith('"'):
        assert ast.literal_eval(line) == value
    else:
        assert line == value
        assert not set(line) & set(' "=\\')
    return line


@given(st.dictionaries(st.sampled_from(["subject", "peer", "error"]), st.text() | st.integers()))
def test_one_event_of_json_is_one_printable_line_and_says_exactly_the_values(values: dict[str, Any]) -> None:
    line = written("json", values)
    assert is_one_printable_line(line)
    assert line.isascii()
    said = json.loads(line)
    assert said.pop("timestamp").endswith("Z")
    assert said == {"event": "event happened", "level": "info", "process": "test", **values}


@pytest.mark.parametrize("value", [Address("127.0.0.1", 8883), Path("/var/lib"), IssuerId(b"0\x00", b"k")])
def test_what_is_no_value_of_json_is_told_as_the_text_has_it(value: object) -> None:
    said = json.loads(written("json", {"what": value}))["what"]
    assert said == str(value)
    assert said in written("text", {"what": value})


def test_a_line_of_text_has_time_level_event_and_values_in_their_order() -> None:
    line = written("text", {"peer": "127.0.0.1:40000", "reason": "two words"}, method="warning")
    timestamp, rest = line.split(" ", 1)
    assert timestamp.endswith("Z")
    assert rest == 'warning event happened process=test peer=127.0.0.1:40000 reason="two words"\n'


@pytest.mark.parametrize(
    ("level", "heard"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_below_its_level_the_log_is_silent(
    level: Literal["debug", "info", "warning", "error"], heard: int
) -> None:
    methods = ("debug", "info", "warning", "error")
    assert sum(bool(written("text", {}, level=level, method=method)) for method in methods) == heard


def test_an_exception_follows_its_event() -> None:
    with redirect_stderr(io.StringIO()) as output:
        log.configure(Log())
        try:
            int("not a number")
        except ValueError:
            log.get_logger().exception("defect", peer="somebody")
    event, *trace = output.getvalue().splitlines()
    assert event.endswith("error   defect peer=somebody")
    assert trace[0] == "  Traceback (most recent call last):"
    assert trace[-1] == "  ValueError: invalid literal for int() with base 10: 'not a number'"


@given(st.text())
def test_what_an_exception_says_forges_no_line(said: str) -> None:
    with redirect_stderr(io.StringIO()) as output:
        log.configure(Log())
        try:
            raise ValueError(said)  # noqa: TRY301 - likewise
        except ValueError:
            log.get_logger().exception("defect")
    event, *trace = output.getvalue().rstrip("\n").split("\n")
    assert event.endswith("error   defect")
    assert all(line.startswith("  ") and line.isprintable() for line in trace)


@pytest.mark.parametrize("style", ["text", "json"])
def test_the_journal_is_told_the_priority_of_each_line(
    style: Literal["text", "json"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    with path.open("w") as journal:
        status = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        with redirect_stderr(journal):
            log.configure(Log(level="debug", format=style))
            logger = log.get_logger()
            for method in ("debug", "info", "warning"):
                getattr(logger, method)("event happened")
            try:
                raise ValueError  # noqa: TRY301 - the exception is the point
            except ValueError:
                logger.exception("defect")
    marks = [line[:3] for line in path.read_text().splitlines()]
    assert marks[:3] == ["<7>", "<6>", "<4>"]
    # In text the trace has lines of its own.
    assert (len(marks) > 4) is (style == "text")
    assert set(marks[3:]) == {"<3>"}


def test_whoever_else_has_standard_error_is_told_no_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    assert not written("text", {}).startswith("<")
