from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import names
from gateway.names import (
    canonical_name,
    fingerprint,
    issuer_id,
    issuer_name_der,
    one_line,
    printable,
    printable_der,
    reason_text,
    serial_hex,
)
from tests.authority import Authority, common_name, tlv

# Odd names and serials are made on purpose here; cryptography warns of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute's length must be"),
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
]


PRINTABLE, UTF8, TELETEX, BMP = 0x13, 0x0C, 0x14, 0x1E


def encoded(*values: tuple[int, bytes]) -> bytes:
    """A Name with one common name a RDN, each of this string type and octets."""
    return tlv(0x30, *(tlv(0x31, tlv(0x30, b"\x06\x03\x55\x04\x03", tlv(*value))) for value in values))


def test_a_name_reads_as_rfc_4514_writes_it() -> None:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Müller, Söhne"),
            x509.NameAttribute(NameOID.COMMON_NAME, "device"),
        ]
    )

    assert printable(name) == r"CN=device,O=Müller\, Söhne,C=DE"


def test_a_name_cannot_forge_a_line_or_move_the_cursor() -> None:
    assert printable(common_name("a\nb\x1b[2J\u202ec")) == r"CN=a\0Ab\1B[2J\E2\80\AEc"


def test_an_empty_name_is_said_to_be_empty() -> None:
    assert printable(x509.Name([])) == "(empty name)"


def test_a_fingerprint_is_the_sha_256_that_openssl_prints() -> None:
    certificate = Authority.root().cert
    assert fingerprint(certificate) == certificate.fingerprint(hashes.SHA256()).hex()


def test_a_name_that_is_no_name_reads_as_its_octets() -> None:
    assert printable_der(b"\x04\x01\xff") == "#0401ff"


def test_a_name_with_a_value_that_cannot_be_read_reads_as_its_octets() -> None:
    bits = encoded((0x03, b"\x00\x05"))

    assert printable_der(bits) == f"#{bits.hex()}"


def test_what_an_exception_says_is_one_bounded_line() -> None:
    shown = one_line(ValueError("a\nb" + "c" * 500))

    assert shown.startswith("a bc")
    assert len(shown) == 200


@given(st.text(min_size=1, max_size=64))
@settings(deadline=None)
def test_any_text_in_a_name_is_one_printable_line(text: str) -> None:
    attribute = x509.NameAttribute(NameOID.COMMON_NAME, text, _validate=False)

    assert printable(x509.Name([attribute])).isprintable()


@given(st.binary(max_size=600))
@settings(deadline=None)
def test_any_bytes_for_a_name_are_one_printable_bounded_line(data: bytes) -> None:
    shown = printable_der(data)

    assert shown.isprintable()
    assert len(shown) <= 515


@pytest.mark.parametrize(
    ("serial", "shown"),
    [
        (0, "00"),
        (1, "01"),
        (0x0ABC, "0ABC"),
        (0xFF, "FF"),
        (1 << 128, "01" + "00" * 16),
        (-1, "-01"),
        (-128, "-80"),
    ],
)
def test_a_serial_reads_as_openssl_prints_it(serial: int, shown: str) -> None:
    assert serial_hex(serial) == shown


@pytest.mark.parametrize(
    ("code", "text"),
    [(-1, "unspecified"), (0, "unspecified"), (1, "keyCompromise"), (6, "certificateHold"), (7, "reason 7")],
)
def test_a_reason_has_its_name_from_rfc_5280(code: int, text: str) -> None:
    assert reason_text(code) == text


def test_an_identity_is_what_stands_in_the_certificate() -> None:
    root = Authority.root("CA")
    sub = root.intermediate("Sub", kind="rsa")
    key = sub.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    assert issuer_id(sub.cert).name == common_name("Sub").public_bytes()
    assert issuer_id(sub.cert).key == key
    assert issuer_name_der(sub.cert) == issuer_id(root.cert).name
    assert str(issuer_id(sub.cert)) == "CN=Sub"


