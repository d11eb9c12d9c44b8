"""Which holders of keys are one and the same CA, by who certifies whom. No I/O, no clock.

A CA has more than one key when it changes its key, or signs its lists with a
separate one. RFC 5280 tells CAs apart by their names alone (section 6.3.3, (f));
here an equal name is needed and not enough: somebody has to say that both keys
are of one CA.

Whoever may issue certificates can certify any name with anybody's public key, so
that not all that is said counts. Were one parent in common enough, a CA that is
hostile could certify the key of another CA beside a key of its own, under the
name of the other, and write its lists. Therefore

- an anchor's word counts by itself: it is trusted whatever others say;
- anybody else's counts for a key that nobody but it certifies;
- two keys of one name that certify each other are agreed.

A key that is certified by one more CA than before may thus lose a link to
another, never gain one to a stranger.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from collections.abc import Set as AbstractSet

    from gateway.names import CanonicalName

__all__ = ["Holder", "group"]

Holder: TypeAlias = "tuple[bytes, CanonicalName]"
"""A key (DER of the SubjectPublicKeyInfo) under a name."""

# Each round sees what the one before has joined: parents first, then their children. What
# would take more rounds than a path has certificates stays apart.
_ROUNDS = 16


class _Partition:
    """Sets of holders that are one (union-find); each has a leader."""

    def __init__(self, holders: Mapping[Holder, object]) -> None:
        self._above = {holder: holder for holder in holders}
        self.joined = 0

    def leader(self, holder: Holder) -> Holder:
        above = self._above
        while above[holder] != holder:
            above[holder] = holder = above[above[holder]]
        return holder

    def join(self, one: Holder, other: Holder) -> None:
        one, other = self.leader(one), self.leader(other)
        if one != other:
            self._above[one] = other
            self.joined += 1


def group(
    parents: Mapping[Holder, AbstractSet[Holder]], anchors: AbstractSet[Holder]
) -> dict[Holder, frozenset[Holder]]:
    """For each holder, all that are the same CA as it, itself among them.

    `parents` has, for every holder, who certifies it with a signature that was
    verified, maybe itself; all of them are keys of it too. `anchors` are those that
    are trusted whoever certifies them.
    """
    sets = _Partition(parents)
    named: defaultdict[CanonicalName, list[Holder]] = defaultdict(list)
    for holder in parents:
        named[holder[1]].append(holder)
    namesakes = [holders for holders in named.values() if len(holders) > 1]
    for holders in namesakes:
        for holder, other in _agreed(holders, parents):
            sets.join(holder, other)
    for _ in range(_ROUNDS):
        before = sets.joined
        trusted = {sets.leader(anchor) for anchor in anchors}
        for holders in namesakes:
            _join(sets, holders, parents, anchors, trusted)
        if sets.joined == before:
            break
    members: defaultdict[Holder, set[Holder]] = defaultdict(set)
    for holder in parents:
        members[sets.leader(holder)].add(holder)
    frozen = {leader: frozenset(holders) for leader, holders in members.items()}
    return {holder: frozen[sets.leader(holder)] for holder in parents}


def _agreed(
    holders: list[Holder], parents: Mapping[Holder, AbstractSet[Holder]]
) -> list[tuple[Holder, Holder]]:
    """Those of one name that certify each other."""
    return [
        (holder, parent)
        for holder in holders
        for parent in parents[holder]
        if parent[1] == holder[1] and holder in parents[parent]
    ]


def _join(
    sets: _Partition,
    holders: list[Holder],
    parents: Mapping[Holder, AbstractSet[Holder]],
    anchors: AbstractSet[Holder],
    trusted: AbstractSet[Holder],
) -> None:
    """Join those of one name for whom the sets of their parents, as they are now, speak."""
    said: dict[Hashable, Holder] = {}
    for holder in holders:
        above = frozenset(sets.leader(parent) for parent in parents[holder])
        outside = above - {sets.leader(holder)}
        anchor = holder in anchors
        for claim in _claims(above, trusted, anchor=anchor):
            sets.join(holder, said.setdefault(claim, holder))
        for parent in _linked(holder, outside, trusted, anchor=anchor):
            sets.join(holder, parent)


def _claims(above: frozenset[Holder], trusted: AbstractSet[Holder], *, anchor: bool) -> list[Hashable]:
    """What is the same for two holders of one name whom the same CA has certified."""
    claims: list[Hashable] = [("anchor", parent) for parent in above if parent in trusted]
    # The operator vouches for an anchor, so that nobody else is the only one.
    if above and not anchor:
        claims.append(("all", above))
    return claims


def _linked(
    holder: Holder, outside: frozenset[Holder], trusted: AbstractSet[Holder], *, anchor: bool
) -> list[Holder]:
    """Those that certified this key under their own name (self-issued: RFC 5280, section 6.1)."""
    alone = len(outside) == 1 and not anchor
    return [parent for parent in outside if parent[1] == holder[1] and (alone or parent in trusted)]
