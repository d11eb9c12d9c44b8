"""The revocation table that is made of a CRL (csrc/revoked.h)."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from typing import TYPE_CHECKING, NamedTuple, Self

from gateway.errors import CrlError, TableError
from gateway.native.binding import error_text, ffi, lib, new_error, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateway.der import Element

# Only in a damaged table there are more: they may go round in a circle.
_MOST_PIECES = 1 << 20


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


class Section(NamedTuple):
    """Entries of an indirect CRL that are of one issuer's certificates (RFC 5280, section 5.3.3).

    `issuer` is the GeneralNames of certificateIssuer, DER; empty for those before the
    first that names one. `begin` and `end` are offsets into the whole list.
    """

    issuer: bytes
    begin: int
    end: int


def sections(der: bytes, revoked: Element) -> list[Section]:
    """Cut revokedCertificates, which stands there in `der`, where the issuer changes; in order.

    Raises:
        CrlError: an entry cannot be used.
    """
    found: list[Section] = []
    issuer, begin = b"", revoked.content_at
    source = ffi.from_buffer("uint8_t[]", der)
    entries, length = source + revoked.content_at, revoked.end - revoked.content_at
    position, start, entry, error = (
        ffi.new("size_t *"),
        ffi.new("size_t *"),
        ffi.new("gw_crl_entry *"),
        new_error(),
    )
    while lib.gw_crl_next_issuer(entries, length, position, start, entry, error):
        found.append(Section(issuer, begin, revoked.content_at + start[0]))
        begin = revoked.content_at + start[0]
        issuer = der[revoked.content_at + entry.issuer_at : revoked.content_at + entry.issuer_end]
    if position[0] < length:
        raise CrlError(error_text(error))
    return [
        section for section in (*found, Section(issuer, begin, revoked.end)) if section.begin < section.end
    ]


def compile_table(der: bytes, revoked: Element, meta: TableMeta, fd: int, *, indirect: bool = False) -> int:
    """Write the table of a verified CRL to `fd`, an empty file open for reading and writing.

    `revoked` is where revokedCertificates stands in `der`; with `indirect` its entries
    may name their issuer, who must be the same for all.

    Returns:
        The number of distinct serials.

    Raises:
        CrlError: an entry cannot be used.
        TableError: there is no room, in memory or in the file.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        raise TableError("cannot write the revocation table: not an empty regular file")
    number = b"" if meta.number is None else meta.number.to_bytes((meta.number.bit_length() + 7) // 8 or 1)
    blobs = [ffi.from_buffer(blob) for blob in (meta.issuer_name, meta.issuer_key, meta.signature, number)]
    c_meta = ffi.new(
        "gw_table_meta *",
        [
            *(item for blob in blobs for item in (ffi.cast("uint8_t *", blob), len(blob))),
            meta.this_update,
            meta.next_update,
            int(indirect),
        ],
    )
    error, count = new_error(), ffi.new("uint64_t *")
    octets = ffi.from_buffer("uint8_t[]", der)
    source, length = octets + revoked.content_at, revoked.end - revoked.content_at
    size = lib.gw_table_size(source, length, c_meta, error)
    if not size:
        raise CrlError(error_text(error))
    try:
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            with contextlib.suppress(OSError):
                # Advice: serials go to memory at random.
                memory.madvise(mmap.MADV_HUGEPAGE)
            with ffi.from_buffer("uint8_t[]", memory) as table:
                if not lib.gw_table_compile(source, length, c_meta, table, size, count, error):
                    raise CrlError(error_text(error))
            written = 0
            while written < size:
                with memoryview(memory) as view, view[written:] as rest:
                    written += os.pwrite(fd, rest, written)
    except OSError as exc:
        raise TableError(f"cannot write the revocation table of {size} bytes: {exc.strerror or exc}") from exc
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
        """Every serial number with its entry, in no order."""
        slot = 0
        while record := lib.gw_table_at(self.pointer, slot):
            slot += 1
            if record.facts:
                octets = self._octets(record)
                entry = self.find(octets)
                if entry is None:
                    raise TableError(f"slot {slot} cannot be read")
                yield int.from_bytes(octets, signed=True), entry

    def _octets(self, record: ffi.CData) -> bytes:
        """The serial that ends in `record`, piece by piece from the last one."""
        pieces: list[bytes] = []
        while record and len(pieces) < _MOST_PIECES:
            before, length = divmod(record.link, 32)
            pieces.append(bytes(record.octets)[:length])
            record = lib.gw_table_at(self.pointer, before - 1) if before else None
        return b"".join(reversed(pieces))


def serial_octets(serial: int) -> bytes:
    """The content octets of the DER INTEGER `serial` (X.690, section 8.3): two's complement, minimal."""
    return serial.to_bytes((serial + (serial < 0)).bit_length() // 8 + 1, signed=True)