def test_the_same_name_with_another_key_is_another_identity() -> None:
    assert issuer_id(Authority.root("CA").cert) != issuer_id(Authority.root("CA").cert)


class TestOneName:
    @pytest.mark.parametrize(
        "other",
        [
            (UTF8, b"Test CA"),
            (TELETEX, b"Test CA"),
            (BMP, "Test CA".encode("utf-16-be")),
            (PRINTABLE, b"tEST ca"),
            (PRINTABLE, b"  Test   CA "),
            (UTF8, "\uff34est\u00a0CA".encode()),
        ],
    )
    def test_string_type_case_and_white_space_make_no_difference(self, other: tuple[int, bytes]) -> None:
        assert canonical_name(encoded(other)) == canonical_name(encoded((PRINTABLE, b"Test CA")))

    def test_letters_may_be_composed_or_not_and_folded_in_full(self) -> None:
        composed, folded = encoded((UTF8, "Größe".encode())), encoded((UTF8, "GRO\u0308SSE".encode()))

        assert canonical_name(composed) == canonical_name(folded)

    def test_another_word_type_order_or_number_is_another_name(self) -> None:
        a, b = (UTF8, b"a"), (UTF8, b"b")
        organization = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a")]).public_bytes()
        names = [encoded(a), encoded(b), encoded(a, b), encoded(b, a), encoded((UTF8, b"a b")), organization]

        assert len({canonical_name(name) for name in [*names, encoded()]}) == 7

    def test_within_one_rdn_order_makes_no_difference(self) -> None:
        a = x509.NameAttribute(NameOID.COMMON_NAME, "a")
        b = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "b")
        one = x509.Name([x509.RelativeDistinguishedName([a, b])]).public_bytes()
        other = x509.Name([x509.RelativeDistinguishedName([b, a])]).public_bytes()

        assert canonical_name(one) == canonical_name(other)
        assert canonical_name(one) != canonical_name(x509.Name([a, b]).public_bytes())

    def test_bits_compare_as_they_are(self) -> None:
        unique = NameOID.X500_UNIQUE_IDENTIFIER
        names = [
            x509.Name([x509.NameAttribute(unique, bits, x509.name._ASN1Type.BitString)]).public_bytes()
            for bits in (b"\0A", b"\0a")
        ]

        assert canonical_name(names[0]) != canonical_name(names[1])

    def test_what_is_no_name_is_equal_to_itself_alone(self) -> None:
        assert canonical_name(b"") == canonical_name(b"")
        assert len({canonical_name(data) for data in (b"", b"\x30\x00", b"\x30", encoded((3, b"\0x")))}) == 4

    @pytest.mark.parametrize("length", [10, 5000])
    def test_a_name_of_any_length_is_compared(self, length: int) -> None:
        lower, upper = encoded((UTF8, b"a" * length)), encoded((UTF8, b"A" * length))

        assert canonical_name(lower) == canonical_name(upper)

    @given(st.text("aB ßﬁÅé\u0301\t", min_size=1, max_size=20))
    @settings(deadline=None)
    def test_space_around_a_name_makes_no_difference_and_what_is_prepared_stays(self, text: str) -> None:
        plain = canonical_name(encoded((UTF8, text.encode())))
        spaced = canonical_name(encoded((UTF8, f" {text} ".encode())))
        assert plain == spaced

        assert isinstance(plain, tuple)
        ((_, prepared),) = plain[0]
        assert isinstance(prepared, str)
        assert canonical_name(encoded((UTF8, prepared.encode()))) == plain

    @given(st.binary(max_size=200))
    @settings(deadline=None)
    def test_any_bytes_have_a_canonical_form(self, data: bytes) -> None:
        assert hash(canonical_name(data)) == hash(canonical_name(data))


def test_of_a_name_that_is_too_long_no_more_is_looked_at_than_is_shown() -> None:
    endless = iter(lambda: "x", None)
    assert names._bounded(endless) == "x" * 512 + "..."
