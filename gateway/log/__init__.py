"""The log: events with a name, a level and values; one a line on standard error or in a file.

`lines` says what an event looks like, `floods` which of those that strangers cause are written,
`files` how to live with a file that others rotate, `sink` who writes: a thread, or the supervisor itself.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING

import structlog

from gateway.log.files import LogFile
from gateway.log.floods import Floods, by_stranger
from gateway.log.lines import renderer
from gateway.log.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

    from gateway.config.model import Log
    from gateway.privileges import Identity

# Seconds that a process waits at its end for a disk to take its last lines.
_PATIENCE = 2.0

_sink: Sink | None = None


def configure(settings: Log, owner: Identity | None = None) -> None:
    """Set up every logger of this process and of those forked from it; a file that is made is `owner`'s.

    A file that cannot be opened is told of; its lines go to standard error until it can be.
    """
    global _sink  # noqa: PLW0603 - structlog's configuration is the process's, and so is this
    floods = Floods(settings.flood_limit)
    file = None if settings.file is None else LogFile(settings.file, owner)
    before, sink = _sink, Sink(file, sys.stderr, lambda sink: _report(sink, floods))
    render = renderer(settings.format, priorities=file is None and _goes_to_journal())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            # First: what is left out costs nothing more.
            *([_stemming(floods)] if settings.flood_limit else []),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
    _sink = sink
    if before is not None and before.file is not None:
        before.file.close()
    if file is not None:
        sink.report()


def get_logger(**values: object) -> FilteringBoundLogger:
    """A logger whose every event carries `values`."""
    logger: FilteringBoundLogger = structlog.get_logger(**values)
    return logger


def write_in_background(process: str) -> None:
    """Write with a thread from now on; for a child, which forks no more, under this name."""
    if _sink is not None:
        _sink.process = process
        _sink.in_background()


def count_losses(count: Callable[[int], None]) -> None:
    """Have lines that are lost counted, too."""
    if _sink is not None:
        _sink.on_loss = count


def reopen() -> None:
    """Look at once whether the file is another one by now."""
    if _sink is not None:
        _sink.report()


def close() -> bool:
    """Write what waits, at the end of a process; whether that is done, or else nobody takes it."""
    return _sink is None or _sink.close(_PATIENCE)


def _stemming(floods: Floods) -> Processor:
    def stem(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if by_stranger(event, method) and not floods.admits(
            event["event"], event.get("listener", ""), time.monotonic()
        ):
            raise structlog.DropEvent
        return event

    return stem


def _report(sink: Sink, floods: Floods) -> None:
    """Tell of what was not written, or elsewhere."""
    log = get_logger(process=sink.process)
    for event, listener, lines in floods.left_out():
        log.warning("similar events left out", of=event, listener=listener, count=lines)
    outage = None if sink.file is None else sink.file.outage()
    if outage is not None and sink.file is not None:
        path = sink.file.path
        if outage.error:
            log.error("log file not written", file=path, error=outage.error, consequence=_ELSEWHERE)
        else:
            log.warning("log file written again", file=path, elsewhere=outage.lines)
    lost = sink.lost()
    if lost:
        sink.on_loss(lost)
        log.error("log lines lost", count=lost, reason="they were not written as fast as they came")


_ELSEWHERE = "lines go to standard error until it is; tried again each second"


def _goes_to_journal() -> bool:
    """Whether standard error is the journal's, which takes a priority before each line."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
