"""Which certificate a client is shown, and what is stapled to it (csrc/sni.h, staple.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import GatewayError
from gateway.native.binding import ffi, lib, owned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from mmap import mmap


class ServerNames:
    """The SSL_CTX to go on with, by the name that a client asks for."""

    def __init__(self, contexts: Mapping[str, int]) -> None:
        """Make the table of the names of `contexts`, each with the address of its SSL_CTX.

        Names are lower case and without a dot at their end; "*.example.com" is for those
        that have one label more than example.com.
        """
        # C borrows all of it.
        self._names = {name: ffi.new("char[]", name.encode("ascii")) for name in sorted(contexts)}
        entries = [(text, ffi.cast("void *", contexts[name])) for name, text in self._names.items()]
        self._entries = ffi.new("gw_sni_name[]", entries)
        self.pointer = ffi.new("gw_sni *", (self._entries, len(entries)))

    def find(self, host: bytes) -> int | None:
        """The address of the context for `host`, as a handshake finds it."""
        found = int(ffi.cast("uintptr_t", lib.gw_sni_find(self.pointer, host)))
        return found or None

    def attach(self, ssl_ctx: int) -> None:
        """Look names up here in handshakes of the SSL_CTX at this address; the table must outlive them."""
        lib.gw_sni_attach(self.pointer, ffi.cast("void *", ssl_ctx))


class StapleSlot:
    """The OCSP response of one certificate of an SSL_CTX (RFC 6066, section 8)."""

    def __init__(self, x509: int, counters: mmap | None = None, *, another: StapleSlot | None = None) -> None:
        """Make an empty slot for the certificate whose X509 is at this address.

        `another` is the slot of another certificate of the same SSL_CTX.
        """
        self._counters = counters
        self._another = another
        self._octets: Any = None
        page = ffi.NULL if counters is None else ffi.cast("uint64_t *", ffi.from_buffer(counters))
        following: Any = ffi.NULL if another is None else another.pointer
        made = lib.gw_staple_new(page, ffi.cast("void *", x509), following)
        self.pointer: Any = owned(made, lib.gw_staple_free)

    def attach(self, ssl_ctx: int) -> None:
        """Make the SSL_CTX at this address staple from here and from `another`; the slots must outlive it."""
        if not lib.gw_staple_attach(self.pointer, ffi.cast("void *", ssl_ctx)):
            raise GatewayError("OpenSSL refused the OCSP status callback")

    def set(self, der: bytes, expires: int) -> None:
        """Staple `der` until `expires` (seconds since 1970); empty bytes for none."""
        octets = ffi.from_buffer(der)
        lib.gw_staple_set(self.pointer, octets, len(der), expires)
        self._octets = octets  # C borrows them until it has others
