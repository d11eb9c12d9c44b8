from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.inspection import describe
from gateway.names import serial_hex
from gateway.native import TableMeta, compile_table
from gateway.revocation.crl import parse_untrusted
from gateway.revocation.policy import moment
from tests.authority import (
    DAY,
    DER,
    HOUR,
    NOW,
    Authority,
    Revoked,
    der_extension,
    extension,
    to_pem,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CA = Authority.root("Inspected")
CERT = CA.issue("device", serial=0x0ABC).cert
NAMES_OF_REASONS = {
    0: "unspecified",
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    6: "certificateHold",
    9: "privilegeWithdrawn",
    10: "aACompromise",
}


def told(data: bytes, limit: int | None = None) -> list[tuple[str, str]]:
    """The lines, split into key and value; each must be one printable line."""
    pairs = []
    for line in describe(data, limit=limit):
        assert line.isprintable()
        key, colon, value = line.partition(":")
        assert colon
        pairs.append((key, value.strip()))
    return pairs


def values(data: bytes, key: str, limit: int | None = None) -> list[str]:
    return [value for found, value in told(data, limit) if found == key]


def table(der: bytes) -> bytes:
    """The table file of a list, as the gateway writes it."""
    header = parse_untrusted(der)
    meta = TableMeta(
        header.issuer_der, b"key", header.signature, header.number, header.this_update, header.next_update
    )
    fd = os.memfd_create("table")
    try:
        compile_table(header.der, header.parts.revoked, meta, fd)
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def test_a_list_is_told_with_issuer_number_times_and_count() -> None:
    der = CA.crl([Revoked(1), Revoked(2)], number=4711)
    lines = dict(told(der))
    assert lines["issuer"] == "CN=Inspected"
    assert lines["number"] == "4711"
    assert lines["this update"] == moment(NOW - 60)
    assert lines["next update"] == moment(NOW + DAY)
    assert lines["entries"] == "2"


def test_pem_and_der_are_told_alike() -> None:
    der = CA.crl([Revoked(7)])
    assert told(to_pem(der)) == told(der)


@pytest.mark.parametrize("data", [CA.crl(), table(CA.crl()), CA.ocsp(CERT)], ids=["crl", "table", "ocsp"])
def test_it_says_that_no_signature_was_verified(data: bytes) -> None:
    (signature,) = values(data, "signature")
    assert signature.startswith("NOT verified")


@pytest.mark.parametrize("of", [bytes, table], ids=["crl", "table"])
def test_serials_come_in_ascending_order(of: Callable[[bytes], bytes]) -> None:
    serials = [3, 1 << 159, -5, 0x80, 0, 1 << 400, 2]
    shown = [value.split()[0] for value in values(of(CA.crl([Revoked(s) for s in serials])), "revoked")]
    assert shown == [serial_hex(serial) for serial in sorted(serials)]


@pytest.mark.parametrize(("code", "name"), NAMES_OF_REASONS.items())
def test_a_reason_has_its_name_of_rfc_5280(code: int, name: str) -> None:
    (entry,) = values(CA.crl([Revoked(0xBEEF, reason=code)]), "revoked")
    assert entry == f"BEEF  {moment(NOW - HOUR)}  {name}"


def test_no_more_than_the_limit_is_listed_and_the_rest_is_counted() -> None:
    der = CA.crl([Revoked(serial) for serial in range(1, 31)])
    assert [value.split()[0] for value in values(der, "revoked", limit=3)] == ["01", "02", "03", "and"]
    assert values(der, "revoked", limit=3)[-1] == "and 27 more"
    assert len(values(der, "revoked", limit=30)) == 30


@pytest.mark.parametrize("of", [bytes, table], ids=["crl", "table"])
def test_what_has_expired_is_marked(of: Callable[[bytes], bytes]) -> None:
    expired = CA.crl(this_update=NOW - DAY, next_update=NOW - 1)
    assert values(of(expired), "next update") == [f"{moment(NOW - 1)} (EXPIRED)"]
    assert values(CA.ocsp(CERT, this_update=NOW - DAY, next_update=NOW - 1), "next update") == [
        f"{moment(NOW - 1)} (EXPIRED)"
    ]


def test_a_list_without_number_and_end_says_so() -> None:
    lines = dict(told(CA.crl(number=None, next_update=None)))
    assert lines["number"] == "none"
    assert lines["next update"] == "none: it never expires"


def test_an_extension_that_is_not_put_into_words_is_named() -> None:
    other = CA.crl(extensions=der_extension("1.2.3.4", b"\x05\x00", critical=True))
    assert values(other, "extension") == ["1.2.3.4 (UnrecognizedExtension, critical)"]


def test_a_table_is_told_like_its_list() -> None:
    der = CA.crl([Revoked(serial, reason=1) for serial in range(50)], number=9)
    of_list, of_table = dict(told(der)), dict(told(table(der)))
    for key in ("issuer", "number", "this update", "next update", "entries"):
        assert of_table[key] == of_list[key]
    assert values(table(der), "revoked") == values(der, "revoked")


def test_a_damaged_table_is_refused() -> None:
    data = bytearray(table(CA.crl([Revoked(5)])))
    data[-1] ^= 1
    with pytest.raises(GatewayError):
        told(bytes(data))


def test_a_response_is_told_with_responder_and_each_status() -> None:
    lines = dict(told(CA.ocsp(CERT, by_name=True)))
    assert lines["status"] == "successful"
    assert lines["responder"] == "CN=Inspected"
    assert lines["serial"] == "0ABC"
    assert lines["cert status"] == "good"
    assert lines["next update"] == moment(NOW + DAY)


def test_a_revoked_status_has_time_and_reason() -> None:
    answer = CA.ocsp(
        CERT,
        status=ocsp.OCSPCertStatus.REVOKED,
        reason=x509.ReasonFlags.certificate_hold,
        revoked_at=NOW - DAY,
    )
    lines = dict(told(answer))
    assert lines["cert status"] == "revoked"
    assert lines["revoked at"] == moment(NOW - DAY)
    assert lines["reason"] == "certificateHold"


def test_a_responder_that_gives_no_answer_is_told_in_rfc_6960s_word() -> None:
    later = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    assert values(later.public_bytes(DER), "status") == ["tryLater"]


def samples() -> Iterator[bytes]:
    der = CA.crl([Revoked(1, reason=1), Revoked(1 << 300)])
    yield from (der, to_pem(der), table(der), CA.ocsp(CERT), CA.ocsp(CERT, signer=CA, by_name=True))


SAMPLES = list(samples())


@given(st.binary(max_size=200))
def test_foreign_bytes_raise_nothing_but_a_gateway_error_of_one_line(data: bytes) -> None:
    refused_or_told(data)


@given(st.data())
def test_damaged_files_raise_nothing_but_a_gateway_error_of_one_line(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    refused_or_told(bytes(damaged[: data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))]))


def refused_or_told(data: bytes) -> None:
    refusal = ""
    try:
        told(data)
    except GatewayError as exc:
        refusal = str(exc)
    assert not refusal or refusal.isprintable()


def test_a_list_of_a_part_says_which() -> None:
    point = x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier("http://ca.example/\n1.crl")],
        relative_name=None,
        only_contains_user_certs=True,
        only_contains_ca_certs=False,
        only_some_reasons=frozenset({x509.ReasonFlags.key_compromise}),
        indirect_crl=True,
        only_contains_attribute_certs=False,
    )
    extensions = extension(point, critical=True) + extension(x509.DeltaCRLIndicator(3), critical=True)
    lines = list(describe(CA.crl(number=4, extensions=extensions), limit=None))
    expected = "of the distribution point http://ca.example/?1.crl, for keyCompromise, indirect"
    assert f"scope:         end entities alone, {expected}" in lines
    assert "delta of:      3" in lines
    assert all(line.isprintable() for line in lines)
