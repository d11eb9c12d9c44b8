"""Which lists are in force, and for whose certificates they speak (RFC 5280, section 6.3.3). No I/O.

All that does not depend on a client is decided here, once for each change of the
lists: which of an issuer's lists is the newest, which delta belongs to which base,
whether who signed has been revoked, and which CAs a list covers. What is left for
the handshake (csrc/verify.c) is to compare a certificate's distribution points with
the covers of its issuer, and to look its serial up.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding

from gateway import publish
from gateway.names import canonical_name, describe
from gateway.native import Cover, Subjects, Table, VerdictKind, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gateway.names import CanonicalName, IssuerId
    from gateway.revocation.authorities import Authorities
    from gateway.revocation.scope import Scope


class TableFile(NamedTuple):
    """A table and the file that it is in."""

    path: Path
    table: Table


@dataclass(frozen=True, eq=False)
class Listed:
    """A verified list and what was made of it; times are seconds since 1970.

    `tables` has its entries by the issuer of the certificates, which for all but an
    indirect list is the list's own. An indirect one has `none`, a table without
    entries, for all others.
    """

    issuer: IssuerId
    signer_name: int
    scope: Scope
    base: int | None
    number: int | None
    this_update: int
    next_update: int
    signature: bytes
    tables: Mapping[CanonicalName, TableFile]
    none: TableFile | None
    entries: int

    @property
    def files(self) -> Iterator[TableFile]:
        """All that it needs."""
        yield from self.tables.values()
        if self.none is not None:
            yield self.none

    def expired(self, now: int) -> bool:
        """Whether its issuer has promised a newer list for before `now`."""
        return 0 < self.next_update < now


class Stream(NamedTuple):
    """Lists that replace one another: of one CA, whatever its key, and one scope; complete ones or deltas."""

    issuer: frozenset[IssuerId]
    scope: bytes
    delta: bool


@dataclass(frozen=True)
class Coverage:
    """What one list says of some CAs' certificates: a `Cover` for each of `issuers` and `points`."""

    issuers: tuple[IssuerId, ...]
    crl_issuer: int
    scope: Scope
    this_update: int
    next_update: int
    table: TableFile
    delta: TableFile | None

    def told(self) -> publish.Cover:
        """As workers are told of it."""
        return publish.Cover(
            table=str(self.table.path),
            delta=None if self.delta is None else str(self.delta.path),
            issuers=tuple((issuer.name, issuer.key) for issuer in self.issuers),
            crl_issuer=self.crl_issuer,
            points=tuple(sorted(self.scope.points)),
            reasons=self.scope.reasons,
            subjects=self.scope.subjects,
            this_update=self.this_update,
            next_update=self.next_update,
        )

    def covers(self) -> Iterator[Cover]:
        """In the terms of the lookup."""
        return terms(self.told(), self.table.table, None if self.delta is None else self.delta.table)


def terms(told: publish.Cover, table: Table, delta: Table | None) -> Iterator[Cover]:
    """What was told, in the terms of the lookup; the tables are those that it names."""
    for (name, key), point in itertools.product(told.issuers, told.points or (0,)):
        yield Cover(
            issuer_name=name,
            issuer_key=key,
            crl_issuer=told.crl_issuer,
            point=point,
            reasons=told.reasons,
            subjects=Subjects(told.subjects),
            this_update=told.this_update,
            next_update=told.next_update,
            table=table,
            delta=delta,
        )


@dataclass(frozen=True)
class Resolution:
    """What is in force, and a lookup in it; the lists that are not, though the newest, with the reason."""

    world: World
    coverages: tuple[Coverage, ...] = ()
    left_out: Mapping[Stream, str] = field(default_factory=dict)


def stream_of(issuer: IssuerId, scope: Scope, base: int | None, authorities: Authorities) -> Stream:
    """Which stream a list of this issuer is of."""
    return Stream(authorities.same(issuer) or frozenset({issuer}), scope.octets, base is not None)


