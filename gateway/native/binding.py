"""The door to the extension: what it exports, its enumerations, and how its values become Python's."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from gateway import _native  # type: ignore[attr-defined]  # made by cffi, typed by this package
from gateway.metrics import Counter

ffi: Any = _native.ffi
lib: Any = _native.lib

if any(getattr(lib, f"GW_COUNT_{counter.name}", None) != counter for counter in Counter):
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


class Subjects(IntEnum):
    """Which certificates a list is about (RFC 5280, section 5.2.5)."""

    ALL = lib.GW_ALL_SUBJECTS
    USERS = lib.GW_USERS_ONLY
    CAS = lib.GW_CAS_ONLY


class VerdictKind(IntEnum):
    """What the lookup said of a client."""

    NONE = lib.GW_VERDICT_NONE
    GOOD = lib.GW_VERDICT_GOOD
    REVOKED = lib.GW_VERDICT_REVOKED
    NO_LIST = lib.GW_VERDICT_NO_LIST
    STALE = lib.GW_VERDICT_STALE
    NO_ANSWER = lib.GW_VERDICT_NO_ANSWER
    UNTRUSTED = lib.GW_VERDICT_UNTRUSTED


class AnswerStatus(IntEnum):
    """What an OCSP responder said of a certificate (csrc/answers.h)."""

    NONE = lib.GW_ANSWER_NONE
    UNKNOWN = lib.GW_ANSWER_UNKNOWN
    GOOD = lib.GW_ANSWER_GOOD
    REVOKED = lib.GW_ANSWER_REVOKED


class Step(IntEnum):
    """How far a handshake got."""

    FAILED = lib.GW_HANDSHAKE_FAILED
    DONE = lib.GW_HANDSHAKE_DONE
    WANT_READ = lib.GW_HANDSHAKE_WANT_READ
    WANT_WRITE = lib.GW_HANDSHAKE_WANT_WRITE
    TIMED_OUT = lib.GW_HANDSHAKE_TIMED_OUT
    NOT_BEGUN = lib.GW_HANDSHAKE_NOT_BEGUN


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


def new_error() -> Any:
    """An empty gw_error, as the last argument of a call that may fail."""
    return ffi.new("gw_error *")


def error_text(error: Any) -> str:
    """What a failed call wrote there."""
    return bytes(ffi.string(error.text)).decode("utf-8", "replace")


def to_bytes(pointer: Any, length: int) -> bytes:
    """A copy of `length` octets of C."""
    return bytes(ffi.buffer(pointer, length)) if length else b""


def to_text(text: Any) -> str:
    """A C string, or "" for NULL."""
    return "" if text == ffi.NULL else bytes(ffi.string(text)).decode("utf-8", "replace")


class Issuer:
    """A gw_issuer at `pointer`, which borrows these octets: DER of a Name and of a SubjectPublicKeyInfo."""

    __slots__ = ("_octets", "pointer")

    def __init__(self, name: bytes, key: bytes) -> None:
        self._octets = [ffi.from_buffer(name), ffi.from_buffer(key)]
        self.pointer = ffi.new(
            "gw_issuer *",
            [item for blob in self._octets for item in (ffi.cast("uint8_t *", blob), len(blob))],
        )


def owned(pointer: Any, release: Any) -> Any:
    """`pointer`, to be released when it is collected; MemoryError for NULL."""
    if pointer == ffi.NULL:
        raise MemoryError
    return ffi.gc(pointer, release)
