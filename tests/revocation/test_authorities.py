"""Who may sign lists, by which paths, and which CAs are one: on real certificates."""

from __future__ import annotations

import datetime as dt
import random
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.names import IssuerId, issuer_id, serial_hex
from gateway.revocation import authorities
from gateway.revocation.authorities import Authorities
from gateway.signature import certificate_fault
from tests.authority import DAY, ED25519, NOW, common_name, sign, tlv

Usage = Literal["both", "certificates", "lists", "none", "unsaid"]


@dataclass(frozen=True)
class Ca:
    """A name with a key, and how its certificates look."""

    name: x509.Name
    key: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    ca: bool | None = True
    usage: Usage = "both"
    path_length: int | None = None
    key_ids: bool = True
    days: tuple[int, int] = (-1, 365)
    extension: x509.ExtensionType | None = None

    def by(self, issuer: Ca | None = None) -> x509.Certificate:
        """A certificate of this CA by `issuer`, or by itself."""
        issuer = issuer or self
        begins, ends = (dt.datetime.fromtimestamp(NOW + days * DAY, dt.UTC) for days in self.days)
        builder = (
            x509.CertificateBuilder(issuer.name, self.name, self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )
        if self.ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(self.ca, self.path_length), critical=True)
        if self.usage != "unsaid":
            builder = builder.add_extension(key_usage(self.usage), critical=True)
        if self.key_ids:
            own = x509.SubjectKeyIdentifier(self.key_id)
            above = x509.AuthorityKeyIdentifier(issuer.key_id, None, None)
            builder = builder.add_extension(own, critical=False).add_extension(above, critical=False)
        if self.extension is not None:
            builder = builder.add_extension(self.extension, critical=True)
        return builder.sign(issuer.key, None)

    @property
    def identity(self) -> IssuerId:
        return issuer_id(self.by())

    @property
    def der(self) -> bytes:
        return self.name.public_bytes()

    @property
    def key_id(self) -> bytes:
        return x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()).digest


def named(name: str, **how: object) -> Ca:
    return Ca(common_name(name), **how)  # type: ignore[arg-type]  # the fields of Ca


def key_usage(kind: Usage) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=kind == "none",
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=kind in ("both", "certificates"),
        crl_sign=kind in ("both", "lists"),
        encipher_only=False,
        decipher_only=False,
    )


def of_version_1(ca: Ca, issuer: Ca | None = None) -> x509.Certificate:
    """A certificate without any extension to say what it is for."""
    issuer = issuer or ca
    model = Ca(ca.name, ca.key, ca=None, usage="unsaid", key_ids=False).by(issuer)
    listed = tlv(0x30, model.tbs_certificate_bytes.partition(b"\xa0\x03\x02\x01\x02")[2])
    signature = tlv(0x03, b"\0", sign(issuer.key, ED25519, listed))
    return x509.load_der_x509_certificate(tlv(0x30, listed, ED25519, signature))


def unreadable(ca: Ca) -> x509.Certificate:
    """A certificate whose basicConstraints hold an OCTET STRING."""
    good = ca.by().public_bytes(Encoding.DER)
    broken = good.replace(b"\x30\x03\x01\x01\xff", b"\x30\x03\x04\x01\xff")
    assert broken != good
    return x509.load_der_x509_certificate(broken)


def with_key_id(ca: Ca, key_id: bytes, issuer: Ca) -> x509.Certificate:
    """A certificate that names its key in a way of its own."""
    plain = Ca(ca.name, ca.key, key_ids=False)
    return Ca(plain.name, plain.key, key_ids=False, extension=x509.SubjectKeyIdentifier(key_id)).by(issuer)


def common(name: str) -> bytes:
    return common_name(name).public_bytes()


def same(known: Authorities, *members: Ca) -> bool:
    """Whether these are one CA, and nobody else is; asserts that they all say so."""
    expected = frozenset(member.identity for member in members)
    answers = {known.same(member.identity) for member in members}
    assert len(answers) == 1 or all(answer < expected for answer in answers)
    return answers == {expected}


