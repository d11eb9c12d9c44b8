from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.names import issuer_id, issuer_name_der, printable, printable_der, reason_text, serial_hex
from tests.authority import Authority, common_name

# Odd names and serials are made on purpose here; cryptography warns of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute's length must be"),
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
]


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


def test_a_name_that_is_no_name_reads_as_its_octets() -> None:
    assert printable_der(b"\x04\x01\xff") == "#0401ff"


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
