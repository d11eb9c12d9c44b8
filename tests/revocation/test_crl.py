"""What `verify_crl` accepts, and each way in which a list can be wrong."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import CrlError
from gateway.names import issuer_id
from gateway.native import ALL_REASONS, Subjects, name_digest
from gateway.revocation.authorities import Authorities
from gateway.revocation.crl import (
    CLOCK_SKEW,
    Succession,
    VerifiedCrl,
    check_succession,
    decode,
    parse_untrusted,
    split,
    verify_crl,
)
from gateway.revocation.scope import Scope
from tests.authority import (
    DAY,
    ECDSA_SHA1,
    HOUR,
    NOW,
    RSA_MD5,
    RSA_PSS_SHA256,
    RSA_SHA1,
    RSA_SHA256,
    Authority,
    KeyKind,
    Revoked,
    common_name,
    der_extension,
    extension,
    sign,
    tlv,
    to_pem,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

# Odd names and serials are made on purpose here; cryptography warns of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute's length must be"),
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
]

CA = Authority.root("Test CA")
OTHER = Authority.root("Other CA")
GOOD = CA.crl([Revoked(5), Revoked(1 << 100, reason=1), Revoked(-3)], number=7)


def verify(data: bytes, *issuers: Authority, now: int = NOW) -> VerifiedCrl:
    return verify_crl(data, Authorities([issuer.cert for issuer in issuers or (CA,)]), now=now)


def refusal(data: bytes, *issuers: Authority, now: int = NOW) -> str:
    with pytest.raises(CrlError) as caught:
        verify(data, *issuers, now=now)
    text = str(caught.value)
    assert text.isprintable()
    return text


def idp(**given_limits: bool) -> bytes:
    limits = dict.fromkeys(
        (
            "only_contains_user_certs",
            "only_contains_ca_certs",
            "indirect_crl",
            "only_contains_attribute_certs",
        ),
        False,
    )
    return extension(
        x509.IssuingDistributionPoint(
            full_name=[x509.UniformResourceIdentifier("http://ca.example/1.crl")],
            relative_name=None,
            only_some_reasons=None,
            **limits | given_limits,
        ),
        critical=True,
    )


def test_a_good_list_is_what_its_issuer_said() -> None:
    crl = verify(CA.crl([Revoked(5)], number=7, this_update=NOW - 10, next_update=NOW + HOUR))

    assert crl.issuer == issuer_id(CA.cert)
    assert (crl.number, crl.this_update, crl.next_update) == (7, NOW - 10, NOW + HOUR)
    assert crl.revoked.end > crl.revoked.content_at
    assert not crl.expired(NOW + HOUR)
    assert crl.expired(NOW + HOUR + 1)


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519", "ed448"])
def test_every_kind_of_key_may_sign(kind: KeyKind) -> None:
    issuer = Authority.root("Test CA", kind=kind)

    assert verify(issuer.crl([Revoked(5)]), OTHER, issuer).issuer == issuer_id(issuer.cert)


def test_rsa_pss_is_a_good_signature() -> None:
    issuer = Authority.root("Test CA", kind="rsa")

    assert verify(issuer.crl([Revoked(5)], algorithm=RSA_PSS_SHA256), issuer).number == 1


def test_an_empty_list_and_one_of_version_1_are_lists() -> None:
    empty = verify(CA.crl()).revoked
    assert empty.end == empty.content_at
    assert verify(CA.crl([Revoked(5)], version=b"", number=None, authority_key_id=False)).number is None


def test_a_list_without_next_update_never_expires() -> None:
    crl = verify(CA.crl(next_update=None))

    assert crl.next_update == 0
    assert not crl.expired(NOW + 1000 * DAY)


def test_an_expired_list_is_accepted_and_says_that_it_has() -> None:
    crl = verify(CA.crl(this_update=NOW - 2 * DAY, next_update=NOW - DAY))

    assert crl.expired(NOW)


def test_dates_from_2050_on_are_read() -> None:
    assert verify(CA.crl(next_update=2_600_000_000)).next_update == 2_600_000_000


class TestDecoding:
    def test_pem_and_der_are_the_same_list(self) -> None:
        assert verify(to_pem(GOOD)).der == GOOD
        assert verify(GOOD).der == GOOD

    @pytest.mark.parametrize(
        "before", [b"", b"Certificate Revocation List (CRL):\n    Version 2\n", b"0 is first\n"]
    )
    def test_text_around_the_pem_does_not_matter(self, before: bytes) -> None:
        assert decode(before + to_pem(GOOD) + b"\nthat was all\n") == GOOD
        assert decode(before + to_pem(GOOD).replace(b"\n", b"\r\n")) == GOOD

    def test_two_lists_in_one_file_are_refused(self) -> None:
        assert "holds 2" in refusal(to_pem(GOOD) + to_pem(CA.crl()))

    def test_a_pem_that_is_cut_off_is_refused(self) -> None:
        assert "without its END line" in refusal(to_pem(GOOD)[:-30])

    def test_broken_base64_is_refused(self) -> None:
        assert "base64" in refusal(b"-----BEGIN X509 CRL-----\nMII\n-----END X509 CRL-----\n")

    def test_a_web_page_is_shown_for_what_it_is(self) -> None:
        assert "it begins with '<html>" in refusal(b"<html><body>404</body></html>")
        assert "it is empty" in refusal(b"")

    def test_a_certificate_is_not_a_list(self) -> None:
        assert refusal(CA.der).startswith("not a CRL")
        assert 'PEM "X509 CRL"' in refusal(CA.pem)


class TestSigner:
    def test_no_ca_of_that_name(self) -> None:
        assert refusal(GOOD, OTHER) == (
            "CRL of CN=Test CA: no CA of that name is trusted here, expected one of CN=Other CA"
        )

    def test_a_ca_of_the_same_name_is_not_the_signer(self) -> None:
        impostor = Authority.root("Test CA")

        assert "signed with the key" in refusal(impostor.crl())
        assert "signature does not verify with the key of CN=Test CA (serial" in refusal(
            impostor.crl(authority_key_id=False)
        )

    def test_the_signature_decides_among_cas_of_one_name(self) -> None:
        twin = Authority.root("Test CA")

        assert verify(CA.crl(authority_key_id=False), twin, CA).issuer == issuer_id(CA.cert)
        assert verify(twin.crl(authority_key_id=False), twin, CA).issuer == issuer_id(twin.cert)

    def test_the_dates_of_a_trust_anchor_are_not_asked_for(self) -> None:
        """RFC 5280, section 6.1. OpenSSL refuses the clients below an expired one."""
        expired = Authority.root("Test CA", key=CA.key, not_before=NOW - 9 * DAY, not_after=NOW - DAY)

        assert verify(GOOD, expired, CA).issuer == issuer_id(CA.cert)
        assert verify(GOOD, expired).issuer == issuer_id(CA.cert)

    def test_the_same_name_in_another_string_type_is_the_same_name(self) -> None:
        printable_string = tlv(0x30, tlv(0x31, tlv(0x30, b"\x06\x03\x55\x04\x03", tlv(0x13, b"Test CA"))))
        assert printable_string != CA.cert.subject.public_bytes()

        crl = verify(CA.crl(issuer=printable_string))

        assert crl.issuer == issuer_id(CA.cert)

    def test_a_certificate_that_is_no_ca(self) -> None:
        issuer = Authority.root("Test CA", ca=False, key_usage=False)

        assert "is not a CA" in refusal(issuer.crl(), issuer)

    def test_a_ca_that_may_not_sign_lists(self) -> None:
        issuer = Authority.root("Test CA", crl_sign=False)

        assert "keyUsage without cRLSign" in refusal(issuer.crl(), issuer)

    def test_a_ca_without_key_usage_may_sign_lists(self) -> None:
        issuer = Authority.root("Test CA", key_usage=False)

        assert verify(issuer.crl(), issuer).number == 1

    def test_a_name_with_control_characters_does_not_break_the_line(self) -> None:
        assert r"CN=x\0Ay" in refusal(CA.crl(issuer=common_name("x\ny").public_bytes()))


class TestSignature:
    def test_weak_hashes_are_refused(self) -> None:
        issuer = Authority.root("Test CA", kind="rsa")

        assert "signature uses sha1" in refusal(issuer.crl(algorithm=RSA_SHA1), issuer)
        assert "signature uses md5" in refusal(issuer.crl(algorithm=RSA_MD5), issuer)
        assert "signature uses sha1" in refusal(CA.crl(algorithm=ECDSA_SHA1))

    def test_an_algorithm_that_does_not_fit_the_key_is_refused(self) -> None:
        assert "does not fit the key" in refusal(CA.crl(algorithm=RSA_SHA256))

    def test_an_algorithm_that_nobody_knows_is_refused(self) -> None:
        assert "is not supported" in refusal(CA.crl(algorithm=bytes.fromhex("300506032a0304")))

    def test_the_algorithm_has_to_be_the_one_that_is_signed(self) -> None:
        assert "signatureAlgorithm differs" in refusal(CA.crl(inner_algorithm=RSA_SHA256))

    def test_a_signature_of_another_list_is_refused(self) -> None:
        crl = parse_untrusted(GOOD)
        forged = GOOD[: crl.parts.signature.content_at] + sign(CA.key, b"", b"something else")
        at = crl.parts.signature.content_at - 2
        forged = forged[:at] + bytes([len(forged) - at - 1]) + forged[at + 1 :]

        with pytest.raises(CrlError):
            verify(forged)

    def test_a_list_that_is_cut_off_or_goes_on_is_refused(self) -> None:
        assert refusal(GOOD[:-1]).startswith("not a CRL")
        assert refusal(GOOD + b"\0").startswith("not a CRL")


ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")
ENTRY = tlv(0x30, tlv(0x02, b"\x05"), tlv(0x17, b"260101000000Z"))
# What may be left out of a tbsCertList, and where it would be.
OPTIONAL = (0, 4, 5, 6)


def fields(without: Collection[int] = ()) -> list[bytes]:
    """Those of a tbsCertList, some of them empty."""
    whole = [
        b"\x02\x01\x01",
        ALGORITHM,
        b"\x30\x00",
        tlv(0x17, b"260101000000Z"),
        tlv(0x17, b"270101000000Z"),
        tlv(0x30, ENTRY),
        tlv(0xA0, b"\x30\x00"),
    ]
    return [b"" if place in without else field for place, field in enumerate(whole)]


def unsigned(listed: list[bytes], algorithm: bytes = ALGORITHM, signature: bytes = b"\0signature") -> bytes:
    return tlv(0x30, tlv(0x30, *listed), algorithm, tlv(0x03, signature))


def not_split(der: bytes) -> str:
    with pytest.raises(CrlError, match=r"not a CRL in DER: byte [0-9]+: ") as caught:
        split(der)
    return str(caught.value)


class TestSplitting:
    @pytest.mark.parametrize("left_out", range(16))
    def test_parts_are_what_they_are_called(self, left_out: int) -> None:
        without = [place for bit, place in enumerate(OPTIONAL) if left_out >> bit & 1]
        listed = fields(without)
        der = unsigned(listed)
        parts = split(der)

        assert der[parts.listed.whole] == tlv(0x30, *listed)
        assert der[parts.issuer.whole] == listed[2]
        assert der[parts.algorithm.whole] == ALGORITHM
        assert der[parts.signature.content] == b"signature"
        assert der[parts.revoked.whole] == listed[5]
        assert der[parts.revoked.content] == (b"" if 5 in without else ENTRY)
        assert der[parts.listed.content_at : parts.revoked.at] == b"".join(listed[:5])
        assert der[parts.revoked.end : parts.listed.end] == listed[6]

    def test_revoked_certificates_may_be_empty(self) -> None:
        listed = fields()
        listed[5] = b"\x30\x00"
        parts = split(unsigned(listed))

        assert parts.revoked.end - parts.revoked.at == 2
        assert parts.revoked.content_at == parts.revoked.end

    def test_every_truncation_and_every_trailing_byte_is_refused(self) -> None:
        der = unsigned(fields())
        for length in range(len(der)):
            not_split(der[:length])
        assert f"byte {len(der)}: 1 bytes too many in" in not_split(der + b"\0")

    # A time that stands alone is thisUpdate.
    @pytest.mark.parametrize("without", [[1], [2], [3, 4]])
    def test_what_has_to_be_there_is_missed(self, without: list[int]) -> None:
        assert "expected, but the tag is" in not_split(unsigned(fields(without)))

    @pytest.mark.parametrize("place", range(7))
    def test_nothing_stands_twice(self, place: int) -> None:
        listed = fields()
        # A time that stands twice is nextUpdate.
        listed[place] *= 2 if place != 3 else 3
        not_split(unsigned(listed))

    def test_a_list_that_is_not_by_the_book_is_refused(self) -> None:
        listed = fields()
        assert "v2" in not_split(unsigned([b"\x02\x01\x00", *listed[1:]]))
        assert "v2" in not_split(unsigned([b"\x02\x00", *listed[1:]]))
        assert "v2" in not_split(unsigned([b"\x02\x02\x00\x01", *listed[1:]]))
        assert "signatureAlgorithm differs" in not_split(unsigned(listed, ALGORITHM[:-1] + b"\x03"))
        assert "too many in tbsCertList" in not_split(unsigned([*listed[:6], b"\xa1" + listed[6][1:]]))
        for signature in (b"", b"\0", b"\1signature"):
            assert "whole octets" in not_split(unsigned(listed, signature=signature))

    def test_either_kind_of_time_may_stand_there(self) -> None:
        listed = fields()
        listed[3] = tlv(0x18, b"20260101000000Z")
        split(unsigned(listed))

    @pytest.mark.parametrize(
        "head", ["30800000", "3081020500", "308200020500", "30850000000002", "30ff", "3f020500", "30", ""]
    )
    def test_lengths_that_are_not_der_are_refused(self, head: str) -> None:
        assert "not a CRL in DER: byte 0: " in not_split(bytes.fromhex(head))

    @given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda inside: tlv(0x30, inside)))
    def test_any_bytes_are_a_list_or_a_crl_error(self, data: bytes) -> None:
        not_split(data)

    @given(st.data())
    def test_whatever_is_changed_is_a_list_or_a_crl_error(self, data: st.DataObject) -> None:
        der = bytearray(unsigned(fields()))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(der) - 1))
            der[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        try:
            parts = split(bytes(der))
        except CrlError as exc:
            assert str(exc).startswith("not a CRL in DER: byte ")  # noqa: PT017 - either outcome is good
        else:
            assert parts.signature.end == len(der)


class TestScope:
    def test_a_list_without_limits_speaks_for_all(self) -> None:
        assert verify(GOOD).scope == Scope()

    def test_a_delta_says_what_it_changes(self) -> None:
        delta = CA.crl(number=4, extensions=extension(x509.DeltaCRLIndicator(3), critical=True))
        assert (verify(delta).base, verify(delta).number) == (3, 4)
        assert verify(GOOD).base is None

    @pytest.mark.parametrize("number", [None, 3])
    def test_a_delta_is_later_than_its_base(self, number: int | None) -> None:
        delta = CA.crl(number=number, extensions=extension(x509.DeltaCRLIndicator(3), critical=True))
        assert "needs a greater CRL number" in refusal(delta)

    def test_the_name_of_a_point_limits_a_list_to_it(self) -> None:
        scope = verify(CA.crl(extensions=idp())).scope
        assert scope.points == {name_digest(0x86, b"http://ca.example/1.crl")}
        assert (scope.reasons, scope.subjects, scope.indirect) == (ALL_REASONS, Subjects.ALL, False)

    @pytest.mark.parametrize(
        ("limits", "subjects", "indirect"),
        [
            ({"only_contains_user_certs": True}, Subjects.USERS, False),
            ({"only_contains_ca_certs": True}, Subjects.CAS, False),
            ({"indirect_crl": True}, Subjects.ALL, True),
        ],
    )
    def test_a_list_may_be_of_some_certificates_or_of_others(
        self, limits: dict[str, bool], subjects: Subjects, *, indirect: bool
    ) -> None:
        scope = verify(CA.crl(extensions=idp(**limits))).scope
        assert (scope.subjects, scope.indirect) == (subjects, indirect)

    def test_a_list_of_attribute_certificates_is_of_no_use(self) -> None:
        assert "attribute certificates alone" in refusal(
            CA.crl(extensions=idp(only_contains_attribute_certs=True))
        )

    def test_a_critical_extension_that_is_not_known_makes_the_list_useless(self) -> None:
        assert "critical extension 1.2.3.4 is not known" in refusal(
            CA.crl(extensions=der_extension("1.2.3.4", b"\x05\x00", critical=True))
        )

    def test_an_extension_that_is_not_critical_may_be_anything(self) -> None:
        assert verify(CA.crl(extensions=der_extension("1.2.3.4", b"\x05\x00"))).number == 1

    def test_where_a_delta_would_be_may_be_said(self) -> None:
        point = x509.DistributionPoint(
            [x509.UniformResourceIdentifier("http://ca.example/delta")], None, None, None
        )

        assert verify(CA.crl(extensions=extension(x509.FreshestCRL([point])))).number == 1

    def test_an_extension_that_stands_twice_is_refused(self) -> None:
        assert "extensions" in refusal(CA.crl(extensions=extension(x509.CRLNumber(9))))

    def test_a_broken_extension_is_refused(self) -> None:
        assert refusal(CA.crl(number=None, extensions=der_extension("2.5.29.20", b"\x02")))

    def test_a_number_that_is_none_is_refused(self) -> None:
        assert refusal(CA.crl(number=1 << 160)) == "CRL number has more than 20 octets"
        assert "not a CRL as RFC 5280 has it" in refusal(CA.crl(number=-1))

    def test_the_largest_number_is_a_number(self) -> None:
        assert verify(CA.crl(number=(1 << 160) - 1)).number == (1 << 160) - 1

    def test_extensions_without_end_are_refused(self) -> None:
        assert "at most" in refusal(CA.crl(extensions=der_extension("1.2.3.4", bytes(1 << 20))))


class TestTime:
    def test_a_list_from_the_future_is_refused(self) -> None:
        data = CA.crl(this_update=NOW + CLOCK_SKEW + 1, next_update=NOW + DAY)

        assert "301 s in the future" in refusal(data)
        assert verify(data, now=NOW + 1).this_update == NOW + CLOCK_SKEW + 1


class TestSuccession:
    def test_the_same_list_again_is_the_same(self) -> None:
        assert check_succession(verify(GOOD), verify(to_pem(GOOD)), now=NOW) is Succession.SAME

    def test_a_higher_number_is_newer(self) -> None:
        assert check_succession(verify(CA.crl(number=8)), verify(GOOD), now=NOW) is Succession.NEWER

    def test_other_content_in_the_same_second_is_newer(self) -> None:
        new, current = CA.crl([Revoked(1)], number=None), CA.crl(number=None)

        assert check_succession(verify(new), verify(current), now=NOW) is Succession.NEWER

    def test_a_list_may_begin_to_have_a_number(self) -> None:
        assert check_succession(verify(GOOD), verify(CA.crl(number=None)), now=NOW) is Succession.NEWER

    @pytest.mark.parametrize(
        ("new", "fault"),
        [
            (CA.crl(number=6), "CRL number 6 is below 7"),
            (CA.crl(number=6, this_update=NOW), "CRL number 6 is below 7"),
            (CA.crl(number=None, this_update=NOW), "has no CRL number"),
            (CA.crl(number=7, this_update=NOW - 61), "thisUpdate is 1 s before"),
            (CA.crl(number=8, this_update=NOW - 61), "thisUpdate is 1 s before"),
        ],
    )
    def test_an_older_list_is_refused(self, new: bytes, fault: str) -> None:
        with pytest.raises(CrlError, match=fault):
            check_succession(verify(new), verify(GOOD), now=NOW)


def test_a_list_of_openssl_is_accepted(tmp_path: Path) -> None:
    cert, key = CA.write(tmp_path, "ca")
    (tmp_path / "index.txt").write_text(
        "R\t360101000000Z\t260101000000Z,keyCompromise\t1234\tunknown\t/CN=gone\n"
    )
    (tmp_path / "crlnumber").write_text("1000\n")
    config = tmp_path / "ca.conf"
    config.write_text(
        f"[ca]\ndefault_ca=this\n[this]\ndatabase={tmp_path}/index.txt\ncrlnumber={tmp_path}/crlnumber\n"
        "default_md=sha256\ndefault_crl_days=1\ncrl_extensions=ext\n[ext]\nauthorityKeyIdentifier=keyid\n"
    )
    made = subprocess.run(
        ["openssl", "ca", "-config", config, "-gencrl", "-cert", cert, "-keyfile", key],
        capture_output=True,
        check=True,
    )

    crl = verify(made.stdout, now=NOW + 60)

    assert crl.number == 0x1000
    assert crl.revoked.end > crl.revoked.content_at


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_any_bytes_are_a_list_or_a_crl_error(data: bytes) -> None:
    with pytest.raises(CrlError):
        verify(data)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_in_armour_are_a_list_or_a_crl_error(data: bytes) -> None:
    with pytest.raises(CrlError):
        verify(to_pem(b"\x30" + data))


@given(st.integers(0, len(GOOD) * 8 - 1))
@settings(max_examples=300, deadline=None)
def test_no_flipped_bit_goes_unnoticed(bit: int) -> None:
    flipped = bytearray(GOOD)
    flipped[bit // 8] ^= 1 << bit % 8

    with pytest.raises(CrlError):
        verify(bytes(flipped))


@given(st.integers(0, len(GOOD)), st.integers(0, 8), st.binary(max_size=8))
@settings(deadline=None)
def test_no_other_bytes_are_taken_for_the_list(at: int, cut: int, put: bytes) -> None:
    changed = GOOD[:at] + put + GOOD[at + cut :]

    if changed != GOOD:
        with pytest.raises(CrlError):
            verify(changed)


@given(
    name=st.binary(max_size=40),
    extensions=st.lists(
        st.tuples(st.sampled_from(["2.5.29.20", "2.5.29.35", "2.5.29.28", "2.5.29.27"]), st.binary())
    ),
)
@settings(deadline=None)
def test_nothing_that_a_trusted_ca_signs_escapes_as_another_error(
    name: bytes, extensions: list[tuple[str, bytes]]
) -> None:
    value = tlv(0x31, tlv(0x30, tlv(0x06, b"\x55\x04\x03"), name))
    data = CA.crl(
        number=None,
        authority_key_id=False,
        extensions=b"".join(der_extension(oid, content) for oid, content in extensions),
        issuer=tlv(0x30, value) if name else None,
    )

    try:
        verify(data)
    except CrlError as exc:
        assert str(exc).isprintable()  # noqa: PT017 - either outcome is good


def test_the_issuer_of_odd_attributes_is_named() -> None:
    issuer = Authority.root(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ä"), *common_name("b")]))

    assert "CN=b,CN=ä" in refusal(issuer.crl())