ROOT = named("Root")
OTHER = named("Other Root")
ANCHOR, OTHER_ANCHOR = ROOT.by(), OTHER.by()


class TestPaths:
    def test_an_anchor_has_one_that_is_empty_whatever_its_dates(self) -> None:
        old = named("Old", days=(-9, -1)).by()

        assert Authorities([old]).paths(old, NOW) == ((),)

    def test_a_certificate_comes_first_and_the_one_below_the_anchor_last(self) -> None:
        sub, issuing = named("Sub"), named("Issuing")
        middle, low = sub.by(ROOT), issuing.by(sub)
        known = Authorities([ANCHOR], [low, middle])

        assert known.paths(low, NOW) == ((low, middle),)
        assert known.paths(middle, NOW) == ((middle,),)

    def test_a_certificate_that_is_not_known_has_none(self) -> None:
        assert Authorities([ANCHOR]).paths(named("Sub").by(ROOT), NOW) == ()

    def test_a_name_and_key_id_without_the_signature_lead_nowhere(self) -> None:
        sub = named("Sub").by(named("Root"))
        assert Authorities([ANCHOR], [sub]).paths(sub, NOW) == ()
        forged = named("Sub", key_ids=False).by(named("Root", key_ids=False))
        assert Authorities([ANCHOR], [forged]).paths(forged, NOW) == ()

    def test_a_good_signature_under_another_key_id_leads_nowhere(self) -> None:
        sub = named("Sub")
        low, odd = named("Low").by(sub), with_key_id(sub, b"another", ROOT)
        plain = Ca(sub.name, sub.key, key_ids=False).by(ROOT)

        assert Authorities([ANCHOR], [odd, low]).paths(low, NOW) == ()
        assert Authorities([ANCHOR], [odd, plain, low]).paths(low, NOW) == ((low, plain),)

    @pytest.mark.parametrize(("days", "fault"), [((-9, -1), "expired"), ((1, 9), "not yet valid")])
    def test_every_certificate_below_the_anchor_is_within_its_time(
        self, days: tuple[int, int], fault: str
    ) -> None:
        sub = named("Sub", days=days)
        middle, low = sub.by(ROOT), named("Issuing").by(sub)
        known = Authorities([ANCHOR], [middle, low])

        assert known.paths(low, NOW) == known.paths(middle, NOW) == ()
        assert known.paths(middle, NOW + days[0] * DAY + 1) == ((middle,),)
        assert known.faults(sub.der, None, NOW) == [
            f"CN=Sub (serial {serial_hex(middle.serial_number)}) is {fault}"
        ]
        (above,) = known.faults(low.subject.public_bytes(), None, NOW)
        assert above.endswith(f") is {fault}")
        assert "CN=Issuing" in above
        assert "has no valid path to a trusted CA: CN=Sub" in above

    def test_an_expired_anchor_still_ends_one(self) -> None:
        old = named("Old", days=(-9, -1))
        sub = named("Sub").by(old)

        assert Authorities([old.by()], [sub]).paths(sub, NOW) == ((sub,),)

    @pytest.mark.parametrize("how", [{"ca": False}, {"ca": None}, {"usage": "lists"}, {"usage": "none"}])
    def test_an_issuer_is_a_ca_that_may_sign_certificates(self, how: dict[str, object]) -> None:
        sub = named("Sub", **how)
        low = named("Issuing").by(sub)
        known = Authorities([ANCHOR], [sub.by(ROOT), low])

        assert known.paths(low, NOW) == ()
        assert low not in known.signers(low.subject.public_bytes(), None)
        assert known.faults(low.subject.public_bytes(), None, NOW)[0].endswith(
            "does not chain to a trusted CA"
        )

    def test_an_issuer_without_key_usage_may_sign(self) -> None:
        sub = named("Sub", usage="unsaid")
        middle, low = sub.by(ROOT), named("Issuing").by(sub)

        assert Authorities([ANCHOR], [middle, low]).paths(low, NOW) == ((low, middle),)

    def test_a_root_of_version_1_issues_and_signs_lists(self) -> None:
        root = named("Root of old")
        anchor, sub = of_version_1(root), named("Sub").by(root)
        known = Authorities([anchor], [sub])

        assert known.paths(sub, NOW) == ((sub,),)
        assert known.signers(root.der, b"any") == [anchor]

    def test_a_certificate_of_version_1_that_is_no_anchor_is_no_ca(self) -> None:
        sub = named("Sub")
        low = named("Issuing").by(sub)

        assert Authorities([ANCHOR], [of_version_1(sub, ROOT), low]).paths(low, NOW) == ()

    def test_path_length_counts_the_cas_between(self) -> None:
        top, sub, low = named("Top", path_length=1), named("Sub"), named("Low")
        chain = [named("Lowest").by(low), low.by(sub), sub.by(top), top.by(ROOT)]
        known = Authorities([ANCHOR], chain)

        assert known.paths(chain[1], NOW) == (tuple(chain[1:]),)
        assert known.paths(chain[0], NOW) == ()
        assert "allows 1 CAs below it (pathLenConstraint)" in known.faults(common("Lowest"), None, NOW)[0]

    def test_path_length_does_not_count_self_issued_certificates(self) -> None:
        top, sub = named("Top", path_length=1), named("Sub")
        renewed, low = named("Sub"), named("Low")
        chain = [named("Lowest").by(renewed), renewed.by(sub), sub.by(top), top.by(ROOT)]

        assert Authorities([ANCHOR], chain).paths(chain[0], NOW) == (tuple(chain),)
        stranger = [named("Lowest").by(low), low.by(sub), *chain[2:]]
        assert Authorities([ANCHOR], stranger).paths(stranger[0], NOW) == ()

    def test_the_path_length_of_an_anchor_is_not_asked_for(self) -> None:
        root, sub = named("Root", path_length=0), named("Sub")
        chain = (named("Low").by(sub), sub.by(root))

        assert Authorities([root.by()], chain).paths(chain[0], NOW) == (chain,)

    def test_a_critical_extension_that_is_not_known_ends_a_path(self) -> None:
        strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00")
        sub = named("Sub", extension=strange)
        low = named("Low").by(sub)
        known = Authorities([ANCHOR], [sub.by(ROOT), low])

        assert known.paths(low, NOW) == ()
        assert "has a critical extension 1.2.3, which is not known" in known.faults(sub.der, None, NOW)[0]

    def test_critical_constraints_on_names_are_no_obstacle(self) -> None:
        constraints = x509.NameConstraints([x509.DNSName("example")], None)
        sub = named("Sub", extension=constraints).by(ROOT)

        assert Authorities([ANCHOR], [sub]).paths(sub, NOW) == ((sub,),)

    def test_a_cross_certificate_makes_a_second_one(self) -> None:
        sub = named("Sub")
        here, there, low = sub.by(ROOT), sub.by(OTHER), named("Low").by(sub)
        known = Authorities([ANCHOR, OTHER_ANCHOR], [here, there, low])

        assert known.paths(low, NOW) == ((low, here), (low, there))
        assert known.anchored(issuer_id(low)) == {ROOT.identity, OTHER.identity}

    def test_the_nearest_anchor_comes_first_and_a_further_one_too(self) -> None:
        crossed, sub = OTHER.by(ROOT), named("Sub").by(OTHER)
        known = Authorities([ANCHOR, OTHER_ANCHOR], [sub, crossed])

        assert known.paths(sub, NOW) == ((sub,), (sub, crossed))

    def test_a_circle_is_not_walked(self) -> None:
        a, b = named("A"), named("B")
        into, there, back = a.by(ROOT), b.by(a), a.by(b)
        root_again = ROOT.by(a)
        known = Authorities([ANCHOR], [into, there, back, root_again])

        assert known.paths(there, NOW) == ((there, into),)
        assert known.paths(back, NOW) == ()
        assert known.paths(root_again, NOW) == ((root_again, into),)

    def test_one_of_sixteen_certificates_is_a_path_and_one_of_seventeen_is_none(self) -> None:
        cas = [ROOT, *(named(f"CA {level}") for level in range(17))]
        chain = [ca.by(above) for above, ca in pairwise(cas)]
        known = Authorities([ANCHOR], chain)

        assert len(known.paths(chain[15], NOW)[0]) == 16
        assert known.paths(chain[16], NOW) == ()


