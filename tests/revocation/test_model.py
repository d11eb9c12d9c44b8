"""A CA that does what CAs do, in any order: the verdict for every certificate is that of a model of it.

The model knows nothing of tables and covers: a list is a set of serials, a delta is
two more, and a certificate is asked for in the lists that it names.
"""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.names import issuer_id
from gateway.native import VerdictKind, World
from gateway.revocation.authorities import Authorities
from gateway.revocation.crl import verify_crl
from gateway.revocation.table import Tables
from gateway.store import StateStore
from tests.authority import DAY, NOW, Authority, der_extension, der_integer, der_time, extension, tlv

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from gateway.revocation.coverage import Coverage, Listed, Stream
    from gateway.revocation.crl import Succession

ROOT = Authority.root("Root")
FLEET = ROOT.intermediate("Fleet CA")
ROLLED = ROOT.intermediate("Fleet CA")
"""The same CA with another key: lists of either speak for the certificates of both."""
SIGNER = ROOT.intermediate("Signer of lists")
TRUSTED = Authorities([ROOT.cert], [FLEET.cert, ROLLED.cert, SIGNER.cert])

HOLD, KEY_COMPROMISE, SUPERSEDED, REMOVE = 6, 1, 4, 8
SHARDS = ("http://ca.example/0.crl", "http://ca.example/1.crl")


def issue(issuer: Authority, serial: int, point: x509.DistributionPoint | None) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.cert.subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(FLEET.cert.not_valid_before_utc)
        .not_valid_after(FLEET.cert.not_valid_after_utc)
    )
    if point is not None:
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def url_point(url: str) -> x509.DistributionPoint:
    return x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)


BY_SIGNER = x509.DistributionPoint(
    [x509.UniformResourceIdentifier("http://signer.example/all.crl")],
    None,
    None,
    [x509.DirectoryName(SIGNER.cert.subject)],
)


@dataclass(frozen=True)
class Kind:
    """Lists of one scope."""

    name: str
    reasons: frozenset[str]
    only: frozenset[x509.ReasonFlags] | None = None
    url: str | None = None
    indirect: bool = False

    def extension(self) -> bytes:
        if self.url is None and self.only is None and not self.indirect:
            return b""
        point = x509.IssuingDistributionPoint(
            full_name=None if self.url is None else [x509.UniformResourceIdentifier(self.url)],
            relative_name=None,
            only_contains_user_certs=False,
            only_contains_ca_certs=False,
            only_some_reasons=self.only,
            indirect_crl=self.indirect,
            only_contains_attribute_certs=False,
        )
        return extension(point, critical=True)


KEYS, OTHERS = frozenset({"keys"}), frozenset({"others"})
ALL = KEYS | OTHERS
_KEY_FLAG = frozenset({x509.ReasonFlags.key_compromise})
_OTHER_FLAGS = frozenset(x509.ReasonFlags) - {
    *_KEY_FLAG,
    x509.ReasonFlags.unspecified,
    x509.ReasonFlags.remove_from_crl,
}
KINDS = (
    Kind("full", ALL),
    Kind("shard 0", ALL, url=SHARDS[0]),
    Kind("shard 1", ALL, url=SHARDS[1]),
    Kind("key compromise", KEYS, only=_KEY_FLAG),
    Kind("other reasons", OTHERS, only=_OTHER_FLAGS),
    Kind("indirect", ALL, indirect=True),
)


@dataclass(frozen=True)
class Device:
    """A certificate, and the kinds of lists that speak for it."""

    certificate: x509.Certificate
    issuer: Authority
    kinds: frozenset[str]


_ALWAYS = frozenset({"full", "key compromise", "other reasons"})
_POINTS: tuple[tuple[x509.DistributionPoint | None, frozenset[str]], ...] = (
    (None, frozenset()),
    (url_point(SHARDS[0]), frozenset({"shard 0"})),
    (url_point(SHARDS[1]), frozenset({"shard 1"})),
    (BY_SIGNER, frozenset({"indirect"})),
)
DEVICES = {
    serial: Device(issue(issuer, serial, point), issuer, _ALWAYS | more)
    for serial, (issuer, (point, more)) in enumerate(itertools.product((FLEET, ROLLED), _POINTS), start=1)
}


@dataclass
class Published:
    """What of one kind is on the web: the newest complete list, and the newest delta."""

    number: int = 0
    complete: tuple[int, frozenset[int]] | None = None
    delta: tuple[int, int, frozenset[int], frozenset[int]] | None = None

    @property
    def revoked(self) -> frozenset[int]:
        """What the two say together (RFC 5280, section 5.2.4)."""
        if self.complete is None:
            return frozenset()
        number, serials = self.complete
        if self.delta is not None:
            base, later, added, removed = self.delta
            if base <= number < later:
                return (serials - removed) | added
        return serials


