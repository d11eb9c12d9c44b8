"""The log: one event a line on standard error, text for people or JSON for machines.

An event has a name, a level and values. Values come from foreign certificates
and peers: control characters never reach the terminal or the log as they are.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

_LEVEL_WIDTH = 7


def configure(level: Literal["debug", "info", "warning", "error"], style: Literal["text", "json"]) -> None:
    """Set level and format of every logger of this process and those forked from it."""
    render = structlog.processors.JSONRenderer(ensure_ascii=True) if style == "json" else _as_text
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
    return f"{line}\n{exception}" if exception else line


def _value(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    plain = "".join(
        character if character.isprintable() and character != "\\" else _escape(character)
        for character in text
    )
    return '"' + plain.replace('"', '\\"') + '"'


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
