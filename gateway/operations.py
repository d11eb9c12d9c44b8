"""What an operator may do to the running gateway: revoke, take back, refresh, look. In the control process.

Everything it works on is handed to it; `commands` brings what is asked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from gateway import names, status, status_text
from gateway.commands import Answer, Drain, ListRevoked, Refresh, Reload, Revoke, Status, Unrevoke
from gateway.config.values import one_line
from gateway.errors import GatewayError, StoreError
from gateway.fetch import display_url
from gateway.refresh import LONGEST, Outcome, ask_now
from gateway.revocation import local, policy
from gateway.revocation.local import LocalRevocation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from gateway.commands import Command
    from gateway.revocation.serials import Look, SerialFiles
    from gateway.schedule import Source

# Seconds from one look at the files of revoked_serials to the next.
_LOOK = 1.0
# Commands to refresh that wait at a time: those that revoke are not to queue behind sources that hang.
_MOST_REFRESHES = 8
# Certificates that are revoked by hand: for more there are files, and CRLs.
_MOST_BY_HAND = 10_000


class Refreshable(Protocol):
    """A refresher of a list or of a staple."""

    @property
    def schedule(self) -> Source:
        """What asks its source."""


class Tables(Protocol):
    """`revocation.table.Tables`, as far as it is needed here."""

    async def revoke_locally(self, *entries: Mapping[bytes, bytes]) -> None:
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

    `files` are those of revoked_serials, `sources` gives kind ("list" or "staple") and
    refresher of every source, `issuers` the Names (DER) of all known CAs, `look` how the gateway is;
    `late` waits for the workers to put in force what is published, and counts those that have not;
    `reload` begins to take the configuration and tells whether it could check it before, and raises
    ConfigError where it is not good;
    `drain` has the gateway begin to end; it raises GatewayError where it does already;
    `ask_anew` has responders asked again about clients, all or that of a URL, and gives their URLs.
    """

    def __init__(
        self,
        tables: Tables,
        store: Store,
        files: SerialFiles,
        sources: Callable[[], Iterable[tuple[str, Refreshable]]],
        issuers: Callable[[], Iterable[bytes]],
        look: Callable[[], status.Status],
        log: FilteringBoundLogger,
        *,
        late: Callable[[], Awaitable[int]],
        reload: Callable[[], Awaitable[bool]],
        drain: Callable[[], None],
        ask_anew: Callable[[str | None], Sequence[str]] = lambda _url: (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tables = tables
        self._store = store
        self._files = files
        self._sources = sources
        self._issuers = issuers
        self._look = look
        self._late = late
        self._reload = reload
        self._drain = drain
        self._ask_anew = ask_anew
        self._log = log
        self._now = now
        self._revoked: tuple[LocalRevocation, ...] = ()
        """By hand."""
        self._fixed: tuple[LocalRevocation, ...] = ()
        """By the files, as far as it is in force."""
        self._in_force: tuple[tuple[LocalRevocation, ...], Mapping[bytes, bytes]] = ((), {})
        """By hand, and entries by the files."""
        self._problem: str | None = None
        self._strange: list[str] = []
        self._lock = trio.Lock()
        self._refreshing = 0

    @property
    def revoked(self) -> tuple[int, int]:
        """How many certificates are revoked by hand, and by the configuration."""
        return len(self._revoked), len(self._fixed)

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps certificates from being revoked that should be, or the other way round."""
        unread = (f"revoked_serials: {problem}" for problem in self._files.problems)
        return (*unread, *([f"not in force: {self._problem}"] if self._problem is not None else []))

    async def restore(self) -> None:
        """Put in force what was revoked before a restart, and what the files of revoked_serials say.

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
        await self._follow(first=True)

    async def watch(self) -> None:
        """Follow the files of revoked_serials, until cancelled."""
        while True:
            # Whether one was written to is seen at once, but for what its stamps do not show.
            with trio.move_on_after(_LOOK):
                await self._files.stirred()
            await self._follow()

    async def _follow(self, *, first: bool = False, asked: bool = False) -> list[Look]:
        """Read the files that have changed, and put in force what is not, by hand or by them."""
        looks = await self._files.look(asked=asked)
        for look in looks:
            if look.problem is not None and not look.told:
                self._log.warning(
                    "revoked serials not read", error=look.problem, consequence="what it said before stays"
                )
            elif look.problem is None and (look.more or look.less or first):
                self._log.info(
                    "revoked serials read",
                    file=look.file,
                    revoked=look.revoked,
                    more=look.more,
                    less=look.less,
                )
        async with self._lock:
            if self._files.revocations is not self._fixed or self._revoked != self._in_force[0]:
                await self._settle()
        return looks

    async def _settle(self) -> None:
        problem = None
        try:
            await self._put_in_force(self._revoked, self._files.revocations)
        except GatewayError as exc:
            problem = str(exc)
        if problem is not None and problem != self._problem:
            self._log.error(
                "local revocations not in force", error=problem, consequence="tried again each second"
            )
        self._problem = problem
        strange = self._strangers(self._fixed)
        if strange and strange != self._strange:
            self._log.warning("revoked serials of no known CA", issuers="; ".join(strange))
        self._strange = strange

    def _strangers(self, revocations: Iterable[LocalRevocation]) -> list[str]:
        """The issuers that are no CA that the gateway knows: it has no effect before one is."""
        known = {names.canonical_name(name) for name in self._issuers()}
        issuers = dict.fromkeys(each.issuer for each in revocations)
        return [names.printable_der(name) for name in issuers if names.canonical_name(name) not in known]

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
                # Tens of thousands take a while to describe.
                return await trio.to_thread.run_sync(_list, (*self._fixed, *self._revoked))
            case Status():
                return self._status()
            case Reload() | Drain():
                return await self._have_supervisor(command, by)

    async def _have_supervisor(self, command: Reload | Drain, by: str) -> Answer:
        if isinstance(command, Reload):
            checked = await self._reload()
            self._log.info("reload asked for", by=by)
            done = "the configuration is good, and is being taken; the log tells of an address that is taken"
            return Answer(ok=True, lines=(done if checked else "asked for; the log tells what comes of it",))
        self._drain()
        self._log.warning("drain asked for", by=by)
        return Answer(ok=True, lines=("nobody comes in any more; it ends when the last has gone",))

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
            revoked = local.add(self._revoked, new)
            if len(revoked) > _MOST_BY_HAND:
                raise GatewayError(
                    f"{_MOST_BY_HAND} certificates are revoked by hand, which is all that can be: "
                    "use revoked_serials, or a CRL; nothing is revoked"
                )
            # In force first: a file that cannot be written must not keep it from that.
            await self._put_in_force(revoked, self._fixed)
            kept = await self._keep()
        self._log.warning(
            "revoked locally",
            issuer=names.printable_der(new.issuer),
            serial=names.serial_hex(new.serial),
            reason=new.reason,
            by=by,
        )
        late = await self._missing()
        how = "revoked" if late else "revoked and in force"
        lines = [f"{how}: {_certificate(new)}, {new.reason}", *kept, *late]
        lines += [
            f"warning: no CA that the gateway knows is called {name}; it has no effect before one is"
            for name in self._strangers([new])
        ]
        return Answer(ok=True, lines=tuple(lines))

    async def _unrevoke(self, command: Unrevoke, by: str) -> Answer:
        serial = _serial(command.serial)
        asked = LocalRevocation(command.issuer, serial, "unspecified", 0, by)
        async with self._lock:
            named = local.find(self._files.revocations, command.issuer, serial)
            rest = local.remove(self._revoked, command.issuer, serial)
            if rest == self._revoked:
                why = "is not revoked by hand"
                if named is not None:
                    why = f"is revoked by {named.by}: take that line out"
                raise GatewayError(f"{_certificate(asked)} {why}; nothing is changed")
            await self._put_in_force(rest, self._fixed)
            kept = await self._keep()
        self._log.warning(
            "local revocation taken back",
            issuer=names.printable_der(command.issuer),
            serial=names.serial_hex(serial),
            by=by,
        )
        lines = [f"not revoked by hand any more: {_certificate(asked)}", *kept, *await self._missing()]
        if named is not None:
            lines.append(f"warning: it stays revoked by {named.by}: take that line out, too")
        return Answer(ok=True, lines=tuple(lines))

    async def _put_in_force(
        self, revoked: tuple[LocalRevocation, ...], fixed: tuple[LocalRevocation, ...]
    ) -> None:
        entries = self._in_force[1]
        if fixed is not self._fixed:
            entries = await trio.to_thread.run_sync(local.entries, fixed)
        if (revoked, entries) != self._in_force:
            await self._tables.revoke_locally(entries, local.entries(revoked))
        self._revoked, self._fixed, self._in_force = revoked, fixed, (revoked, entries)

    async def _keep(self) -> list[str]:
        """Keep what is in force; a line if that fails, because it is in force all the same."""
        try:
            await trio.to_thread.run_sync(self._store.save_local, local.encode(self._revoked))
        except StoreError as exc:
            self._log.error("local revocations not kept", error=str(exc))
            return [f"warning: in force until the control process restarts, but not kept: {exc}"]
        return []

    async def _missing(self) -> list[str]:
        """A line where there are workers that have not put in force what is published."""
        late = await self._late()
        if not late:
            return []
        return [f"warning: not in force in {late} workers yet: they do it when they answer, or start again"]

    async def _refresh(self, url: str | None) -> Answer:
        chosen = [
            (kind, refresher.schedule)
            for kind, refresher in self._sources()
            if url is None or url in (refresher.schedule.state.url, display_url(refresher.schedule.state.url))
        ]
        asked = self._ask_anew(url)
        if not chosen and not asked and url is not None:
            what = f"{display_url(url)}: no source has this URL"
            raise GatewayError(f"{what}; `tls-gateway status` lists them; nothing is fetched")
        if self._refreshing >= _MOST_REFRESHES:
            raise GatewayError(f"{_MOST_REFRESHES} refreshes are under way; nothing is fetched")
        self._refreshing += 1
        outcomes = [
            Outcome(good=True, line=f"{each}: asked again about each client that is connected")
            for each in asked
        ]
        try:
            async with trio.open_nursery() as nursery:
                for kind, source in chosen:
                    nursery.start_soon(ask_now, kind, source, outcomes)
                if url is None:
                    nursery.start_soon(self._read_now, outcomes)
        finally:
            self._refreshing -= 1
        if not outcomes:
            raise GatewayError("there are no sources; nothing is fetched")
        outcomes.sort(key=lambda each: each.line)
        outcomes += [Outcome(good=False, line=line) for line in await self._missing()]
        return Answer(ok=all(each.good for each in outcomes), lines=tuple(each.line for each in outcomes))

    async def _read_now(self, outcomes: list[Outcome]) -> None:
        with trio.move_on_after(LONGEST) as scope:
            outcomes += map(_file_outcome, await self._follow(asked=True))
            if self._problem is not None:
                outcomes.append(Outcome(good=False, line=f"not in force: {self._problem}"))
        if scope.cancelled_caught:
            outcomes.append(Outcome(good=False, line=f"revoked_serials: no end within {LONGEST:g} s"))

    def _status(self) -> Answer:
        found = self._look()
        return Answer(ok=True, lines=tuple(status_text.lines(found)), data=msgspec.json.encode(found))


def _list(revocations: Sequence[LocalRevocation]) -> Answer:
    named = {issuer: names.printable_der(issuer) for issuer in {each.issuer for each in revocations}}
    described = [
        {
            "issuer": named[each.issuer],
            "serial": names.serial_hex(each.serial),
            "reason": each.reason,
            "revoked_at": policy.moment(each.revoked_at),
            "by": each.by,
            "note": each.note,
        }
        for each in revocations
    ]
    lines = tuple("  ".join(filter(None, each.values())) for each in described)
    return Answer(ok=True, lines=lines, data=msgspec.json.encode(described))


def _serial(text: str) -> int:
    try:
        return names.parse_serial(text)
    except ValueError as exc:
        raise GatewayError(f"serial {one_line(text[:80])}: {exc}; nothing is changed") from exc


def _certificate(one: LocalRevocation) -> str:
    return f"serial {names.serial_hex(one.serial)} of {names.printable_der(one.issuer)}"


def _file_outcome(look: Look) -> Outcome:
    if look.problem is not None:
        return Outcome(good=False, line=f"{look.problem}; what it said before stays")
    changes = f"{look.more} more and {look.less} fewer than before"
    changes = changes if look.more or look.less else "unchanged"
    return Outcome(good=True, line=f"{look.file}: {changes}, {look.revoked} revoked")
