"""The files of `revoked_serials`: what they revoke, looked at again and again while the gateway runs.

A file that cannot be read or used changes nothing. What it has more than before counts
at once; what it has less, when a second look has found the same: who writes a file in
place empties it first.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeVar, TypeVarTuple

import trio

from gateway.config import serials
from gateway.config.values import one_line
from gateway.errors import ConfigError
from gateway.names import issuer_id
from gateway.revocation.local import LAST_MOMENT, LocalRevocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from gateway.config.material import ListenerMaterial
    from gateway.config.serials import Line, Raw, SerialFile

    Revoked = Mapping[tuple[bytes, int], LocalRevocation]
    """By issuer's Name (DER) and serial."""

# Seconds from one glance at whether a file has been written to, to the next.
_GLANCE = 0.1
Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class Look(NamedTuple):
    """What came of reading a file: how much it revokes, and how much more and less than before; or a problem.

    `told` says that the last look has met the same problem.
    """

    file: str
    revoked: int
    more: int = 0
    less: int = 0
    problem: str | None = None
    told: bool = False


class SerialFiles:
    """All files that the listeners name. A file of several holds for the CAs of all of them."""

    def __init__(self, materials: Iterable[ListenerMaterial]) -> None:
        """Take over what was read with the configuration."""
        found: dict[Path, tuple[SerialFile, dict[bytes, None]]] = {}
        for material in materials:
            if material.revoked_serials is not None:
                file = material.revoked_serials
                _, issuers = found.setdefault(file.path, (file, {}))
                issuers.update(dict.fromkeys(issuer_id(ca).name for ca in material.client_cas))
        self._files = [_File(file, tuple(issuers)) for file, issuers in found.values()]
        self._lock = trio.Lock()
        self._stamps: tuple[object, ...] | None = None
        self.revocations: tuple[LocalRevocation, ...] = self._joined()
        """What counts; another tuple when that has changed."""

    @property
    def problems(self) -> list[str]:
        """Why files are not as they were last read."""
        return [file.problem for file in self._files if file.problem is not None]

    async def stirred(self) -> None:
        """Wait until a file has been written to, or replaced: what `look` is then for."""
        if not self._files:
            await trio.sleep_forever()
        while True:
            await trio.sleep(_GLANCE)
            stamps = await _in_thread(lambda: tuple(serials.stamp(file.path) for file in self._files))
            before, self._stamps = self._stamps, stamps
            if before is not None and before != stamps:
                return

    async def look(self, *, asked: bool = False) -> list[Look]:
        """Read the files that have changed, or all of them where somebody has `asked`: one `Look` for each.

        Who asks has written to the end: then what is taken out does not count any more at once.
        """
        async with self._lock:
            looks = [look for file in self._files if (look := await file.look(asked=asked)) is not None]
            if any(look.problem is None for look in looks):
                self.revocations = self._joined()
            return looks

    def _joined(self) -> tuple[LocalRevocation, ...]:
        return tuple(chain.from_iterable(file.revoked.values() for file in self._files))


class _File:
    def __init__(self, file: SerialFile, issuers: tuple[bytes, ...]) -> None:
        self.revoked: Revoked = _revoked(file, issuers, {})
        self.path = file.path
        self._issuers = issuers
        self._lines = file.lines
        self._identity: tuple[int, ...] | None = None
        self.problem: str | None = None

    async def look(self, *, asked: bool) -> Look | None:
        """None where there is nothing new."""
        name = one_line(str(self.path))
        try:
            identity, self._identity = self._identity, None
            raw = await _in_thread(serials.load, self.path, None if asked else identity)
            if raw is None:
                self._identity = identity
                return None
            self._identity = raw.identity
            lines, revoked = await _in_thread(self._understand, raw)
        except ConfigError as exc:
            told, self.problem = self.problem == str(exc), str(exc)
            return Look(name, len(self.revoked), problem=str(exc), told=told)
        self.problem = None
        settled = asked or lines == self._lines
        if lines != self._lines:
            # Times are coarse: what is written next may leave it with the same one.
            self._identity = None
        self._lines = lines
        more, less = len(revoked.keys() - self.revoked.keys()), len(self.revoked.keys() - revoked.keys())
        if less and not settled:
            revoked, less = {**self.revoked, **revoked}, 0
        self.revoked = revoked
        return Look(name, len(revoked), more, less)

    def _understand(self, raw: Raw) -> tuple[tuple[Line, ...], Revoked]:
        new = serials.understand(self.path, raw, len(self._issuers))
        return new.lines, _revoked(new, self._issuers, self.revoked)


async def _in_thread(work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    # A file system that hangs must not keep the process from its end.
    return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True)


def _revoked(file: SerialFile, issuers: tuple[bytes, ...], before: Revoked) -> Revoked:
    """What the lines say, each since its file was changed, or as long as before."""
    name = one_line(str(file.path))
    changed_at = min(max(file.changed_at, 0), LAST_MOMENT)

    def one(issuer: bytes, line: Line) -> LocalRevocation:
        known = before.get((issuer, line.serial))
        since = changed_at if known is None else known.revoked_at
        return LocalRevocation(issuer, line.serial, "unspecified", since, f"{name} line {line.number}")

    return {
        (issuer, line.serial): one(issuer, line)
        for line in file.lines
        for issuer in (issuers if line.issuer is None else (line.issuer,))
    }
