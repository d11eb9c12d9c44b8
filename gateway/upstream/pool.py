"""The brokers behind a listener: which of them a client goes to, and what is known of each.

A worker has one pool a listener. It passes over a broker that did not take a client, and one
that the health checks say is down (`check`, in the control process). Where none is left but
some have only refused, they are tried all the same: there is nothing to lose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import trio

from gateway.errors import UpstreamError
from gateway.upstream.balance import FewestFirst, Turns, by_client
from gateway.upstream.connect import Sources, connect, numeric, reason
from gateway.upstream.standing import Standing
from gateway.upstream.tunnel import Tunnel

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from gateway.config.model import Address
    from gateway.upstream.tunnel import BrokerTls

CONNECT_TIMEOUT = 5.0
# For how long a broker that refused a client comes after the others.
SHUNNED = 5.0

Balance = Literal["round-robin", "least-connections", "client"]


class Connected(NamedTuple):
    """A broker, connected."""

    number: int
    """Which: its place in the configuration, from 0."""
    socket: socket.socket
    """Non-blocking, the caller's: for the relay."""
    preface: bytes
    """What is still to be said before the client's first byte."""
    tunnel: Tunnel | None = None
    """What has to run for as long as the connection, where the broker speaks TLS."""

    def close(self) -> None:
        """Nobody takes it."""
        self.socket.close()
        if self.tunnel is not None:
            self.tunnel.close()


class Upstream:
    """The brokers behind a listener; one that cannot be reached is passed over."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        balance: Balance = "round-robin",
        connect_timeout: float = CONNECT_TIMEOUT,
        sources: Sequence[str] = (),
        slow_start: float = 0.0,
        tls: BrokerTls | None = None,
    ) -> None:
        # What needs no resolver is looked at once, not for each connection.
        self._brokers = tuple((address, numeric(address)) for address in addresses)
        self._names = [str(address).encode() for address in addresses]
        self._standings = [Standing(slow_start) for _ in addresses]
        self._balance = balance
        self._timeout = connect_timeout
        self._sources = Sources(sources)
        self._tls = tls
        self._turns, self._fewest = Turns(len(addresses)), FewestFirst()
        self._closed: int | None = None
        self._changed = trio.Event()
        self.weigh: Callable[[int, float], None] = _nobody
        """Told each broker's number and share whenever one changes: who chooses without asking."""

    @property
    def numeric(self) -> bool:
        """Whether no broker's name has to be resolved."""
        return all(target is not None for _address, target in self._brokers)

    async def connect(self, identity: bytes = b"", preface: bytes = b"") -> Connected:
        """Connect to the broker whose turn it is, or to the next that can be reached.

        Args:
            identity: what the client is known by, where that chooses.
            preface: what a broker is told before the client's first byte.

        Raises:
            UpstreamError: none could be reached; names each with its reason.
        """
        reasons = []
        for number in self._order(identity):
            try:
                with trio.fail_after(self._timeout):
                    found = await self._connect(number, preface)
            except (OSError, trio.TooSlowError) as exc:
                self.refused(number)
                reasons.append(f"{self._brokers[number][0]}: {reason(exc, self._timeout)}")
            else:
                self._standings[number].took()
                return found
        if not reasons:
            raise UpstreamError("no broker could be reached: the health checks say that all are down")
        raise UpstreamError("no broker could be reached: " + "; ".join(reasons))

    async def _connect(self, number: int, preface: bytes) -> Connected:
        address, target = self._brokers[number]
        found = await connect(address, target, self._sources)
        if self._tls is None:
            return Connected(number, found, preface)
        tunnel = Tunnel(await self._tls.open(found, address, preface))
        return Connected(number, tunnel.relays_end, b"", tunnel)

    def refused(self, number: int) -> None:
        """A broker did not take a client."""
        self._standings[number].refused(trio.current_time() + SHUNNED)
        self._tell()

    def checked(self, up: Mapping[str, bool]) -> None:
        """What the health checks say, by address; brokers without a check are not in it."""
        now = trio.current_time()
        for (address, _target), standing in zip(self._brokers, self._standings, strict=True):
            standing.checked(now, up=up.get(str(address), True))
        self._tell()

    def lost_one(self) -> bool:
        """A client had to be closed because there is no broker; True for the first of them."""
        first = self._closed is None
        self._closed = (self._closed or 0) + 1
        self._tell()
        return first

    def recovered(self) -> int | None:
        """A broker was reached: how many clients were closed for want of one; None without an outage."""
        closed, self._closed = self._closed, None
        if closed is not None:
            self._tell()
        return closed

    def name(self, number: int) -> str:
        """The broker's address, as the configuration has it."""
        return str(self._brokers[number][0])

    def joined(self, number: int) -> None:
        """A client is relayed to a broker."""
        self._standings[number].live += 1

    def left(self, number: int) -> None:
        """A client has gone, perhaps one that came without `joined`: of those there is no use for a count."""
        self._standings[number].live -= 1

    async def tend(self) -> None:
        """Have shares change that change with time; until cancelled."""
        while True:
            self._tell()
            self._changed = trio.Event()
            now = trio.current_time()
            with trio.move_on_at(min(standing.changes_at(now) for standing in self._standings)):
                await self._changed.wait()

    def _tell(self) -> None:
        now = trio.current_time()
        for number, standing in enumerate(self._standings):
            # In an outage nobody chooses without asking: its end is noticed here.
            self.weigh(number, standing.share(now) if self._closed is None else 0.0)
        self._changed.set()

    def _order(self, identity: bytes) -> list[int]:
        now = trio.current_time()
        shares = [standing.share(now) for standing in self._standings]
        shunned = [float(standing.up) for standing in self._standings]
        order = self._by_share(shares if any(shares) else shunned, identity)
        # Those that refused somebody a moment ago are still better than none.
        return order + [number for number, up in enumerate(shunned) if up and number not in order]

    def _by_share(self, shares: Sequence[float], identity: bytes) -> list[int]:
        match self._balance:
            case "round-robin":
                return self._turns.order(shares)
            case "least-connections":
                return self._fewest.order(shares, [standing.live for standing in self._standings])
            case "client":
                return by_client(identity, self._names, shares)


def _nobody(_number: int, _share: float) -> None:
    """Nobody chooses without asking."""