def resolve(
    lists: Iterable[Listed], authorities: Authorities, *, now: int, local: Sequence[Coverage] = ()
) -> Resolution:
    """What `lists` say together, and `local` with them, which nobody has to have signed.

    A list counts when its signer may sign (RFC 5280, section 6.3.3 (f)): by one path at
    least on which no certificate is revoked in the lists that count. Not to be covered
    by any list does not make a signer's certificate bad: the list that covers it may be the
    very one that it signs.
    """
    newest: dict[Stream, Listed] = {}
    for one in lists:
        stream = stream_of(one.issuer, one.scope, one.base, authorities)
        other = newest.get(stream)
        if other is None or (one.number or 0, one.this_update) > (other.number or 0, other.this_update):
            newest[stream] = one
    left_out: dict[Stream, str] = {}
    while True:
        counted = {stream: one for stream, one in newest.items() if stream not in left_out}
        coverages = (*_coverages(counted, authorities), *local)
        world = World()
        world.publish(cover for coverage in coverages for cover in coverage.covers())
        # Of thousands of lists, the shards of a few CAs, there are a few signers.
        signers = {one.issuer for one in counted.values()}
        wrong = {signer: _signer_fault(signer, world, authorities, now) for signer in signers}
        faults = {
            stream: fault for stream, one in counted.items() if (fault := wrong[one.issuer]) is not None
        }
        if not faults:
            return Resolution(world, coverages, left_out)
        # Who is revoked by a list that goes out in the same round stays out: to refuse is the safe side.
        left_out |= faults


def _coverages(lists: Mapping[Stream, Listed], authorities: Authorities) -> Iterator[Coverage]:
    for stream, one in lists.items():
        if not stream.delta:
            delta = lists.get(stream._replace(delta=True))
            yield from _coverages_of(one, delta if _changes(delta, one) else None, stream, authorities)


def _changes(delta: Listed | None, base: Listed) -> bool:
    """Whether the delta is made for this base, or an earlier one, and is later (RFC 5280, section 5.2.4)."""
    if delta is None or delta.base is None or delta.number is None or base.number is None:
        return False
    return delta.base <= base.number < delta.number


def _coverages_of(
    one: Listed, delta: Listed | None, stream: Stream, authorities: Authorities
) -> Iterator[Coverage]:
    # With a later delta the two together are as fresh as the delta; once that has ended, as the base.
    ends = (one.next_update,) if delta is None else (one.next_update, delta.next_update)

    def coverage(issuers: Iterable[IssuerId], crl_issuer: int, name: CanonicalName) -> Iterator[Coverage]:
        table = one.tables.get(name, one.none)
        if table is not None:
            yield Coverage(
                issuers=tuple(sorted(issuers, key=lambda issuer: (issuer.name, issuer.key))),
                crl_issuer=crl_issuer,
                scope=one.scope,
                this_update=one.this_update,
                next_update=0 if 0 in ends else max(ends),
                table=table,
                delta=None if delta is None else delta.tables.get(name),
            )

    own = canonical_name(one.issuer.name)
    yield from coverage(stream.issuer, 0, own)
    if one.scope.indirect:
        # Those that name its signer in cRLIssuer, of any CA below the same trust anchor.
        yield from coverage(stream.issuer, one.signer_name, own)
        anchors = authorities.anchored(one.issuer)
        others: dict[CanonicalName, set[IssuerId]] = {}
        for identity in authorities.identities() - stream.issuer:
            if anchors & authorities.anchored(identity):
                others.setdefault(canonical_name(identity.name), set()).add(identity)
        for name, issuers in others.items():
            yield from coverage(issuers, one.signer_name, name)


def _signer_fault(signer: IssuerId, world: World, authorities: Authorities, now: int) -> str | None:
    """Why the lists of this signer do not count; None when one path of it is good."""
    fault = "its signer has no valid path to a trusted CA"
    for route in authorities.routes(signer, now):
        revoked = [
            certificate
            for certificate, issuer in route
            if world.judge(certificate.public_bytes(Encoding.DER), issuer.name, issuer.key, now=now).kind
            is VerdictKind.REVOKED
        ]
        if not revoked:
            return None
        fault = f"revoked on the path of its signer: {describe(revoked[0])}"
    return fault