class TestSigners:
    def test_the_name_and_the_key_id_choose(self) -> None:
        old, new = named("CA"), named("CA")
        known = Authorities([old.by(), ANCHOR], [new.by(old), named("Sub").by(ROOT)])

        assert [issuer_id(each) for each in known.signers(old.der, None)] == [old.identity, new.identity]
        assert [issuer_id(each) for each in known.signers(old.der, new.key_id)] == [new.identity]
        assert known.signers(old.der, b"another") == known.signers(common("Nobody"), None) == []
        assert all("signed with the key 616e" in fault for fault in known.faults(old.der, b"an", NOW))

    def test_the_name_may_be_spelled_in_another_way(self) -> None:
        spelled = tlv(0x30, tlv(0x31, tlv(0x30, b"\x06\x03\x55\x04\x03", tlv(0x13, b" rOOT "))))

        assert Authorities([ANCHOR]).signers(spelled, None) == [ANCHOR]

    @pytest.mark.parametrize(
        ("how", "fault"),
        [
            ({"usage": "both"}, None),
            ({"usage": "lists"}, None),
            ({"usage": "unsaid"}, None),
            ({"usage": "certificates"}, "may not sign CRLs (keyUsage without cRLSign)"),
            ({"ca": False, "usage": "lists"}, None),
            ({"ca": None, "usage": "lists"}, None),
            ({"ca": False, "usage": "unsaid"}, "is not a CA (basicConstraints)"),
            ({"ca": False, "usage": "none"}, "is not a CA (basicConstraints)"),
        ],
    )
    def test_who_may_sign_lists(self, how: dict[str, object], fault: str | None) -> None:
        signer = named("Signer", **how)
        below = signer.by(ROOT)
        known = Authorities([ANCHOR], [below])

        assert known.signers(signer.der, None) == ([] if fault else [below])
        faults = known.faults(signer.der, None, NOW)
        assert [text.partition(") ")[2] for text in faults] == ([fault] if fault else [])
        assert known.paths(below, NOW) == ((below,),)

    def test_an_issuer_of_lists_that_is_no_ca_is_known_and_anchored(self) -> None:
        signer = named("Lists", ca=False, usage="lists")
        known = Authorities([ANCHOR, OTHER_ANCHOR], [signer.by(ROOT)])

        assert known.same(signer.identity) == {signer.identity}
        assert known.anchored(signer.identity) == {ROOT.identity}

    def test_who_chains_to_no_anchor_does_not_count(self) -> None:
        stranger, sub = named("Root"), named("Sub")
        known = Authorities([ANCHOR], [stranger.by(), sub.by(stranger)])

        assert known.signers(ROOT.der, None) == [ANCHOR]
        assert known.signers(sub.der, None) == []
        assert known.identities() == {ROOT.identity}
        assert known.same(stranger.identity) == known.anchored(sub.identity) == frozenset()

    def test_what_is_wrong_is_said_of_a_few(self) -> None:
        known = Authorities([ANCHOR], [named("Sub", usage="certificates").by(ROOT) for _ in range(9)])

        assert len(known.faults(common("Sub"), None, NOW)) == 5


