"""A CRL's parts, and the revocation table that is made of it (csrc/crl_walk.h, csrc/revoked.h)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Self

from gateway.errors import CrlError, TableError
from gateway.native.binding import error_text, ffi, lib, new_error, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class CrlParts(NamedTuple):
    """Offsets and lengths into the DER of one CertificateList (see csrc/crl_walk.h), in bytes."""

    tbs_at: int
    tbs_length: int
    tbs_content_at: int
    revoked_at: int
    revoked_length: int
    entries_at: int
    entries_length: int
    after_revoked_at: int
    signature_algorithm_at: int
    signature_algorithm_length: int
    signature_at: int
    signature_length: int
    total_length: int


def split_crl(der: bytes) -> CrlParts:
    """Find the parts of a CertificateList (RFC 5280, section 5.1) without looking into its entries.

    Raises:
        CrlError: these bytes are not exactly one DER CertificateList.
    """
    parts, error = ffi.new("gw_crl_parts *"), new_error()
    if not lib.gw_crl_split(ffi.from_buffer(der), len(der), parts, error):
        raise CrlError(f"not a CRL in DER: {error_text(error)}")
    return CrlParts(*(getattr(parts, name) for name in CrlParts._fields))


class TableMeta(NamedTuple):
    """What a table knows of its list besides the entries (RFC 5280, sections 5.1 and 5.2.3)."""

    issuer_name: bytes
    issuer_key: bytes
    signature: bytes
    number: int | None
    this_update: int
    next_update: int


class Entry(NamedTuple):
    """When (seconds since 1970) and why (CRLReason, -1 where none is given) a certificate was revoked."""

    revocation_date: int
    reason: int


def compile_table(der: bytes, meta: TableMeta, fd: int) -> int:
    """Write the table of a verified CRL to `fd`, an empty file open for reading and writing.

    Returns:
        The number of distinct serials.

    Raises:
        CrlError: an entry cannot be used.
    """
    parts, error, count = ffi.new("gw_crl_parts *"), new_error(), ffi.new("uint64_t *")
    source = ffi.from_buffer(der)
    if not lib.gw_crl_split(source, len(der), parts, error):
        raise CrlError(f"not a CRL in DER: {error_text(error)}")
    number = b"" if meta.number is None else meta.number.to_bytes((meta.number.bit_length() + 7) // 8 or 1)
    blobs = [ffi.from_buffer(blob) for blob in (meta.issuer_name, meta.issuer_key, meta.signature, number)]
    c_meta = ffi.new(
        "gw_table_meta *",
        [
            *(item for blob in blobs for item in (ffi.cast("uint8_t *", blob), len(blob))),
            meta.this_update,
            meta.next_update,
        ],
    )
    if not lib.gw_table_compile(source, len(der), parts, c_meta, fd, count, error):
        raise CrlError(error_text(error))
    return int(count[0])


class Table:
    """One mapped revocation table. Immutable; close it to drop this process's reference."""

    def __init__(self, fd: int, *, deep: bool = True) -> None:
        """Map the table in `fd`, which may be closed afterwards; with `deep` check its whole checksum.

        Raises:
            TableError: not a table of this machine and version, or damaged.
        """
        error = new_error()
        pointer = lib.gw_table_open(fd, int(deep), error)
        if pointer == ffi.NULL:
            raise TableError(error_text(error))
        self.pointer = ffi.gc(pointer, lib.gw_table_free)

    @classmethod
    def open(cls, path: Path, *, deep: bool) -> Self:
        """Map the table at `path`.

        Raises:
            TableError: see `Table`.
            OSError: it cannot be opened.
        """
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return cls(fd, deep=deep)
        finally:
            os.close(fd)

    def __len__(self) -> int:
        return int(lib.gw_table_count(self.pointer))

    def close(self) -> None:
        """Drop the reference now rather than when collected."""
        ffi.release(self.pointer)

    @property
    def meta(self) -> TableMeta:
        """What the table says of its list."""
        meta = ffi.new("gw_table_meta *")
        lib.gw_table_get_meta(self.pointer, meta)
        number = to_bytes(meta.number, meta.number_length)
        return TableMeta(
            issuer_name=to_bytes(meta.issuer_name, meta.issuer_name_length),
            issuer_key=to_bytes(meta.issuer_key, meta.issuer_key_length),
            signature=to_bytes(meta.signature, meta.signature_length),
            number=int.from_bytes(number) if number else None,
            this_update=meta.this_update,
            next_update=meta.next_update,
        )

    def find(self, serial: bytes) -> Entry | None:
        """Look up the content octets of a DER serialNumber INTEGER."""
        entry = ffi.new("gw_table_entry *")
        if not lib.gw_table_find(self.pointer, ffi.from_buffer(serial), len(serial), entry):
            return None
        return Entry(entry.revocation_date, entry.reason)

    def __contains__(self, serial: int) -> bool:
        return self.find(serial_octets(serial)) is not None

    def __iter__(self) -> Iterator[tuple[int, Entry]]:
        """Every serial number with its entry, in the table's own order."""
        room = 1 << 16
        octets, length, entry = ffi.new("uint8_t[]", room), ffi.new("size_t *"), ffi.new("gw_table_entry *")
        for index in range(len(self)):
            length[0] = room
            if not lib.gw_table_at(self.pointer, index, octets, length, entry):
                raise TableError(f"entry {index} cannot be read")
            serial = int.from_bytes(to_bytes(octets, length[0]), signed=True)
            yield serial, Entry(entry.revocation_date, entry.reason)


def serial_octets(serial: int) -> bytes:
    """The content octets of the DER INTEGER `serial` (X.690, section 8.3): two's complement, minimal."""
    return serial.to_bytes((serial + (serial < 0)).bit_length() // 8 + 1, signed=True)
