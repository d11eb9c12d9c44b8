"""Whose signature on a CRL counts, and which CAs are one (RFC 5280, section 6.3.3). No I/O, no clock.

Certificates come from the configuration and from strangers' chains. Those that are
trusted (anchors) count as they are, of the others those that hang below an anchor.
From the anchors downward each certificate is given its parent: the one key under
its issuer's name that verifies its signature. All questions are then answered by
walking up.

Who wants this to take for ever has a CA below an anchor and makes certificates that
certify each other. Against that everything has an end: the number of certificates
(4,096), the keys that are tried on one (16, once and for all), the length (16) of a
path, the number (64) of paths from one certificate and the certificates (1,024) that
are looked at for them, the shortest first. What lies beyond does not count, which
refuses lists and accepts none.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, NamedTuple

from gateway.names import IssuerId, canonical_name, describe, issuer_name_der
from gateway.revocation.entities import group
from gateway.revocation.known import read
from gateway.signature import certificate_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cryptography import x509

    from gateway.config.material import ListenerMaterial
    from gateway.names import CanonicalName
    from gateway.revocation.entities import Holder
    from gateway.revocation.known import Known

__all__ = ["Authorities", "trusted_by"]

_MOST_CERTIFICATES = 4096
_MOST_KEYS = 16
_MOST_STEPS = 1024
_MOST_PATHS = 64
_LONGEST_PATH = 16
_MOST_NAMESAKES = 64
_MOST_FAULTS = 5


class _Memory:
    """What was read and verified once, shared by all that come of one another by `with_others`."""

    def __init__(self) -> None:
        self._read: dict[tuple[x509.Certificate, bool], Known | str] = {}
        self._signer: dict[Known, bytes] = {}
        self._wrong: defaultdict[Known, set[bytes]] = defaultdict(set)

    def read(self, certificate: x509.Certificate, *, anchor: bool) -> Known | str:
        """The certificate, or why it cannot be used."""
        found = self._read.get((certificate, anchor))
        if found is None:
            try:
                found = read(certificate, anchor=anchor)
            except ValueError as exc:
                found = f"{_named(certificate)} cannot be used: {exc}"
            self._read[certificate, anchor] = found
        return found

    def signed(self, certificate: Known, issuer: Known) -> bool:
        """Whether the key of `issuer`, which has the right name, signed `certificate`.

        The first key that is found stays the only one: with RSA, whoever sees a signature can make
        another key that verifies it as well.
        """
        key = issuer.identity.key
        found = self._signer.get(certificate)
        if found is not None:
            return found == key
        wrong = self._wrong[certificate]
        if key in wrong or self.hopeless(certificate):
            return False
        if certificate_fault(certificate.certificate, issuer.certificate) is not None:
            wrong.add(key)
            return False
        self._signer[certificate] = key
        return True

    def hopeless(self, certificate: Known) -> bool:
        """Whether too many keys were tried on it."""
        return len(self._wrong[certificate]) >= _MOST_KEYS


class _Climb(NamedTuple):
    """Paths that end at anchors, nearest first, and the first thing that was wrong on the way to more."""

    ends: list[tuple[tuple[Known, ...], Known]]
    fault: str | None


class Authorities:
    """CA and CRL-signer certificates that are known, and how they hang together. Immutable.

    `anchors` are trusted as they are: neither their signatures nor their validity nor
    their pathLenConstraint are asked for (RFC 5280, section 6.1). Of `others` those
    that chain to an anchor count. `unusable` says of which certificates nothing can be
    known, and why.
    """

    unusable: tuple[str, ...]

    def __init__(
        self,
        anchors: Iterable[x509.Certificate],
        others: Iterable[x509.Certificate] = (),
        *,
        memory: _Memory | None = None,
    ) -> None:
        self._memory = memory or _Memory()
        self._anchors = dict.fromkeys(anchors)
        given = dict.fromkeys(certificate for certificate in others if certificate not in self._anchors)
        self._others = dict.fromkeys(list(given)[:_MOST_CERTIFICATES])
        found = [
            self._memory.read(certificate, anchor=certificate in self._anchors)
            for certificate in (*self._anchors, *self._others)
        ]
        unusable = [text for text in found if isinstance(text, str)]
        if len(given) > len(self._others):
            more = len(given) - len(self._others)
            unusable.append(f"{more} certificates are left out, at most {_MOST_CERTIFICATES} count")
        self.unusable = tuple(unusable)
        known = [each for each in found if not isinstance(each, str)]
        self._known = {each.certificate: each for each in known}
        self._depth: dict[Known, int] = {}
        self._parent: dict[Known, Holder] = {}
        self._chain(known)
        self._named: defaultdict[CanonicalName, list[Known]] = defaultdict(list)
        self._held: defaultdict[Holder, list[Known]] = defaultdict(list)
        for each in sorted(known, key=lambda each: self._depth.get(each, _LONGEST_PATH + 1)):
            self._named[each.name].append(each)
            if each in self._depth:
                self._held[each.holder].append(each)
        self._same = self._entities()

    def with_others(self, more: Iterable[x509.Certificate]) -> Authorities:
        """The same with `more` certificates; no signature is checked a second time."""
        new = [certificate for certificate in dict.fromkeys(more) if certificate not in self._others]
        if all(certificate in self._anchors for certificate in new):
            return self
        return Authorities(self._anchors, [*self._others, *new], memory=self._memory)

    def identities(self) -> frozenset[IssuerId]:
        """All CAs and signers of CRLs that chain to an anchor, or are one."""
        return frozenset().union(*self._same.values())

    def paths(self, certificate: x509.Certificate, now: float) -> tuple[tuple[x509.Certificate, ...], ...]:
        """Every valid path (RFC 5280, section 6.1) from this certificate up to the one below an anchor.

        The shortest come first; an anchor itself has one, which is empty. A certificate
        that is not known has none. `now` is in seconds since 1970.
        """
        known = self._known.get(certificate)
        if known is None:
            return ()
        if known.anchor:
            return ((),)
        return tuple(tuple(each.certificate for each in path) for path, _ in self._climb(known, now).ends)

    def routes(self, signer: IssuerId, now: float) -> Iterator[tuple[tuple[x509.Certificate, IssuerId], ...]]:
        """Every valid path of a signer of lists, each certificate of it with the identity of its issuer.

        An anchor's is empty: no list covers a trust anchor.
        """
        for known in self._held.get(_holder(signer), [])[:_MOST_NAMESAKES]:
            if known.signs_lists and known.anchor:
                yield ()
            elif known.signs_lists:
                for path, anchor in self._climb(known, now).ends:
                    pairs = zip(path, (*path[1:], anchor), strict=True)
                    yield tuple((each.certificate, issuer.identity) for each, issuer in pairs)

    def signers(self, issuer_name: bytes, key_id: bytes | None) -> list[x509.Certificate]:
        """Who may have signed a CRL of this issuer (DER of the Name), the nearest to an anchor first.

        They may sign CRLs, have the key that the list names in its authorityKeyIdentifier
        where both say so, and chain to an anchor: whether by a path that is valid is for
        `paths` to say. At most 64.
        """
        fit = [
            known.certificate
            for known in self._named.get(canonical_name(issuer_name), ())
            if known in self._depth and known.key_fault(key_id) is None and known.signs_lists
        ]
        return fit[:_MOST_NAMESAKES]

    def issuer(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """Who signed a certificate that need not be known, the nearest to an anchor; None if nobody here did.

        Of 64 at most of its issuer's name; whether the issuer has a valid path is for `paths` to say.
        """
        try:
            named = self._named.get(canonical_name(issuer_name_der(certificate)), ())
        except ValueError:
            return None
        fit = (
            known.certificate for known in named[:_MOST_NAMESAKES] if known in self._depth and known.issues
        )
        return next((each for each in fit if certificate_fault(certificate, each) is None), None)

    def faults(self, issuer_name: bytes, key_id: bytes | None, now: float) -> list[str]:
        """What is wrong with those of this name that may not sign such a list: a phrase each, at most 5."""
        faults: list[str] = []
        for known in self._named.get(canonical_name(issuer_name), [])[:_MOST_NAMESAKES]:
            fault = known.key_fault(key_id) or known.list_fault() or self._path_fault(known, now)
            if fault is not None:
                faults.append(fault)
            if len(faults) == _MOST_FAULTS:
                break
        return faults

    def same(self, issuer: IssuerId) -> frozenset[IssuerId]:
        """All identities that are the same CA as this one, in all encodings of its name; empty if unknown.

        The same name is needed, and one of: the same key, a self-issued certificate of one
        over the other, a common issuer. `entities` says whose word counts for that. It is
        never enough to be called the same.
        """
        return self._same.get(_holder(issuer), frozenset())

    def anchored(self, issuer: IssuerId, now: float | None = None) -> frozenset[IssuerId]:
        """The anchors at which paths of this identity end, all identities of each.

        RFC 5280, section 6.3.3, (f): "The trust anchor for the certification path MUST be the
        same as the trust anchor used to validate the target certificate." An anchor that another
        one has issued ends at both. Paths are those that are valid at `now`, or were or will be
        when it is None.
        """
        ends: set[Holder] = set()
        for known in self._held.get(_holder(issuer), [])[:_MOST_NAMESAKES]:
            if known.anchor:
                ends.add(known.holder)
            ends.update(anchor.holder for _, anchor in self._climb(known, now, beyond=True).ends)
        return frozenset().union(*(self._same.get(end, ()) for end in ends))

    def _chain(self, known: list[Known]) -> None:
        """Find who issued whom, from the anchors downward, level by level."""
        waiting: defaultdict[CanonicalName, defaultdict[bytes | None, list[Known]]]
        waiting = defaultdict(lambda: defaultdict(list))
        for each in known:
            waiting[each.issuer][each.authority_key_id].append(each)
        self._depth = {each: 0 for each in known if each.anchor}
        queue = deque(self._depth)
        # A key meets a certificate once, in however many certificates it stands itself.
        met: set[tuple[Holder, bytes | None]] = set()
        while queue:
            issuer = queue.popleft()
            if not issuer.issues or self._depth[issuer] >= _LONGEST_PATH or issuer.name not in waiting:
                continue
            groups = waiting[issuer.name]
            for key_id in list(groups) if issuer.key_id is None else (issuer.key_id, None):
                if key_id not in groups or (issuer.holder, key_id) in met:
                    continue
                met.add((issuer.holder, key_id))
                children = groups.pop(key_id)
                signed = [child for child in children if self._memory.signed(child, issuer)]
                for child in signed:
                    self._parent[child] = issuer.holder
                    if child not in self._depth:
                        self._depth[child] = self._depth[issuer] + 1
                        queue.append(child)
                left = [
                    child
                    for child in children
                    if child not in self._parent and not self._memory.hopeless(child)
                ]
                if left:
                    groups[key_id] = left

    def _issuers(self, child: Known) -> Iterator[Known]:
        """The certificates of the key that signed this one, the nearest to an anchor first."""
        parent = self._parent.get(child)
        if parent is not None:
            yield from (known for known in self._held[parent] if known.issues and known.fits(child))

    def _climb(
        self, start: Known, now: float | None, *, beyond: bool = False, most: int = _MOST_PATHS
    ) -> _Climb:
        """Walk up from `start`, all ways at once, to anchors or, if asked, `beyond` them to further ones."""
        ends: list[tuple[tuple[Known, ...], Known]] = []
        first = start.fault(now)
        queue: deque[tuple[Known, ...]] = deque([(start,)] if first is None else [])
        steps = 0
        while queue:
            path = queue.popleft()
            for issuer in self._issuers(path[-1]):
                steps += 1
                if steps > _MOST_STEPS or len(ends) >= most:
                    return _Climb(ends, first)
                if issuer.anchor and not _passes(path[1:], issuer):
                    ends.append((path, issuer))
                if (issuer.anchor and not beyond) or _passes(path, issuer):
                    continue
                fault = issuer.fault(now) or _length_fault(path, issuer)
                if fault is not None:
                    first = first or fault
                elif len(path) < _LONGEST_PATH:
                    queue.append((*path, issuer))
        return _Climb(ends, first)

    def _path_fault(self, known: Known, now: float) -> str | None:
        if known.anchor:
            return None
        if known not in self._depth:
            return f"{known} does not chain to a trusted CA"
        ends, fault = self._climb(known, now, most=1)
        if ends:
            return None
        own = known.fault(now)
        return own or f"{known} has no valid path to a trusted CA: {fault or 'none was found'}"

    def _entities(self) -> dict[Holder, frozenset[IssuerId]]:
        """For each holder of a key the identities that are the same CA."""
        parents: defaultdict[Holder, set[Holder]] = defaultdict(set)
        identities: defaultdict[Holder, set[IssuerId]] = defaultdict(set)
        anchors: set[Holder] = set()
        for known in self._depth:
            if not known.authority:
                continue
            identities[known.holder].add(known.identity)
            parents[known.holder].update({self._parent[known]} if known in self._parent else ())
            if known.anchor:
                anchors.add(known.holder)
        shared: dict[frozenset[Holder], frozenset[IssuerId]] = {}
        same: dict[Holder, frozenset[IssuerId]] = {}
        for holder, holders in group(parents, anchors).items():
            if holders not in shared:
                shared[holders] = frozenset().union(*(identities[each] for each in holders))
            same[holder] = shared[holders]
        return same


def trusted_by(materials: Sequence[ListenerMaterial]) -> Authorities:
    """Of these listeners: anchors are CAs that issued themselves, and those that nobody else here issued."""
    cas = dict.fromkeys(ca for material in materials for ca in material.client_cas)
    subjects = {ca.subject for ca in cas if ca.subject != ca.issuer}
    roots = [ca for ca in cas if ca.subject == ca.issuer and certificate_fault(ca, ca) is None]
    known = {ca.subject for ca in roots} | subjects
    anchors = [ca for ca in cas if ca in roots or ca.issuer not in known]
    signers = [signer for material in materials for signer in material.crl_signers]
    return Authorities(anchors, [*(ca for ca in cas if ca not in anchors), *signers])


def _holder(issuer: IssuerId) -> Holder:
    return issuer.key, canonical_name(issuer.name)


def _passes(path: tuple[Known, ...], issuer: Known) -> bool:
    """Whether the path has been at this name and key already: it would go round in circles."""
    return any(each.holder == issuer.holder for each in path)


def _length_fault(path: tuple[Known, ...], issuer: Known) -> str | None:
    """RFC 5280, section 4.2.1.9: CAs between the end of the path and `issuer`, without self-issued ones."""
    below = sum(not each.self_issued for each in path[1:])
    if issuer.path_length is None or below <= issuer.path_length:
        return None
    return f"{issuer} allows {issuer.path_length} CAs below it (pathLenConstraint)"


def _named(certificate: x509.Certificate) -> str:
    try:
        return describe(certificate)
    except ValueError:
        return "a certificate"
