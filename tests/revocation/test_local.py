"""What is revoked by hand is what a CRL would say, and comes back from its file."""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from gateway import der
from gateway.errors import CrlError
from gateway.native import Table, compile_table
from gateway.native.table import TableMeta
from gateway.revocation.local import REASONS, LocalRevocation, add, checked, decode, encode, entries, remove

if TYPE_CHECKING:
    from pathlib import Path

ISSUERS = [
    x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]).public_bytes() for text in ("One", "Two")
]
_REVOCATIONS = st.builds(
    LocalRevocation,
    issuer=st.sampled_from(ISSUERS),
    serial=st.integers(1, 2**159 - 1),
    reason=st.sampled_from(list(REASONS)),
    revoked_at=st.integers(1_000_000_000, 4_000_000_000),
    by=st.text(max_size=5),
    note=st.text(max_size=5),
)
_MANY = st.lists(_REVOCATIONS, max_size=5, unique_by=lambda each: (each.issuer, each.serial)).map(tuple)
# ecdsa-with-SHA256, as AlgorithmIdentifier.
_ALGORITHM = bytes.fromhex("300a06082a8648ce3d040302")


def one(serial: int = 5, issuer: bytes = ISSUERS[0], reason: str = "unspecified") -> LocalRevocation:
    return LocalRevocation(issuer, serial, reason, 1_700_000_000, "root (uid 0)")


def spelt(text: str) -> bytes:
    """A Name in PrintableString rather than UTF8String."""
    value = der.encode(0x13, text.encode())
    attribute = der.encode(der.SEQUENCE, bytes.fromhex("0603550403"), value)
    return der.encode(der.SEQUENCE, der.encode(0x31, attribute))


def wrapped(name: bytes, content: bytes) -> x509.CertificateRevocationList:
    """A CRL around the entries, with a signature that nobody verifies."""
    now = der.encode(der.UTC_TIME, b"260101000000Z")
    listed = der.encode(
        der.SEQUENCE, b"\x02\x01\x01", _ALGORITHM, name, now, now, der.encode(der.SEQUENCE, content)
    )
    return x509.load_der_x509_crl(
        der.encode(der.SEQUENCE, listed, _ALGORITHM, der.encode(der.BIT_STRING, b"\0\0"))
    )


@given(_MANY)
def test_entries_are_what_a_crl_would_say(revocations: tuple[LocalRevocation, ...]) -> None:
    found = []
    for name, content in entries(revocations).items():
        for entry in wrapped(name, content):
            reasons = [str(each.value.reason.value) for each in entry.extensions]
            when = int(entry.revocation_date_utc.replace(tzinfo=dt.UTC).timestamp())
            found.append((name, entry.serial_number, when, *(reasons or ["unspecified"])))
    expected = [(each.issuer, each.serial, each.revoked_at, each.reason) for each in revocations]
    assert sorted(found) == sorted(expected)


@given(st.integers(-(2**64), 2**64))
def test_a_serial_of_any_sign_is_der(serial: int) -> None:
    [content] = entries((one(serial),)).values()
    inner = der.read(content)
    [number] = der.children(content, inner, 1)
    octets = content[number.content]
    assert int.from_bytes(octets, signed=True) == serial
    # The first nine bits are not all alike (X.690, section 8.3.2).
    assert len(octets) == 1 or int.from_bytes(octets[:2]) >> 7 not in (0, 0x1FF)


def test_a_table_takes_the_entries(tmp_path: Path) -> None:
    [content] = entries((one(5), one(300, reason="keyCompromise"))).values()
    descriptor = os.open(tmp_path / "table", os.O_RDWR | os.O_CREAT)
    try:
        whole = der.Element(0, 0, len(content))
        assert compile_table(content, whole, TableMeta(b"", b"", b"", None, 0, 0), descriptor) == 2
        assert len(Table(descriptor)) == 2
    finally:
        os.close(descriptor)


@given(_MANY)
def test_what_was_encoded_comes_back(revocations: tuple[LocalRevocation, ...]) -> None:
    assert decode(encode(revocations)) == revocations


@given(st.binary(max_size=40))
def test_nonsense_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(CrlError, match=r"\A[^\n]*none of them is in force\Z"):
        decode(b"{" + data)


def test_revoking_again_replaces_and_does_not_double() -> None:
    again = one(reason="keyCompromise")
    assert add((one(), one(6)), again) == (one(6), again)


def test_an_issuer_is_the_same_however_its_name_is_spelt() -> None:
    other = one(6, spelt("ONE"))
    assert remove((one(), one(6)), spelt("ONE"), 5) == (one(6),)
    assert list(entries((one(), other))) == [ISSUERS[0]]


def test_what_is_not_revoked_cannot_be_taken_back() -> None:
    assert remove((one(),), ISSUERS[1], 5) == (one(),)
    assert remove((one(),), ISSUERS[0], 6) == (one(),)


@pytest.mark.parametrize(
    "bad",
    [
        one(reason="removeFromCRL"),
        one(reason="stolen"),
        one(1 << 600),
        one(issuer=b"no name"),
        LocalRevocation(ISSUERS[0], 5, "unspecified", 0, "", "x" * 501),
        LocalRevocation(ISSUERS[0], 5, "unspecified", 1 << 50, ""),
    ],
)
def test_what_cannot_be_put_in_force_is_refused_in_one_line(bad: LocalRevocation) -> None:
    with pytest.raises(CrlError, match=r"expected .*; nothing is revoked"):
        checked(bad)
