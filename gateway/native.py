"""The C extension, typed: the only module that imports it, and the owner of its lifetimes.

Bytes and numbers in, values out; every return code is checked and becomes an
error of `gateway.errors`. Each class owns one C object and releases it when it
is closed or collected; objects that C borrows are kept alive by a reference.
The header of the same name in csrc/ is the specification of each function.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gateway import _native  # type: ignore[attr-defined]  # made by cffi, typed by this module
from gateway.errors import CrlError, GatewayError, TableError
from gateway.metrics import Counter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from mmap import mmap
    from pathlib import Path

ffi: Any = _native.ffi
lib: Any = _native.lib


if any(getattr(lib, f"GW_COUNT_{counter.name}") != counter for counter in Counter):
    raise ImportError("gateway.metrics.Counter and csrc/counters.h disagree: build the extension again")


class Check(IntEnum):
    """How much of a client's chain is looked up."""

    OFF = lib.GW_CHECK_OFF
    LEAF = lib.GW_CHECK_LEAF
    CHAIN = lib.GW_CHECK_CHAIN


class OnUnavailable(IntEnum):
    """What happens to a client that no fresh list covers."""

    REJECT = lib.GW_UNAVAILABLE_REJECT
    ACCEPT = lib.GW_UNAVAILABLE_ACCEPT
    WAIT = lib.GW_UNAVAILABLE_WAIT


class VerdictKind(IntEnum):
    """What the lookup said of a client."""

    NONE = lib.GW_VERDICT_NONE
    GOOD = lib.GW_VERDICT_GOOD
    REVOKED = lib.GW_VERDICT_REVOKED
    NO_LIST = lib.GW_VERDICT_NO_LIST
    STALE = lib.GW_VERDICT_STALE
    UNTRUSTED = lib.GW_VERDICT_UNTRUSTED


class Step(IntEnum):
    """How far a handshake got."""

    FAILED = lib.GW_HANDSHAKE_FAILED
    DONE = lib.GW_HANDSHAKE_DONE
    WANT_READ = lib.GW_HANDSHAKE_WANT_READ
    WANT_WRITE = lib.GW_HANDSHAKE_WANT_WRITE


class End(IntEnum):
    """Why a relayed connection ended."""

    CLIENT_CLOSED = lib.GW_END_CLIENT_CLOSED
    BROKER_CLOSED = lib.GW_END_BROKER_CLOSED
    CLIENT_LOST = lib.GW_END_CLIENT_LOST
    BROKER_LOST = lib.GW_END_BROKER_LOST
    BROKER_REFUSED = lib.GW_END_BROKER_REFUSED
    REVOKED = lib.GW_END_REVOKED
    LINGERED = lib.GW_END_LINGERED
    STOPPED = lib.GW_END_STOPPED


def _error() -> Any:
    return ffi.new("gw_error *")


def _text(error: Any) -> str:
    return bytes(ffi.string(error.text)).decode("utf-8", "replace")


def _bytes(pointer: Any, length: int) -> bytes:
    return bytes(ffi.buffer(pointer, length)) if length else b""


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
    parts, error = ffi.new("gw_crl_parts *"), _error()
    if not lib.gw_crl_split(ffi.from_buffer(der), len(der), parts, error):
        raise CrlError(f"not a CRL in DER: {_text(error)}")
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
    parts, error, count = ffi.new("gw_crl_parts *"), _error(), ffi.new("uint64_t *")
    source = ffi.from_buffer(der)
    if not lib.gw_crl_split(source, len(der), parts, error):
        raise CrlError(f"not a CRL in DER: {_text(error)}")
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
        raise CrlError(_text(error))
    return int(count[0])


