"""Ask a source now, out of its turn, and say what came of it: `tls-gateway refresh`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trio

from gateway.config.values import one_line
from gateway.fetch import display_url
from gateway.revocation import policy

if TYPE_CHECKING:
    from gateway.schedule import Source, SourceState

LONGEST = 120.0
"""Seconds for which anything is waited for; a source that hangs goes on by itself."""


class Outcome(NamedTuple):
    """Whether it went well, and the line that tells what came of it."""

    good: bool
    line: str


async def ask_now(kind: str, source: Source, outcomes: list[Outcome]) -> None:
    """Have the source asked, and add the outcome; `kind` is "list" or "staple"."""
    before = _identity(source.state)
    with trio.move_on_after(LONGEST) as scope:
        await source.refresh()
    outcomes.append(_outcome(kind, source.state, before, over=not scope.cancelled_caught))


def _outcome(kind: str, state: SourceState, before: tuple[object, ...], *, over: bool) -> Outcome:
    url = display_url(state.url)
    if not over:
        return Outcome(good=False, line=f"{url}: no end within {LONGEST:g} s; it goes on")
    if state.last_error is not None:
        why = one_line(state.last_error.removeprefix(f"{url}: "))
        return Outcome(good=False, line=f"{url}: failed: {why}")
    if _identity(state) == before:
        return Outcome(good=True, line=f"{url}: unchanged")
    return Outcome(good=True, line=f"{url}: new {kind} in force: {_condition(state)}")


def _identity(state: SourceState) -> tuple[object, ...]:
    return state.this_update, state.next_update, state.number, state.entries


def _condition(state: SourceState) -> str:
    parts = []
    if state.number is not None:
        parts.append(f"number {state.number}")
    if state.entries is not None:
        parts.append(f"{state.entries} entries")
    if state.next_update is not None:
        parts.append(f"good until {policy.moment(state.next_update)}")
    return ", ".join(parts) or "without end"
