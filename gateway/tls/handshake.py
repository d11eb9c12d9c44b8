"""One TLS handshake: trio waits, C steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from gateway.native import Step

if TYPE_CHECKING:
    from gateway.native import Conn


async def perform(conn: Conn, fd: int) -> bool:
    """Drive the handshake on the client's socket `fd` to its end; the caller bounds the time.

    With TCP_DEFER_ACCEPT the ClientHello is there before the first step, so that
    a full handshake waits once: for the client's certificate and Finished.

    Returns:
        True when it is over and good; False when it failed (`conn.error` says why).
    """
    while True:
        step = conn.handshake()
        if step is Step.WANT_READ:
            await trio.lowlevel.wait_readable(fd)
        elif step is Step.WANT_WRITE:
            await trio.lowlevel.wait_writable(fd)
        else:
            return step is Step.DONE