class TestSame:
    def test_a_root_that_changed_its_key(self) -> None:
        old, new = named("CA"), named("CA")
        new_with_old, old_with_new = new.by(old), old.by(new)

        assert same(Authorities([old.by()], [new_with_old]), old, new)
        assert same(Authorities([new.by()], [old_with_new]), old, new)
        assert same(Authorities([old.by(), new.by()], [old_with_new]), old, new)
        assert same(Authorities([old.by(), new.by()], [new_with_old]), old, new)
        assert same(Authorities([old.by()], [new_with_old, old_with_new, new.by()]), old, new)

    def test_a_ca_below_that_changed_its_key(self) -> None:
        old, new = named("Sub"), named("Sub")

        assert same(Authorities([ANCHOR], [old.by(ROOT), new.by(ROOT)]), old, new)

    def test_a_ca_below_one_that_changed_its_key(self) -> None:
        parent, next_parent = named("Sub"), named("Sub")
        old, new = named("Issuing"), named("Issuing")
        others = [parent.by(ROOT), next_parent.by(ROOT), old.by(parent), new.by(next_parent)]

        assert same(Authorities([ANCHOR], others), old, new)

    def test_a_key_for_lists_alone(self) -> None:
        issuing = named("Sub", usage="certificates")
        lists = named("Sub", ca=False, usage="lists")
        known = Authorities([ANCHOR], [issuing.by(ROOT), lists.by(ROOT)])

        assert same(known, issuing, lists)
        assert [issuer_id(each) for each in known.signers(issuing.der, None)] == [lists.identity]

    def test_a_key_for_lists_that_the_ca_certifies_itself(self) -> None:
        issuing = named("Sub")
        lists = named("Sub", ca=False, usage="lists")

        assert same(Authorities([ANCHOR], [issuing.by(ROOT), lists.by(issuing)]), issuing, lists)

    def test_two_roots_of_one_name_are_two(self) -> None:
        one, other = named("CA"), named("CA")
        known = Authorities([one.by(), other.by()])

        assert same(known, one)
        assert same(known, other)

    def test_two_cas_of_one_name_below_different_parents_are_two(self) -> None:
        one, other = named("Sub"), named("Sub")
        known = Authorities([ANCHOR, OTHER_ANCHOR], [one.by(ROOT), other.by(OTHER)])

        assert same(known, one)
        assert same(known, other)
        assert known.anchored(one.identity) == {ROOT.identity}
        assert known.anchored(other.identity) == {OTHER.identity}

    def test_a_cross_certificate_does_not_make_a_ca_two(self) -> None:
        one, other = named("Sub"), named("Sub")
        known = Authorities([ANCHOR, OTHER_ANCHOR], [one.by(ROOT), one.by(OTHER), other.by(OTHER)])

        assert same(known, one, other)

    def test_who_certifies_the_key_of_another_ca_gets_no_say_in_its_lists(self) -> None:
        evil, honest, fake = named("Evil"), named("Sub"), named("Sub")
        attack = [evil.by(ROOT), fake.by(evil), honest.by(evil), honest.by(fake)]
        known = Authorities([ANCHOR], [*attack, honest.by(ROOT)])

        assert same(known, honest)
        assert same(known, fake)

    def test_one_key_under_a_name_in_two_encodings_is_one(self) -> None:
        printable = tlv(0x30, tlv(0x31, tlv(0x30, b"\x06\x03\x55\x04\x03", tlv(0x13, b"SUB"))))
        utf8 = named("Sub")
        other = Ca(x509.Name.from_bytes(printable), utf8.key)
        known = Authorities([ANCHOR], [utf8.by(ROOT), other.by(ROOT)])

        assert other.identity != utf8.identity
        assert same(known, utf8, other)
        third = IssuerId(printable.replace(b"SUB", b"sUb"), utf8.identity.key)
        assert known.same(third) == known.same(utf8.identity)
        assert known.identities() == {ROOT.identity, utf8.identity, other.identity}

    def test_who_is_no_authority_is_nobody(self) -> None:
        device = named("Sub", ca=False, usage="none")
        sub = named("Sub")
        known = Authorities([ANCHOR], [sub.by(ROOT), device.by(ROOT)])

        assert same(known, sub)
        assert known.same(device.identity) == frozenset()


