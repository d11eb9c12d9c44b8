"""Lists that will hurt soon: about to expire, expired, or suddenly short. No I/O, no clock.

A list that goes out of date takes every client with it; an operator wants to know
before. Each list is told of once for each thing that is wrong with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.revocation.coverage import Listed

# Of a list's whole life: one that lives for ten minutes is not about to expire from its first second on.
_SHARE_OF_LIFE = 0.1
# Below this many entries a CA may well have let most of them go.
_FEW = 10


class Ending(NamedTuple):
    """A list that has expired, or will in `left` seconds."""

    one: Listed
    event: Literal["list about to expire", "list has expired"]
    left: int


class Watch:
    """Remembers what has been told. `before` is how many seconds before nextUpdate a list is told of."""

    def __init__(self, before: float) -> None:
        self._before = before
        self._told: set[tuple[bytes, str]] = set()

    def look(self, lists: Iterable[Listed], now: int) -> list[Ending]:
        """What there is to tell of these lists, at `now` (seconds since 1970), that was not told yet."""
        lists = list(lists)
        endings = [ending for one in lists if (ending := self._ending(one, now)) is not None]
        fresh = [ending for ending in endings if (ending.one.signature, ending.event) not in self._told]
        known = {one.signature for one in lists}
        self._told = {told for told in self._told if told[0] in known}
        self._told |= {(ending.one.signature, ending.event) for ending in fresh}
        return fresh

    def _ending(self, one: Listed, now: int) -> Ending | None:
        if not one.next_update:
            return None
        left = one.next_update - now
        if left < 0:
            return Ending(one, "list has expired", left)
        if left < min(self._before, _SHARE_OF_LIFE * (one.next_update - one.this_update)):
            return Ending(one, "list about to expire", left)
        return None


def shrank(before: int, after: int, share: float) -> bool:
    """Whether a list that had `before` entries has lost so many that somebody should look.

    `share` is what has to be left of them; expired certificates leave a list as well, and small
    lists shrink easily.
    """
    return before >= _FEW and after < before * share
