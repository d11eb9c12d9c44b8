"""A CRL, a revocation table or an OCSP response, told to people: bytes in, lines out.

The bytes may be anybody's and are not verified: what is told is what they say of
themselves. Each line is `key: value`, aligned; times are UTC, serials as openssl
prints them, reasons by their names in RFC 5280, section 5.3.1.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import time
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import ocsp

from gateway.errors import CrlError, GatewayError
from gateway.names import printable, printable_der, reason_text, serial_hex
from gateway.native import Table, TableMeta, compile_table
from gateway.revocation import crl
from gateway.revocation.policy import moment
from gateway.revocation.scope import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from gateway.native import Entry

# GW_TABLE_MAGIC in csrc/table_file.h.
_TABLE = b"revocation table"

_NOT_VERIFIED = "NOT verified: anybody may have written this"
_STATUS = {
    ocsp.OCSPCertStatus.GOOD: "good",
    ocsp.OCSPCertStatus.REVOKED: "revoked",
    ocsp.OCSPCertStatus.UNKNOWN: "unknown",
}
# OCSPResponseStatus (RFC 6960, section 4.2.1).
_RESPONSE_STATUS = {
    ocsp.OCSPResponseStatus.SUCCESSFUL: "successful",
    ocsp.OCSPResponseStatus.MALFORMED_REQUEST: "malformedRequest",
    ocsp.OCSPResponseStatus.INTERNAL_ERROR: "internalError",
    ocsp.OCSPResponseStatus.TRY_LATER: "tryLater",
    ocsp.OCSPResponseStatus.SIG_REQUIRED: "sigRequired",
    ocsp.OCSPResponseStatus.UNAUTHORIZED: "unauthorized",
}
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def describe(data: bytes, *, limit: int | None) -> Iterator[str]:
    """Lines about whichever of the three `data` is, with at most `limit` revoked serials.

    Raises:
        GatewayError: it is none of them, or something in it cannot be read; at once or with a line.
    """
    if data.startswith(_TABLE):
        return _table(data, limit)
    response = _load_response(data)
    if response is not None:
        return _response(response)
    try:
        header = crl.parse_untrusted(data)
    except CrlError as exc:
        raise GatewayError(f"neither a CRL, nor a revocation table, nor an OCSP response: {exc}") from exc
    return _crl(header, limit)


def _crl(header: crl.UnverifiedCrl, limit: int | None) -> Iterator[str]:
    # The entries alone are wanted: whose they are is told by the header.
    meta = TableMeta(b"", b"", b"", None, header.this_update, header.next_update)
    fd = _memory_file()
    try:
        compile_table(header.der, header.parts.revoked, meta, fd, indirect=True)
        table = Table(fd)
    finally:
        os.close(fd)
    yield line("kind", "certificate revocation list (RFC 5280)")
    yield line("signature", _NOT_VERIFIED)
    yield line("issuer", printable(header.issuer))
    if header.authority_key_id is not None:
        yield line("issuer key id", header.authority_key_id.hex().upper())
    yield from _dates(header.number, header.this_update, header.next_update)
    for extension in header.extensions:
        if isinstance(extension.value, x509.DeltaCRLIndicator):
            yield line("delta of", str(extension.value.crl_number))
        elif isinstance(extension.value, x509.IssuingDistributionPoint):
            yield line("scope", in_words(extension.value))
        elif not isinstance(extension.value, x509.CRLNumber | x509.AuthorityKeyIdentifier):
            critical = ", critical" if extension.critical else ""
            name = type(extension.value).__name__
            yield line("extension", f"{extension.oid.dotted_string} ({name}{critical})")
    yield from _entries(table, limit)


def _table(data: bytes, limit: int | None) -> Iterator[str]:
    fd = _memory_file()
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        table = Table(fd)
    finally:
        os.close(fd)
    meta = table.meta
    yield line("kind", "revocation table of tls-gateway")
    yield line("signature", "NOT verified here: it was when the gateway wrote this; the checksum is right")
    yield line("issuer", printable_der(meta.issuer_name))
    yield line("issuer key", f"SHA-256 {hashlib.sha256(meta.issuer_key).hexdigest()}")
    yield from _dates(meta.number, meta.this_update, meta.next_update)
    yield from _entries(table, limit)


def _dates(number: int | None, this_update: int, next_update: int) -> Iterator[str]:
    yield line("number", "none" if number is None else str(number))
    yield line("this update", moment(this_update))
    yield line("next update", _until(next_update) if next_update else "none: it never expires")


def _entries(table: Table, limit: int | None) -> Iterator[str]:
    """The serials in ascending order: a table has them in the order of its lookups."""
    yield line("entries", str(len(table)))
    shown = sorted(table) if limit is None else heapq.nsmallest(limit, table)
    for serial, entry in shown:
        yield line("revoked", _revoked(serial, entry))
    if len(shown) < len(table):
        yield line("revoked", f"and {len(table) - len(shown)} more")


def _revoked(serial: int, entry: Entry) -> str:
    reason = "no reason given" if entry.reason < 0 else reason_text(entry.reason)
    return f"{serial_hex(serial)}  {moment(entry.revocation_date)}  {reason}"


def _load_response(data: bytes) -> ocsp.OCSPResponse | None:
    try:
        return ocsp.load_der_ocsp_response(data)
    except _UNREADABLE:
        return None


def _response(response: ocsp.OCSPResponse) -> Iterator[str]:
    try:
        # Read to the end before the first line goes out: what is inside is decoded only when asked for.
        lines = list(_response_lines(response))
    except _UNREADABLE as exc:
        said = "".join(character if character.isprintable() else " " for character in str(exc))[:200]
        raise GatewayError(f"not an OCSP response as RFC 6960 has it: {said}") from exc
    return iter(lines)


def _response_lines(response: ocsp.OCSPResponse) -> Iterator[str]:
    yield line("kind", "OCSP response (RFC 6960)")
    status = response.response_status
    yield line("status", _RESPONSE_STATUS[status])
    if status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return
    yield line("signature", _NOT_VERIFIED)
    if response.responder_name is not None:
        yield line("responder", printable(response.responder_name))
    else:
        yield line("responder", f"key with SHA-1 {(response.responder_key_hash or b'').hex().upper()}")
    yield line("produced at", _moment(response.produced_at_utc))
    for certificate in response.certificates:
        serial = serial_hex(certificate.serial_number)
        yield line("certificate", f"{printable(certificate.subject)} (serial {serial})")
    for single in response.responses:
        yield from _single(single)


def _single(single: ocsp.OCSPSingleResponse) -> Iterator[str]:
    yield line("serial", serial_hex(single.serial_number))
    yield line("cert status", _STATUS[single.certificate_status])
    if single.revocation_time_utc is not None:
        yield line("revoked at", _moment(single.revocation_time_utc))
        reason = single.revocation_reason
        yield line("reason", "no reason given" if reason is None else reason.value)
    yield line("this update", _moment(single.this_update_utc))
    next_update = single.next_update_utc
    yield line("next update", "none" if next_update is None else _until(int(next_update.timestamp())))


def _until(next_update: int) -> str:
    return moment(next_update) + (" (EXPIRED)" if next_update < time.time() else "")


def _moment(when: datetime) -> str:
    return moment(int(when.timestamp()))


def line(key: str, value: str) -> str:
    """One line, its value in the column that all values begin in."""
    return f"{key + ':':<15}{value}"


def _memory_file() -> int:
    return os.memfd_create("tls-gateway-inspect", os.MFD_CLOEXEC)
