"""What decides in a handshake: tables in force and rules (csrc/world.h, verify.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.errors import GatewayError, TableError
from gateway.native.binding import (
    Check,
    Issuer,
    OnUnavailable,
    Subjects,
    VerdictKind,
    error_text,
    ffi,
    lib,
    new_error,
    owned,
)
from gateway.native.table import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from mmap import mmap

    from gateway.native.answers import Answers
    from gateway.native.table import Table


def counter(page: mmap) -> Callable[[int, int], None]:
    """A function that adds to a counter of a worker's page, by its index; what it adds may be negative."""
    buffer = ffi.from_buffer(page)
    numbers = ffi.cast("uint64_t *", buffer)

    def count(which: int, delta: int) -> None:
        lib.gw_count(numbers, which, delta & 0xFFFF_FFFF_FFFF_FFFF)

    # `numbers` borrows from the buffer, which keeps the page mapped.
    count.__dict__["buffer"] = buffer
    return count


ALL_REASONS: int = lib.GW_ALL_REASONS
"""Every reason code of ReasonFlags, a bit each (RFC 5280, section 4.2.1.13)."""


def name_digest(tag: int, content: bytes) -> int:
    """The digest by which distribution points and CRL issuers are compared (csrc/certificate.h)."""
    return int(lib.gw_name_digest(tag, ffi.from_buffer(content), len(content)))


@dataclass(frozen=True, slots=True)
class Cover:
    """What one list says of the certificates of one CA (gw_cover in csrc/world.h says of what each is)."""

    issuer_name: bytes
    issuer_key: bytes
    crl_issuer: int
    point: int
    reasons: int
    subjects: Subjects
    this_update: int
    next_update: int
    table: Table
    delta: Table | None = None


class World:
    """The lists that the lookups of this process see, replaced all at once."""

    def __init__(self, counters: mmap | None = None) -> None:
        self._counters = counters
        page = ffi.NULL if counters is None else ffi.cast("uint64_t *", ffi.from_buffer(counters))
        self.pointer = owned(lib.gw_world_new(page), lib.gw_world_free)

    def publish(self, covers: Iterable[Cover]) -> None:
        """Put these in force; lookups under way finish with the old ones.

        Raises:
            TableError: they cannot be put in force; the old ones stay.
        """
        known = list(covers)
        blobs = [(ffi.from_buffer(one.issuer_name), ffi.from_buffer(one.issuer_key)) for one in known]
        array = ffi.new("gw_cover[]", len(known))
        for number, (cover, (name, key)) in enumerate(zip(known, blobs, strict=True)):
            array[number] = [
                [ffi.cast("uint8_t *", name), len(name), ffi.cast("uint8_t *", key), len(key)],
                cover.crl_issuer,
                cover.point,
                cover.reasons,
                cover.subjects,
                cover.this_update,
                cover.next_update,
                cover.table.pointer,
                ffi.NULL if cover.delta is None else cover.delta.pointer,
            ]
        error = new_error()
        if not lib.gw_world_publish(self.pointer, array, len(known), error):
            raise TableError(error_text(error))

    def judge(
        self, certificate: bytes, issuer_name: bytes, issuer_key: bytes, *, now: int, grace: float = 0.0
    ) -> Verdict:
        """What the lists in force say of one certificate (DER) of this issuer, at `now` (seconds since 1970).

        Raises:
            TableError: it cannot be read as far as that needs.
        """
        der, issuer, verdict = (
            ffi.from_buffer(certificate),
            Issuer(issuer_name, issuer_key),
            ffi.new("gw_verdict *"),
        )
        if not lib.gw_judge(self.pointer, der, len(der), issuer.pointer, int(grace), now, verdict):
            raise TableError("certificate cannot be looked up: not in DER, or too many distribution points")
        return verdict_of(verdict)


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
        usages: bytes = b"",
        answers: Answers | None = None,
        require_answer: bool = False,
    ) -> None:
        """Make a listener without CAs.

        Args:
            world: the tables that its lookups see.
            check: how much of a chain is looked up.
            on_unavailable: what happens where no fresh list covers a certificate.
            grace: seconds past nextUpdate for which a list still counts.
            disconnect_revoked: whether live connections end when their certificate is revoked.
            gauge: a counter page and the index in it that counts its connections.
            usages: what a client's extendedKeyUsage must name: OBJECT IDENTIFIERs, one behind the other.
            answers: what OCSP responders say of clients; None where they are not asked.
            require_answer: whether nobody is good whom no responder calls good.
        """
        self._world = world
        self._gauge = gauge
        self._answers = answers
        self.on_unavailable = on_unavailable
        connections = ffi.NULL
        if gauge is not None:
            page, index = gauge
            connections = ffi.cast("uint64_t *", ffi.from_buffer(page)) + index
        self._usages = ffi.new("uint8_t[]", usages)  # C borrows them, as it does the page
        values = {
            "check": check,
            "on_unavailable": on_unavailable,
            "grace": int(grace),
            "disconnect_revoked": disconnect_revoked,
            "connections": connections,
            "usages": self._usages,
            "usages_length": len(usages),
            "answers": ffi.NULL if answers is None else answers.pointer,
            "require_answer": require_answer,
        }
        rules = ffi.new("gw_rules *", values)
        pointer = lib.gw_listener_new(world.pointer, rules)
        self.pointer = owned(pointer, lib.gw_listener_free)

    def add_ca(self, x509: int, *, parent: int | None) -> int:
        """Tell of a CA certificate in the listener's store, by the address of its X509 object.

        Args:
            x509: the address; the object must live as long as the listener's contexts.
            parent: index of the CA that issued it; None if it issued itself.

        Returns:
            Its index, counted from 0.
        """
        index = lib.gw_listener_add_ca(
            self.pointer, ffi.cast("void *", x509), -1 if parent is None else parent
        )
        if index < 0:
            raise GatewayError(
                "a CA certificate cannot be registered: no memory, or OpenSSL cannot encode it"
            )
        return int(index)


def arm_verification(ssl_ctx: int, mode: int) -> None:
    """Set the extension's verify callback on the SSL_CTX at this address, with `mode` (SSL_VERIFY_…)."""
    lib.gw_listener_arm(ffi.cast("void *", ssl_ctx), mode)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the lookup said, and why."""

    kind: VerdictKind
    let_in: bool
    depth: int
    error_code: int
    entry: Entry
    next_update: int
    open: bool = False
    """A responder has to be asked before it counts: until then this is what is left if none answers."""


def verdict_of(verdict: Any) -> Verdict:
    """A gw_verdict as a value."""
    return Verdict(
        kind=VerdictKind(verdict.verdict),
        let_in=bool(verdict.let_in),
        depth=verdict.depth,
        error_code=verdict.error_code,
        entry=Entry(verdict.entry.revocation_date, verdict.entry.reason),
        next_update=verdict.next_update,
        open=verdict.ask == lib.GW_ASK_FIRST and verdict.verdict != lib.GW_VERDICT_REVOKED,
    )
