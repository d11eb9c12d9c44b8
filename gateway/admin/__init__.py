"""The admin interface, run by the control process: `serve` answers on one socket what `Desk` knows.

http.py has the protocol, access.py who may ask, app.py the URLs; the rest is what they answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from gateway.admin import http
from gateway.admin.access import Access
from gateway.admin.app import App, Desk
from gateway.admin.history import PACE, History

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from structlog.typing import FilteringBoundLogger

__all__ = ["Desk", "History", "serve"]


async def serve(
    listening: socket.socket, token: bytes | None, hosts: Iterable[str], desk: Desk, log: FilteringBoundLogger
) -> None:
    """Answer until cancelled, and keep the samples of the last hour."""
    app = App(Access(token, hosts), desk, log, trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(http.serve, listening, app, log)
        while True:
            desk.history.sample(time.time())
            await trio.sleep(PACE)