class TestAnchored:
    def test_at_all_keys_of_the_anchor(self) -> None:
        old, new, sub = named("CA"), named("CA"), named("Sub")
        known = Authorities([old.by()], [new.by(old), sub.by(new)])

        assert known.anchored(sub.identity) == {old.identity, new.identity}
        assert known.anchored(old.identity) == {old.identity, new.identity}

    def test_an_anchor_that_another_has_issued_ends_at_both(self) -> None:
        sub, low = named("Sub"), named("Low")
        known = Authorities([ANCHOR, sub.by(ROOT)], [low.by(sub)])

        assert known.anchored(low.identity) == {ROOT.identity, sub.identity}
        assert known.anchored(sub.identity) == {ROOT.identity, sub.identity}

    def test_at_a_time_or_ever(self) -> None:
        sub = named("Sub", days=(-9, -1))
        known = Authorities([ANCHOR], [sub.by(ROOT)])

        assert known.anchored(sub.identity) == known.anchored(sub.identity, NOW - 2 * DAY) == {ROOT.identity}
        assert known.anchored(sub.identity, NOW) == frozenset()


class TestWhatIsKept:
    def test_a_certificate_that_is_given_twice_is_kept_once(self) -> None:
        sub = named("Sub").by(ROOT)
        known = Authorities([ANCHOR, ANCHOR], [sub, ANCHOR, sub])

        assert known.signers(ROOT.der, None) == [ANCHOR]
        assert known.signers(common("Sub"), None) == [sub]

    def test_one_that_cannot_be_read_is_left_out_and_named(self) -> None:
        broken = unreadable(named("Broken"))
        known = Authorities([broken, ANCHOR], [unreadable(named("Too"))])

        assert len(known.unusable) == 2
        assert all(text.isprintable() and "cannot be used" in text for text in known.unusable)
        assert known.unusable[0].startswith("CN=Broken (serial ")
        assert known.identities() == {ROOT.identity}
        assert known.paths(broken, NOW) == ()

    def test_more_certificates_than_fit_are_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(authorities, "_MOST_CERTIFICATES", 2)
        subs = [named(f"Sub {number}") for number in range(3)]
        known = Authorities([ANCHOR], [sub.by(ROOT) for sub in subs])

        assert known.unusable == ("1 certificates are left out, at most 2 count",)
        assert known.identities() == {ca.identity for ca in (ROOT, *subs[:2])}

    def test_a_parent_that_is_learnt_later_makes_its_children_count(self) -> None:
        sub, low = named("Sub"), named("Low")
        bottom = low.by(sub)
        before = Authorities([ANCHOR], [bottom])
        after = before.with_others([sub.by(ROOT)])

        assert before.signers(low.der, None) == []
        assert after.signers(low.der, None) == [bottom]

    def test_nothing_new_is_the_same_object(self) -> None:
        sub = named("Sub").by(ROOT)
        known = Authorities([ANCHOR], [sub])

        assert known.with_others([sub, ANCHOR]) is known

    def test_no_signature_is_checked_twice(self, checks: list[object]) -> None:
        old, new = named("Sub", key_ids=False), named("Sub", key_ids=False)
        known = Authorities([ANCHOR], [old.by(ROOT), new.by(ROOT), named("Low", key_ids=False).by(new)])
        first = len(checks)
        more = named("More").by(ROOT)
        known = known.with_others([more])

        assert len(checks) == first + 1
        assert known.paths(more, NOW) == ((more,),)
        assert len(checks) == first + 1


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every check of a signature, as it is made."""
    made: list[object] = []

    def check(certificate: x509.Certificate, issuer: x509.Certificate) -> str | None:
        made.append((certificate, issuer))
        return certificate_fault(certificate, issuer)

    monkeypatch.setattr(authorities, "certificate_fault", check)
    return made


class TestHostile:
    def test_a_mesh_of_cross_certificates_has_an_end(self) -> None:
        cas = [named(f"CA {number}") for number in range(20)]
        mesh = [ca.by(above) for ca in cas for above in cas if ca is not above]
        entry = cas[0].by(ROOT)
        began = time.monotonic()
        known = Authorities([ANCHOR], [*mesh, entry])
        bottom = cas[-1].by(cas[-2])
        paths = known.with_others([bottom]).paths(bottom, NOW)

        assert 1 <= len(paths) <= 64
        assert all(path[-1] == entry for path in paths)
        assert len(paths[0]) == min(len(path) for path in paths) == 3
        assert time.monotonic() - began < 10

    def test_a_mesh_that_leads_nowhere_has_an_end(self) -> None:
        cas = [named(f"CA {number}", days=(-1, 9)) for number in range(20)]
        mesh = [ca.by(above) for ca in cas for above in cas if ca is not above]
        entry = Ca(cas[0].name, cas[0].key, days=(-9, -1)).by(ROOT)
        known = Authorities([ANCHOR], [*mesh, entry])
        began = time.monotonic()

        assert all(known.paths(certificate, NOW) == () for certificate in mesh[:20])
        assert "no valid path" in known.faults(cas[5].der, None, NOW)[0]
        assert time.monotonic() - began < 10

    def test_keys_of_one_name_are_tried_a_bounded_number_of_times(self, checks: list[object]) -> None:
        crowd = [named("Sub", key_ids=False) for _ in range(60)]
        lost = [named(f"Low {number}", key_ids=False).by(named("Sub")) for number in range(60)]
        Authorities([ANCHOR], [*(ca.by(ROOT) for ca in crowd), *lost])

        assert len(checks) <= 1 + 60 + 60 * 16

    def test_a_key_in_many_certificates_is_tried_once(self, checks: list[object]) -> None:
        sub = named("Sub")
        lost = named("Low", key_ids=False).by(named("Sub"))
        known = Authorities([ANCHOR], [*(sub.by(ROOT) for _ in range(30)), lost])

        assert len(checks) == 1 + 30 + 1
        assert len(known.signers(sub.der, None)) == 30

    def test_a_second_key_that_verifies_a_signature_gets_no_child(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(authorities, "certificate_fault", lambda *_: None)
        honest, fake = named("Sub", key_ids=False), named("Sub", key_ids=False)
        low = named("Low", key_ids=False).by(honest)
        known = Authorities([ANCHOR], [above := honest.by(ROOT), low])

        assert known.with_others([fake.by(ROOT)]).paths(low, NOW) == ((low, above),)


KEYS = [ed25519.Ed25519PrivateKey.generate() for _ in range(4)]
SEVERAL = [Ca(common_name(name), key) for name in ("A", "B") for key in KEYS[:3]]
CERTIFICATES = [ca.by(above) for ca in SEVERAL for above in SEVERAL]


@given(
    st.sets(st.sampled_from(CERTIFICATES), max_size=12), st.sets(st.sampled_from(CERTIFICATES), max_size=3)
)
@settings(deadline=None)
def test_on_any_certificates_the_answers_fit_each_other(
    others: set[x509.Certificate], anchors: set[x509.Certificate]
) -> None:
    known = Authorities(anchors, others)
    identities = known.identities()

    for identity in identities:
        assert identity in known.same(identity) <= identities
        assert all(known.same(member) == known.same(identity) for member in known.same(identity))
        assert known.anchored(identity) <= identities
    assert {issuer_id(anchor) for anchor in anchors} <= identities
    for certificate in others - anchors:
        for path in known.paths(certificate, NOW):
            check_path(path, certificate, anchors)
        assert bool(known.paths(certificate, NOW)) <= (issuer_id(certificate) in identities)
    half = random.Random(1).sample(sorted(others, key=hash), len(others) // 2)
    assert Authorities(anchors, half).with_others(others).identities() == identities


def check_path(
    path: tuple[x509.Certificate, ...], first: x509.Certificate, anchors: set[x509.Certificate]
) -> None:
    """Each is signed by the next, the last by an anchor, none twice."""
    assert path[0] == first
    assert len({issuer_id(certificate) for certificate in path}) == len(path)
    assert not set(path) & anchors
    for certificate, issuer in pairwise(path):
        assert certificate_fault(certificate, issuer) is None
    assert any(certificate_fault(path[-1], anchor) is None for anchor in anchors)