class Table:
    """One mapped revocation table. Immutable; close it to drop this process's reference."""

    def __init__(self, fd: int, *, deep: bool = True) -> None:
        """Map the table in `fd`, which may be closed afterwards; with `deep` check its whole checksum.

        Raises:
            TableError: not a table of this machine and version, or damaged.
        """
        error = _error()
        pointer = lib.gw_table_open(fd, int(deep), error)
        if pointer == ffi.NULL:
            raise TableError(_text(error))
        self._pointer = ffi.gc(pointer, lib.gw_table_free)

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
        return int(lib.gw_table_count(self._pointer))

    def close(self) -> None:
        """Drop the reference now rather than when collected."""
        ffi.release(self._pointer)

    @property
    def meta(self) -> TableMeta:
        """What the table says of its list."""
        meta = ffi.new("gw_table_meta *")
        lib.gw_table_get_meta(self._pointer, meta)
        number = _bytes(meta.number, meta.number_length)
        return TableMeta(
            issuer_name=_bytes(meta.issuer_name, meta.issuer_name_length),
            issuer_key=_bytes(meta.issuer_key, meta.issuer_key_length),
            signature=_bytes(meta.signature, meta.signature_length),
            number=int.from_bytes(number) if number else None,
            this_update=meta.this_update,
            next_update=meta.next_update,
        )

    def find(self, serial: bytes) -> Entry | None:
        """Look up the content octets of a DER serialNumber INTEGER."""
        entry = ffi.new("gw_table_entry *")
        if not lib.gw_table_find(self._pointer, ffi.from_buffer(serial), len(serial), entry):
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
            if not lib.gw_table_at(self._pointer, index, octets, length, entry):
                raise TableError(f"entry {index} cannot be read")
            serial = int.from_bytes(_bytes(octets, length[0]), signed=True)
            yield serial, Entry(entry.revocation_date, entry.reason)


