"""What an operator may do to the running gateway: revoke, take back, refresh, look. In the control process.

Everything it works on is handed to it; `commands` brings what is asked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from gateway import names, status
from gateway.commands import Answer, ListRevoked, Refresh, Revoke, Status, Unrevoke
from gateway.config.values import one_line
from gateway.errors import GatewayError, StoreError
from gateway.fetch import display_url
from gateway.revocation import local, policy
from gateway.revocation.local import LocalRevocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from structlog.typing import FilteringBoundLogger

    from gateway.commands import Command
    from gateway.schedule import Source, SourceState

# Seconds that `refresh` waits for; a source that hangs goes on without it.
LONGEST_REFRESH = 120.0


class Refreshable(Protocol):
    """A refresher of a list or of a staple."""

    @property
    def schedule(self) -> Source:
        """What asks its source."""


class Tables(Protocol):
    """`revocation.table.Tables`, as far as it is needed here."""

    async def revoke_locally(self, entries: Mapping[bytes, bytes]) -> None:
        """Replace what is revoked without a list."""


class Store(Protocol):
    """`StateStore`, as far as it is needed here."""

    def load_local(self) -> tuple[bytes | None, str | None]:
        """What was kept, and a problem."""

    def save_local(self, payload: bytes) -> None:
        """Keep it; raises StoreError."""

    def set_local_aside(self) -> str:
        """It cannot be used; say what was done."""


class Operations:
    """Does what `commands.serve` hears: a `commands.Handler`.

    `sources` gives kind ("list" or "staple") and refresher of every source, `issuers`
    the Names (DER) of all known CAs, `look` how the gateway is; `fixed` is revoked by the configuration.
    """

    def __init__(
        self,
        tables: Tables,
        store: Store,
        sources: Callable[[], Iterable[tuple[str, Refreshable]]],
        issuers: Callable[[], Iterable[bytes]],
        look: Callable[[], status.Status],
        log: FilteringBoundLogger,
        *,
        fixed: tuple[LocalRevocation, ...] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tables = tables
        self._store = store
        self._sources = sources
        self._issuers = issuers
        self._look = look
        self._log = log
        self._fixed = fixed
        self._now = now
        self._revoked: tuple[LocalRevocation, ...] = ()
        self._lock = trio.Lock()

    @property
    def revoked(self) -> tuple[int, int]:
        """How many certificates are revoked by hand, and by the configuration."""
        return len(self._revoked), len(self._fixed)

    async def restore(self) -> None:
        """Put in force what was revoked before a restart, and by the configuration.

        Never raises for what it finds: what cannot be used is told, and the start goes on.
        """
        payload, problem = await trio.to_thread.run_sync(self._store.load_local)
        if payload is not None:
            try:
                self._revoked = local.decode(payload)
            except GatewayError as exc:
                problem = f"{exc}; {await trio.to_thread.run_sync(self._store.set_local_aside)}"
        if problem is not None:
            self._log.error("local revocations lost", problem=problem)
        if not self._revoked and not self._fixed:
            return
        try:
            await self._put_in_force(self._revoked)
        except GatewayError as exc:
            self._log.error("local revocations not in force", error=str(exc))

    async def handle(self, command: Command, by: str) -> Answer:
        """Do it; raises GatewayError where it cannot be done."""
        match command:
            case Revoke():
                return await self._revoke(command, by)
            case Unrevoke():
                return await self._unrevoke(command, by)
            case Refresh():
                return await self._refresh(command.url)
            case ListRevoked():
                return self._list()
            case Status():
                return self._status()

    async def _revoke(self, command: Revoke, by: str) -> Answer:
        new = local.checked(
            LocalRevocation(
                command.issuer,
                _serial(command.serial),
                command.reason,
                int(self._now()),
                by,
                one_line(command.note),
            )
        )
        async with self._lock:
            # In force first: a file that cannot be written must not keep it from that.
            await self._put_in_force(local.add(self._revoked, new))
            lines = [f"revoked and in force: {_certificate(new)}, {new.reason}"]
            lines += await self._keep()
        self._log.warning(
            "revoked locally",
            issuer=names.printable_der(new.issuer),
            serial=names.serial_hex(new.serial),
            reason=new.reason,
            by=by,
        )
        known = {names.canonical_name(name) for name in self._issuers()}
        if names.canonical_name(new.issuer) not in known:
            lines.append(
                f"warning: no CA that the gateway knows is called {names.printable_der(new.issuer)}; "
                "it has no effect before one is"
            )
        return Answer(ok=True, lines=tuple(lines))

    async def _unrevoke(self, command: Unrevoke, by: str) -> Answer:
        serial = _serial(command.serial)
        asked = LocalRevocation(command.issuer, serial, "unspecified", 0, by)
        async with self._lock:
            rest = local.remove(self._revoked, command.issuer, serial)
            if rest == self._revoked:
                raise GatewayError(f"{_certificate(asked)} is not revoked by hand; nothing is changed")
            await self._put_in_force(rest)
            lines = [f"not revoked by hand any more: {_certificate(asked)}"]
            lines += await self._keep()
        self._log.warning(
            "local revocation taken back",
            issuer=names.printable_der(command.issuer),
            serial=names.serial_hex(serial),
            by=by,
        )
        if local.remove(self._fixed, command.issuer, serial) != self._fixed:
            lines.append("warning: it stays out: revoked_serials of the configuration has it")
        return Answer(ok=True, lines=tuple(lines))

    async def _put_in_force(self, revoked: tuple[LocalRevocation, ...]) -> None:
        await self._tables.revoke_locally(local.entries((*self._fixed, *revoked)))
        self._revoked = revoked

    async def _keep(self) -> list[str]:
        """Keep what is in force; a line if that fails, because it is in force all the same."""
        try:
            await trio.to_thread.run_sync(self._store.save_local, local.encode(self._revoked))
        except StoreError as exc:
            self._log.error("local revocations not kept", error=str(exc))
            return [f"warning: in force until the control process restarts, but not kept: {exc}"]
        return []

    async def _refresh(self, url: str | None) -> Answer:
        chosen = [
            (kind, refresher.schedule)
            for kind, refresher in self._sources()
            if url is None or url in (refresher.schedule.state.url, display_url(refresher.schedule.state.url))
        ]
        if not chosen:
            what = "there are no sources" if url is None else f"{display_url(url)}: no source has this URL"
            raise GatewayError(f"{what}; `tls-gateway status` lists them; nothing is fetched")
        lines: list[tuple[bool, str]] = []

        async def one(kind: str, source: Source) -> None:
            before = _identity(source.state)
            with trio.move_on_after(LONGEST_REFRESH) as scope:
                await source.refresh()
            lines.append(_outcome(kind, source.state, before, over=not scope.cancelled_caught))

        async with trio.open_nursery() as nursery:
            for kind, source in chosen:
                nursery.start_soon(one, kind, source)
        lines.sort(key=lambda each: each[1])
        return Answer(ok=all(good for good, _line in lines), lines=tuple(line for _good, line in lines))

    def _list(self) -> Answer:
        everything = (*self._fixed, *self._revoked)
        described = [
            {
                "issuer": names.printable_der(each.issuer),
                "serial": names.serial_hex(each.serial),
                "reason": each.reason,
                "revoked_at": policy.moment(each.revoked_at),
                "by": each.by,
                "note": each.note,
            }
            for each in everything
        ]
        lines = ["  ".join(filter(None, each.values())) for each in described]
        return Answer(ok=True, lines=tuple(lines), data=msgspec.json.encode(described))

    def _status(self) -> Answer:
        found = self._look()
        return Answer(ok=True, lines=tuple(status.lines(found)), data=msgspec.json.encode(found))


def _serial(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise GatewayError(
            f"serial {one_line(text[:80])}: expected hexadecimal; nothing is changed"
        ) from None


def _certificate(one: LocalRevocation) -> str:
    return f"serial {names.serial_hex(one.serial)} of {names.printable_der(one.issuer)}"


def _identity(state: SourceState) -> tuple[object, ...]:
    return state.this_update, state.next_update, state.number, state.entries


def _outcome(kind: str, state: SourceState, before: tuple[object, ...], *, over: bool) -> tuple[bool, str]:
    """Whether it went well, and the line that tells what came of it."""
    url = display_url(state.url)
    if not over:
        return False, f"{url}: no end within {LONGEST_REFRESH:g} s; it goes on"
    if state.last_error is not None:
        return False, f"{url}: failed: {one_line(state.last_error.removeprefix(f'{url}: '))}"
    if _identity(state) == before:
        return True, f"{url}: unchanged"
    return True, f"{url}: new {kind} in force: {_condition(state)}"


def _condition(state: SourceState) -> str:
    parts = []
    if state.this_update is None:
        parts.append("nothing in force")
    if state.number is not None:
        parts.append(f"number {state.number}")
    if state.entries is not None:
        parts.append(f"{state.entries} entries")
    if state.next_update is not None:
        parts.append(f"good until {policy.moment(state.next_update)}")
    if state.last_error is not None:
        parts.append(f"failed {state.consecutive_failures} times: {one_line(state.last_error)}")
    return ", ".join(parts) or "in force"
