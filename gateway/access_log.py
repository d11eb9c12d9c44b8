"""The access log: one line about each connection when it is over, whatever became of it.

Every line has every value, so that one pattern finds all of them; what is not known is empty.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from gateway.revocation import policy
from gateway.tls import openssl
from gateway.tls.handshake import examine

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gateway.native import Conn

_NOBODY = {"subject": "", "issuer": "", "serial": ""}


class Over(NamedTuple):
    """How a connection ended."""

    end: str
    detail: str = ""
    broker: str = ""
    """Whom the client was talking to; empty where it did not come in."""
    seconds: float = 0.0
    """How long it was."""
    bytes_in: int = 0
    bytes_out: int = 0


def write(log: FilteringBoundLogger, conn: Conn, over: Over) -> None:
    """Write the line of `conn`, which is not freed yet; `log` knows the listener."""
    info, tls = examine(conn), openssl.established(conn.ssl)
    came = datetime.fromtimestamp(time.time() - over.seconds, UTC)
    log.info(
        "connection over",
        peer=conn.peer,
        **(_NOBODY | policy.describe_client(info.leaf)),
        server_name=tls.server_name.decode("ascii", "backslashreplace"),
        alpn=tls.alpn.decode("ascii", "backslashreplace"),
        tls=info.version if tls.cipher else "",
        cipher=tls.cipher,
        resumed=info.resumed,
        verdict=policy.verdict_text(info.verdict),
        broker=over.broker,
        end=over.end,
        detail=over.detail,
        came=came.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        seconds=round(over.seconds, 3),
        bytes_in=over.bytes_in,
        bytes_out=over.bytes_out,
    )


def ignore(_conn: Conn, _over: Over) -> None:
    """Where there is none."""
