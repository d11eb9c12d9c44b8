"""Health checks: whether a broker is there, asked now and then by connecting to it.

They run in the control process, once for each broker however many workers there are: a broker's
log shows one connection per interval, all workers hear the same, and readiness is known where
it is asked for. Without a control process the workers go on with what they have heard, and
with what they notice themselves (`pool`).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import trio

from gateway.upstream.client import preface_of_our_own
from gateway.upstream.connect import Sources, connect, numeric, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from gateway.config.model import Address, Listener
    from gateway.upstream.tunnel import BrokerTls

# Seconds between checks while a broker may have died or come back.
_IN_DOUBT = 1.0


@dataclass
class Streak:
    """Up or down after so many checks in a row that say so; up at first."""

    rise: int
    fall: int
    up: bool = True
    _against: int = 0

    @property
    def in_doubt(self) -> bool:
        """Whether the last check said otherwise, and there have not been enough of them."""
        return self._against > 0

    def heard(self, *, good: bool) -> bool:
        """A check is over; whether that makes a difference."""
        self._against = 0 if good == self.up else self._against + 1
        if self._against < (self.fall if self.up else self.rise):
            return False
        self.up, self._against = not self.up, 0
        return True


class Checks:
    """The health checks of all listeners that have them.

    `changed` is told the listener's name, the broker's address and whether it is up from now on.
    """

    def __init__(
        self,
        listeners: Iterable[Listener],
        changed: Callable[[str, str, bool], None],
        log: FilteringBoundLogger,
        tls: Mapping[str, BrokerTls | None] = MappingProxyType({}),
    ) -> None:
        """`tls` is how the brokers of a listener are spoken to, by its name, where they speak TLS."""
        self._listeners = [listener for listener in listeners if listener.health_check.enabled]
        self._streaks = {
            listener.name: {
                address: Streak(listener.health_check.rise, listener.health_check.fall)
                for address in listener.upstreams
            }
            for listener in self._listeners
        }
        self._changed = changed
        self._log = log
        self._tls = tls

    async def run(self) -> None:
        """Check for ever."""
        async with trio.open_nursery() as nursery:
            for listener in self._listeners:
                for address in self._streaks[listener.name]:
                    nursery.start_soon(self._watch, listener, address)

    def standings(self) -> dict[str, dict[str, bool]]:
        """Whether each broker is up, by the listener's name and the broker's address."""
        return {
            name: {str(address): streak.up for address, streak in streaks.items()}
            for name, streaks in self._streaks.items()
        }

    def without_broker(self) -> Sequence[str]:
        """The names of the listeners whose brokers are all down: no client comes in there."""
        return [
            name for name, streaks in self._streaks.items() if not any(each.up for each in streaks.values())
        ]

    async def _watch(self, listener: Listener, address: Address) -> None:
        sources, streak = Sources(listener.source_addresses), self._streaks[listener.name][address]
        while True:
            error = await _fault(listener, address, sources, self._tls.get(listener.name))
            if streak.heard(good=error is None):
                self._tell(listener, address, error)
            interval = listener.health_check.interval
            await trio.sleep(min(interval, _IN_DOUBT) if streak.in_doubt else interval)

    def _tell(self, listener: Listener, address: Address, error: str | None) -> None:
        log = self._log.bind(listener=listener.name)
        self._changed(listener.name, str(address), error is None)
        if error is None:
            log.info("broker up", broker=str(address))
            return
        log.warning("broker down", broker=str(address), error=error)
        if listener.name in self.without_broker():
            log.error("no broker left", consequence="clients are closed until one is up")


async def _fault(listener: Listener, address: Address, sources: Sources, tls: BrokerTls | None) -> str | None:
    """Why a broker cannot be reached, None where it can; one that speaks TLS, with TLS."""
    timeout = listener.health_check.timeout
    try:
        with trio.fail_after(timeout):
            found = await connect(address, numeric(address), sources)
            # A broker that waits for a header would complain of a connection without it.
            header = preface_of_our_own(listener.proxy_protocol)
            if tls is not None:
                await (await tls.open(found, address, header)).aclose()
                return None
            with found:
                if header:
                    found.send(header)
    except (OSError, trio.TooSlowError) as exc:
        return reason(exc, timeout)
    return None