@dataclass
class Model:
    """What the CA knows."""

    revoked: dict[int, int] = field(default_factory=dict)
    published: dict[str, Published] = field(
        default_factory=lambda: {kind.name: Published() for kind in KINDS}
    )

    def listed(self, kind: Kind) -> dict[int, int]:
        """What a list of this kind has now, with reasons."""
        return {
            serial: reason
            for serial, reason in self.revoked.items()
            if kind.name in DEVICES[serial].kinds
            and ("keys" if reason == KEY_COMPROMISE else "others") in kind.reasons
        }

    def verdict(self, serial: int) -> VerdictKind:
        speaking = [kind for kind in KINDS if kind.name in DEVICES[serial].kinds]
        if any(serial in self.published[kind.name].revoked for kind in speaking):
            return VerdictKind.REVOKED
        covered = {
            reason
            for kind in speaking
            if self.published[kind.name].complete is not None
            for reason in kind.reasons
        }
        return VerdictKind.GOOD if covered == ALL else VerdictKind.NO_LIST


def entries(serials: dict[int, int], *, indirect: bool) -> bytes:
    """revokedCertificates; of an indirect list the first names the issuer, for all (RFC 5280, 5.3.3)."""
    names = tlv(0x30, tlv(0xA4, FLEET.cert.subject.public_bytes()))
    octets = b""
    for serial, reason in sorted(serials.items()):
        extensions = der_extension("2.5.29.21", tlv(0x0A, bytes([reason])))
        if indirect and not octets:
            extensions += der_extension("2.5.29.29", names, critical=True)
        octets += tlv(0x30, der_integer(serial), der_time(NOW - 60), tlv(0x30, extensions))
    return octets


_SERIALS = st.sampled_from(sorted(DEVICES))
_KINDS = st.sampled_from(KINDS)


class Fleet(RuleBasedStateMachine):
    """The CA acts, the gateway follows."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.world = World()
        self.directory = tempfile.TemporaryDirectory(prefix="model-")
        self.kept: dict[tuple[str, bool], bytes] = {}
        self.begin()

    def begin(self) -> None:
        """A life of control, on what an earlier one has left."""
        store = StateStore(Path(self.directory.name))
        store.prepare()
        self.tables = Tables(store, TRUSTED, self, now=lambda: NOW)

    def published(self, coverages: Sequence[Coverage]) -> None:
        self.world.publish(cover for coverage in coverages for cover in coverage.covers())

    def in_force(self, one: Listed, before: Listed | None, succession: Succession) -> None:
        pass

    def left_out(self, _stream: Stream, reason: str) -> None:
        raise AssertionError(reason)

    @initialize(kind=st.sampled_from(("full", "nothing")))
    def a_fleet_begins_with_a_list_or_without(self, kind: str) -> None:
        if kind == "full":
            self.publish(KINDS[0], rolled=False)

    @rule(serial=_SERIALS, reason=st.sampled_from((KEY_COMPROMISE, SUPERSEDED, HOLD)))
    def revoke(self, serial: int, reason: int) -> None:
        self.model.revoked.setdefault(serial, reason)

    @rule(serial=_SERIALS)
    def release(self, serial: int) -> None:
        if self.model.revoked.get(serial) == HOLD:
            del self.model.revoked[serial]

    @rule(kind=_KINDS, rolled=st.booleans())
    def publish(self, kind: Kind, *, rolled: bool) -> None:
        on_web, serials = self.model.published[kind.name], self.model.listed(kind)
        on_web.number += 1
        on_web.complete = on_web.number, frozenset(serials)
        self.install(kind, entries(serials, indirect=kind.indirect), b"", on_web.number, rolled=rolled)

    @rule(kind=_KINDS, rolled=st.booleans())
    def publish_delta(self, kind: Kind, *, rolled: bool) -> None:
        on_web, serials = self.model.published[kind.name], self.model.listed(kind)
        if on_web.complete is None:
            return
        base, before = on_web.complete
        on_web.number += 1
        added = {serial: reason for serial, reason in serials.items() if serial not in before}
        removed = dict.fromkeys(before - serials.keys(), REMOVE)
        on_web.delta = base, on_web.number, frozenset(added), frozenset(removed)
        indicator = extension(x509.DeltaCRLIndicator(base), critical=True)
        octets = entries(added | removed, indirect=kind.indirect)
        self.install(kind, octets, indicator, on_web.number, rolled=rolled)

    def install(self, kind: Kind, octets: bytes, extensions: bytes, number: int, *, rolled: bool) -> None:
        signer = SIGNER if kind.indirect else ROLLED if rolled else FLEET
        data = signer.crl(
            raw_entries=octets,
            number=number,
            extensions=kind.extension() + extensions,
            # Of two numbers in one second the greater is the later.
            this_update=NOW - 60,
            next_update=NOW + DAY,
        )
        self.kept[kind.name, extensions != b""] = data
        trio.run(self.tables.install, verify_crl(data, TRUSTED, now=NOW))

    @rule(order=st.randoms(use_true_random=False))
    def restart(self, order: random.Random) -> None:
        """Control begins again with what the store has, which comes back in any order."""
        self.begin()
        kept = list(self.kept.values())
        order.shuffle(kept)
        for data in kept:
            trio.run(self.tables.install, verify_crl(data, TRUSTED, now=NOW))

    @invariant()
    def every_verdict_is_the_models(self) -> None:
        for serial, device in DEVICES.items():
            issuer = issuer_id(device.issuer.cert)
            der = device.certificate.public_bytes(Encoding.DER)
            found = self.world.judge(der, issuer.name, issuer.key, now=NOW).kind
            assert found is self.model.verdict(serial), f"serial {serial}, {sorted(device.kinds)}"

    def teardown(self) -> None:
        self.directory.cleanup()


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