def serial_octets(serial: int) -> bytes:
    """The content octets of the DER INTEGER `serial` (X.690, section 8.3): two's complement, minimal."""
    return serial.to_bytes((serial + (serial < 0)).bit_length() // 8 + 1, signed=True)


def counter(page: mmap) -> Callable[[Counter, int], None]:
    """A function that adds to the counters of a worker's page; what it adds may be negative."""
    buffer = ffi.from_buffer(page)
    numbers = ffi.cast("uint64_t *", buffer)

    def count(which: Counter, delta: int) -> None:
        lib.gw_count(numbers, which, delta & 0xFFFF_FFFF_FFFF_FFFF)

    # `numbers` borrows from the buffer, which keeps the page mapped.
    count.__dict__["buffer"] = buffer
    return count


class World:
    """The tables that the lookups of this process see, replaced all at once."""

    def __init__(self, counters: mmap | None = None) -> None:
        self._counters = counters
        page = ffi.NULL if counters is None else ffi.cast("uint64_t *", ffi.from_buffer(counters))
        self._pointer = _owned(lib.gw_world_new(page), lib.gw_world_free)

    def publish(self, tables: Iterable[Table]) -> None:
        """Make these the tables in force; lookups under way finish with the old ones.

        Raises:
            TableError: they cannot be put in force; the old ones stay.
        """
        pointers = [table._pointer for table in tables]  # noqa: SLF001 - one module, one owner
        error = _error()
        if not lib.gw_world_publish(self._pointer, ffi.new("gw_table *[]", pointers), len(pointers), error):
            raise TableError(_text(error))


class Listener:
    """The rules of one listener, and the CAs it trusts, for the lookups in C."""

    def __init__(
        self,
        world: World,
        check: Check,
        on_unavailable: OnUnavailable,
        *,
        grace: float = 0.0,
        disconnect_revoked: bool = True,
        gauge: tuple[mmap, int] | None = None,
    ) -> None:
        """Make a listener without CAs.

        Args:
            world: the tables that its lookups see.
            check: how much of a chain is looked up.
            on_unavailable: what happens where no fresh list covers a certificate.
            grace: seconds past nextUpdate for which a list still counts.
            disconnect_revoked: whether live connections end when their certificate is revoked.
            gauge: a counter page and the index in it that counts its connections.
        """
        self._world = world
        self._gauge = gauge
        self.on_unavailable = on_unavailable
        connections = ffi.NULL
        if gauge is not None:
            page, index = gauge
            connections = ffi.cast("uint64_t *", ffi.from_buffer(page)) + index
        rules = ffi.new(
            "gw_rules *", [check, on_unavailable, int(grace), int(disconnect_revoked), connections]
        )
        pointer = lib.gw_listener_new(world._pointer, rules)  # noqa: SLF001 - one module, one owner
        self._pointer = _owned(pointer, lib.gw_listener_free)

    def add_ca(self, x509: int, *, name: bytes, key: bytes, serial: bytes, parent: int | None) -> int:
        """Tell of a CA certificate in the listener's store, by the address of its X509 object.

        Args:
            x509: the address; the object must live as long as the listener's contexts.
            name: DER of its subject.
            key: DER of its SubjectPublicKeyInfo.
            serial: content octets of its serialNumber.
            parent: index of the CA that issued it; None if it issued itself.

        Returns:
            Its index, counted from 0.
        """
        error = _error()
        blobs = [item for blob in (name, key, serial) for item in (ffi.from_buffer(blob), len(blob))]
        index = lib.gw_listener_add_ca(
            self._pointer, ffi.cast("void *", x509), *blobs, -1 if parent is None else parent, error
        )
        if index < 0:
            raise GatewayError(f"a CA certificate cannot be registered: {_text(error)}")
        return int(index)


def arm_verification(ssl_ctx: int, mode: int) -> None:
    """Set the extension's verify callback on the SSL_CTX at this address, with `mode` (SSL_VERIFY_…)."""
    lib.gw_listener_arm(ffi.cast("void *", ssl_ctx), mode)


class StapleSlot:
    """The OCSP response that the contexts it is attached to staple (RFC 6066, section 8)."""

    def __init__(self, counters: mmap | None = None) -> None:
        self._counters = counters
        page = ffi.NULL if counters is None else ffi.cast("uint64_t *", ffi.from_buffer(counters))
        self._pointer = _owned(lib.gw_staple_new(page), lib.gw_staple_free)

    def attach(self, ssl_ctx: int) -> None:
        """Make the SSL_CTX at this address staple from here; the slot must outlive it."""
        if not lib.gw_staple_attach(self._pointer, ffi.cast("void *", ssl_ctx)):
            raise GatewayError("OpenSSL refused the OCSP status callback")

    def set(self, der: bytes, expires: int) -> None:
        """Staple `der` until `expires` (seconds since 1970); empty bytes for none."""
        if not lib.gw_staple_set(self._pointer, ffi.from_buffer(der), len(der), expires):
            raise MemoryError


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the lookup said, and why."""

    kind: VerdictKind
    let_in: bool
    depth: int
    error_code: int
    entry: Entry
    next_update: int


def _verdict(verdict: Any) -> Verdict:
    return Verdict(
        kind=VerdictKind(verdict.verdict),
        let_in=bool(verdict.let_in),
        depth=verdict.depth,
        error_code=verdict.error_code,
        entry=Entry(verdict.entry.revocation_date, verdict.entry.reason),
        next_update=verdict.next_update,
    )


@dataclass(frozen=True, slots=True)
class HandshakeInfo:
    """What is known of a handshake that has ended, either way."""

    verdict: Verdict
    resumed: bool
    version: str
    certificate_error: str
    leaf: bytes


_CLEAR = (lib.GW_VERDICT_NONE, lib.GW_VERDICT_GOOD)
_STEPS = tuple(Step(number) for number in range(len(Step)))


class Conn:
    """One client connection until the relay takes it; it owns the socket's descriptor."""

    __slots__ = ("_error", "_info", "_listener", "_pointer")

    def __init__(self, listener: Listener, ssl_ctx: int, fd: int) -> None:
        """Begin the server's side of TLS on `fd` (connected, non-blocking).

        Raises:
            GatewayError: OpenSSL could not; `fd` stays the caller's.
        """
        self._error = _error()
        self._info = ffi.new("gw_conn_info *")
        self._listener = listener
        self._pointer = lib.gw_conn_new(
            listener._pointer,  # noqa: SLF001 - one module, one owner
            ffi.cast("void *", ssl_ctx),
            fd,
            self._error,
        )
        if self._pointer == ffi.NULL:
            raise GatewayError(f"a TLS connection cannot be made: {_text(self._error)}")

    def handshake(self) -> Step:
        """Go as far as the socket lets it."""
        return _STEPS[int(lib.gw_conn_handshake(self._pointer, self._error))]

    @property
    def error(self) -> str:
        """Why the last step failed, in OpenSSL's words."""
        return _text(self._error)

    def is_clear(self) -> bool:
        """Whether nothing speaks against the client: looked up and good, or not asked for."""
        lib.gw_conn_get_info(self._pointer, self._info)
        return self._info.verdict.verdict in _CLEAR

    def judge(self) -> bool:
        """Look the client up again in the tables in force; True when it may pass."""
        return bool(lib.gw_conn_judge(self._pointer))

    def info(self) -> HandshakeInfo:
        """Verdict, resumption, version and, where it was refused, the client's certificate (DER)."""
        info = self._info
        lib.gw_conn_get_info(self._pointer, info)
        return HandshakeInfo(
            verdict=_verdict(info.verdict),
            resumed=bool(info.resumed),
            version=_string(info.version),
            certificate_error=_string(info.error_string),
            leaf=_bytes(info.leaf_der, info.leaf_der_length),
        )

    def leaf(self) -> bytes:
        """The client's certificate (DER) of an established connection; empty where there is none."""
        length = ffi.new("size_t *")
        pointer = lib.gw_conn_leaf(self._pointer, length)
        if pointer == ffi.NULL:
            return b""
        try:
            return _bytes(pointer, length[0])
        finally:
            lib.gw_free(pointer)

    def close(self) -> None:
        """Send close_notify where it makes sense, close the socket, free everything. Idempotent."""
        pointer, self._pointer = self._pointer, ffi.NULL
        lib.gw_conn_free(pointer)

    def __del__(self) -> None:
        with suppress(AttributeError):  # __init__ may have failed before there was anything to free
            self.close()


@dataclass(frozen=True, slots=True)
class RelayEvent:
    """One relayed connection has ended."""

    id: int
    end: End
    bytes_in: int
    bytes_out: int
    duration: float
    verdict: Verdict
    peer: str
    detail: str
    leaf: bytes


class Relay:
    """The C thread that moves bytes; from `adopt` on it owns the connection and the broker's socket."""

    def __init__(self, world: World, *, linger: float = 30.0) -> None:
        self._world = world
        options, error = ffi.new("gw_relay_options *", {"linger_ms": int(linger * 1000)}), _error()
        pointer = lib.gw_relay_new(world._pointer, options, error)  # noqa: SLF001
        if pointer == ffi.NULL:
            raise GatewayError(f"the relay thread cannot be started: {_text(error)}")
        self._pointer = ffi.gc(pointer, lib.gw_relay_free)
        self._listeners: set[Listener] = set()

    def adopt(self, conn: Conn, upstream: int, connection_id: int, preface: bytes = b"") -> None:
        """Hand over an established connection and the broker's socket (connected or connecting).

        Raises:
            GatewayError: the relay could not take them; both stay the caller's.
        """
        error = _error()
        self._listeners.add(conn._listener)  # noqa: SLF001 - C borrows the listener for as long as it lives
        taken = lib.gw_relay_adopt(
            self._pointer,
            conn._pointer,  # noqa: SLF001
            upstream,
            connection_id,
            ffi.from_buffer(preface),
            len(preface),
            error,
        )
        if not taken:
            raise GatewayError(f"the relay cannot take the connection: {_text(error)}")
        conn._pointer = ffi.NULL  # noqa: SLF001 - the relay thread may have freed it already

    def recheck(self) -> None:
        """Have every live connection looked up again in the tables in force; returns at once."""
        lib.gw_relay_recheck(self._pointer)

    def __len__(self) -> int:
        return int(lib.gw_relay_live(self._pointer))

    def fileno(self) -> int:
        """A descriptor that is readable while events wait."""
        return int(lib.gw_relay_event_fd(self._pointer))

    def events(self) -> Iterator[RelayEvent]:
        """Take the events that wait."""
        event = ffi.new("gw_relay_event *")
        while lib.gw_relay_next_event(self._pointer, event):
            leaf = b""
            if event.leaf_der != ffi.NULL:
                leaf = _bytes(event.leaf_der, event.leaf_der_length)
                lib.gw_free(event.leaf_der)
            yield RelayEvent(
                id=event.id,
                end=End(event.end),
                bytes_in=event.bytes_in,
                bytes_out=event.bytes_out,
                duration=event.duration_ms / 1000,
                verdict=_verdict(event.verdict),
                peer=_string(event.peer),
                detail=_string(event.detail),
                leaf=leaf,
            )

    def stop(self) -> None:
        """End all connections with close_notify and wait for the thread."""
        lib.gw_relay_stop(self._pointer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def die_with_parent(parent: int) -> bool:
    """Have the kernel kill this process when its parent dies; False if that has happened already."""
    return bool(lib.gw_die_with_parent(parent))


def _string(text: Any) -> str:
    return "" if text == ffi.NULL else bytes(ffi.string(text)).decode("utf-8", "replace")


def _owned(pointer: Any, release: Any) -> Any:
    if pointer == ffi.NULL:
        raise MemoryError
    return ffi.gc(pointer, release)
