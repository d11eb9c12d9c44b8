"""The log: one event a line on standard error, text for people or JSON for machines.

An event has a name, a level and values. Values come from foreign certificates
and peers: control characters never reach the terminal or the log as they are.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

    _Render = Callable[[WrappedLogger, str, EventDict], str | bytes]

_LEVEL_WIDTH = 7
# Of syslog(3), as sd-daemon(3) has journald read them at the beginning of a line.
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}


def configure(level: Literal["debug", "info", "warning", "error"], style: Literal["text", "json"]) -> None:
    """Set level and format of every logger of this process and those forked from it."""
    render: _Render = structlog.processors.JSONRenderer(ensure_ascii=True) if style == "json" else _as_text
    if _goes_to_journal():
        render = partial(_with_priority, render)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        # One write a line: lines of several processes do not mix.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(**values: object) -> FilteringBoundLogger:
    """A logger whose every event carries `values`."""
    logger: FilteringBoundLogger = structlog.get_logger(**values)
    return logger


def _as_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    timestamp, level, name = event.pop("timestamp"), event.pop("level"), event.pop("event")
    exception = event.pop("exception", None)
    values = " ".join(f"{key}={_value(value)}" for key, value in event.items())
    line = f"{timestamp} {level:<{_LEVEL_WIDTH}} {name} {values}".rstrip()
    # What it says may be of a stranger: each line is indented, so that none passes for an event.
    trace = [] if exception is None else [f"  {_escaped(part)}" for part in exception.split("\n")]
    return "\n".join([line, *trace])


def _value(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    return '"' + _escaped(text).replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    return "".join(
        character if character.isprintable() and character != "\\" else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _goes_to_journal() -> bool:
    """Whether standard error is the journal's, which takes a priority before each line."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _with_priority(render: _Render, logger: WrappedLogger, method: str, event: EventDict) -> str:
    mark = f"<{_PRIORITIES[event['level']]}>"
    return "\n".join(mark + line for line in str(render(logger, method, event)).split("\n"))
