"""The protocol that a listener and its client agree upon (csrc/alpn.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.native.binding import ffi, lib, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable


class Protocols:
    """The protocols of a listener, the best first (RFC 7301)."""

    def __init__(self, names: Iterable[bytes]) -> None:
        """Make the list of `names`, each of 1 to 255 octets."""
        self._octets = ffi.new("uint8_t[]", _wire(names) + b"\0")  # C borrows them

    def select(self, offered: Iterable[bytes]) -> bytes | None:
        """The one for a client that offers these, as a handshake selects it; None where there is none."""
        wire = _wire(offered)
        selected, length = ffi.new("uint8_t **"), ffi.new("uint8_t *")
        octets = ffi.new("uint8_t[]", wire)
        failed = lib.gw_alpn_select(ffi.NULL, selected, length, octets, len(wire), self._octets)
        return None if failed else to_bytes(selected[0], length[0])

    def attach(self, ssl_ctx: int) -> None:
        """Make the SSL_CTX at this address select from here; the list must outlive it."""
        lib.gw_alpn_attach(ffi.cast("void *", ssl_ctx), self._octets)


def _wire(names: Iterable[bytes]) -> bytes:
    return b"".join(bytes([len(name)]) + name for name in names)
