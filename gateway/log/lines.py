"""What an event looks like: a line for people, or for machines; where it is the journal's, with its priority.

Values come from foreign certificates and peers: control characters never reach
the terminal or the log as they are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, WrappedLogger

    Render = Callable[[WrappedLogger, str, EventDict], str | bytes]

_LEVEL_WIDTH = 7
# Of syslog(3), as sd-daemon(3) has journald read them at the beginning of a line.
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}


def renderer(style: Literal["text", "json"], *, priorities: bool) -> Render:
    """What makes text of an event that has `timestamp` and `level`."""
    render: Render = (
        structlog.processors.JSONRenderer(ensure_ascii=True, default=str) if style == "json" else _as_text
    )
    return partial(_with_priority, render) if priorities else render


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


def _with_priority(render: Render, logger: WrappedLogger, method: str, event: EventDict) -> str:
    mark = f"<{_PRIORITIES[event['level']]}>"
    return "\n".join(mark + line for line in str(render(logger, method, event)).split("\n"))
