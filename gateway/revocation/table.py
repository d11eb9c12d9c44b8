"""The lists in force and their tables: compiled from verified lists, written, handed on, swept.

Everything here is of the control process. The work blocks (compiling a million
entries takes a tenth of a second) and runs in a thread, one list at a time;
only the event loop changes what is in force.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from contextlib import asynccontextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import trio
from cryptography.hazmat.primitives.serialization import Encoding

from gateway import der
from gateway.errors import CrlError, GatewayError, TableError
from gateway.names import canonical_name
from gateway.native import Table, TableMeta, VerdictKind, World, compile_table, sections
from gateway.revocation.coverage import Coverage, Listed, Resolution, Stream, TableFile, resolve, stream_of
from gateway.revocation.crl import Succession, check_succession
from gateway.revocation.scope import Scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from cryptography import x509

    from gateway.names import CanonicalName, IssuerId
    from gateway.revocation.authorities import Authorities
    from gateway.revocation.crl import VerifiedCrl

_EMPTY = TableMeta(b"", b"", b"", None, 0, 0)
_DIRECTORY_NAME = 0xA4
# Each issuer of an indirect list has a table, and so a file.
_MOST_ISSUERS = 1000
# Seconds for which a table of what is revoked locally stays behind: a worker may be about to open it.
_LINGER = 5.0


class TableStore(Protocol):
    """Where table files are; `StateStore`."""

    def new_table_file(self) -> tuple[int, Path]:
        """An empty file to compile into."""

    def install_table(self, temporary: Path, key: str, generation: int) -> Path:
        """Flush it and give it its name."""

    def find_tables(self, key: str) -> list[Path]:
        """The tables of a key, newest first."""

    def sweep_tables(self, keep: Iterable[Path]) -> None:
        """Remove all others, of any key."""


class Observer(Protocol):
    """Is told what becomes of lists, on the event loop; must not block or raise."""

    def published(self, coverages: Sequence[Coverage]) -> None:
        """These are in force now, and no others."""

    def in_force(self, one: Listed, before: Listed | None, succession: Succession) -> None:
        """A list has come into force, as what follows the one before, if there was one."""

    def left_out(self, stream: Stream, reason: str) -> None:
        """The newest list of a stream does not count, or does not any more."""


class Tables:
    """What is in force."""

    def __init__(
        self,
        store: TableStore,
        authorities: Authorities,
        observer: Observer,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.authorities = authorities
        self._store = store
        self._observer = observer
        self._now = now
        self._lists: dict[Stream, Listed] = {}
        self._new: dict[Stream, Listed] = {}
        """Compiled, and to be in force next."""
        self._previous: dict[Stream, Listed] = {}
        self._local: dict[CanonicalName, TableFile] = {}
        self._retired: deque[tuple[float, Path]] = deque()
        self._left_out: dict[Stream, str] = {}
        self._world = World()
        # Taken in this order. To revoke locally needs the last two alone: it must not wait for
        # long lists that are being compiled.
        self._lock = trio.Lock()
        self._local_lock = trio.Lock()
        self._force_lock = trio.Lock()
        self._batched = False

    def __len__(self) -> int:
        """How many lists there are, deltas too."""
        return len(self._latest)

    def lists(self) -> tuple[Listed, ...]:
        """The newest of each stream, deltas too."""
        return tuple(self._latest.values())

    @property
    def _latest(self) -> dict[Stream, Listed]:
        return {**self._lists, **self._new}

    def revoked(self, certificate: x509.Certificate, issuer: IssuerId) -> bool:
        """Whether a list in force revokes a certificate of `issuer`; without one, no. From any thread."""
        data = certificate.public_bytes(Encoding.DER)
        verdict = self._world.judge(data, issuer.name, issuer.key, now=int(self._now()))
        return verdict.kind is VerdictKind.REVOKED

    def check(self, crl: VerifiedCrl) -> None:
        """Refuse a list that is older than the one in force.

        Raises:
            CrlError: it is older.
        """
        current = self._latest.get(self._stream(crl))
        if current is not None:
            check_succession(crl, current, now=int(self._now()))

    async def install(self, crl: VerifiedCrl) -> int:
        """Put a verified list in force; the number of its entries.

        Those that arrive together come into force together: what all lists say is
        worked out from all of them, and told to the workers, once for each change.

        Raises:
            CrlError: it is older than the one in force, or an entry of it cannot be used.
            StoreError, TableError: a table cannot be written. What was in force stays.
        """
        # Two URLs may bring lists of one issuer at the same moment: the second
        # has to be held against the first.
        async with self._lock:
            stream = self._stream(crl)
            current = self._latest.get(stream)
            succession = Succession.NEWER
            if current is not None:
                succession = check_succession(crl, current, now=int(self._now()))
            if current is not None and succession is Succession.SAME:
                one = current
            else:
                one = self._new[stream] = await trio.to_thread.run_sync(self._materialise, crl)
        # The lock is fair: whoever waits for it now has its list compiled before this gets it again.
        async with self._lock:
            if not self._batched and self._new.get(stream) is one:
                try:
                    await self._put_in_force(self._latest)
                except GatewayError:
                    # The others try again without it.
                    del self._new[stream]
                    raise
            if one is not current:
                self._observer.in_force(one, current, succession)
                paths = [*_paths(one), *(_paths(current) if current else ())]
                await trio.to_thread.run_sync(self._sweep, paths)
            return one.entries

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """What is installed meanwhile comes into force at the end, all at once: for lists by the thousand."""
        self._batched = True
        try:
            yield
        finally:
            self._batched = False
        await self.look_again()

    async def trust(self, authorities: Authorities) -> None:
        """Take other CAs for known ones; lists that they cannot have signed do not count any more."""
        async with self._lock:
            self.authorities = authorities
            lists: dict[Stream, Listed] = {}
            for one in sorted(self._latest.values(), key=lambda one: one.this_update):
                lists[stream_of(one.issuer, one.scope, one.base, authorities)] = one
            await self._put_in_force(lists)

    async def look_again(self) -> None:
        """Ask again whose signatures count: certificates expire by themselves."""
        async with self._lock:
            await self._put_in_force(self._latest)

    async def revoke_locally(self, *several: Mapping[bytes, bytes]) -> None:
        """Replace what is revoked without a list: by the issuer's Name (DER), entries of it.

        Raises:
            CrlError: an entry cannot be used.
            StoreError, TableError: a table cannot be written. What was in force stays.
        """
        async with self._local_lock:
            grouped: dict[CanonicalName, bytes] = {}
            for name, content in chain.from_iterable(entries.items() for entries in several):
                grouped[canonical_name(name)] = grouped.get(canonical_name(name), b"") + content
            new, before = await trio.to_thread.run_sync(self._compile_local, grouped), self._local
            retired = new
            try:
                # What has been compiled meanwhile comes into force in its own turn.
                await self._put_in_force(None, new)
                retired = before
            finally:
                now = trio.current_time()
                self._retired.extend((now, file.path) for file in retired.values())
                self._remove_retired(now - _LINGER)

    def _remove_retired(self, until: float) -> None:
        kept = self._kept()
        while self._retired and self._retired[0][0] <= until:
            _, path = self._retired.popleft()
            if path not in kept:
                # What cannot be removed now is swept at the next start.
                with suppress(OSError):
                    path.unlink()

    async def sweep(self) -> None:
        """Remove the tables that nothing in force is made of: of CAs that are trusted no longer.

        Raises:
            StoreError: one cannot be removed.
        """
        # Nothing may be compiled meanwhile: it would be taken for one of those.
        async with self._lock, self._local_lock:
            await trio.to_thread.run_sync(self._store.sweep_tables, self._kept())

    async def _put_in_force(
        self, lists: dict[Stream, Listed] | None, local: dict[CanonicalName, TableFile] | None = None
    ) -> None:
        """Have these lists, and these tables of what is revoked locally, in force; None is those that are."""
        async with self._force_lock:
            local = self._local if local is None else local
            counted = self._lists if lists is None else lists
            resolution = await trio.to_thread.run_sync(self._resolve, counted, local)
            if lists is not None:
                # One generation back stays: a worker may be about to open it.
                self._previous |= {
                    stream: self._lists[stream] for stream in self._new if stream in self._lists
                }
                self._lists, self._new = lists, {}
            self._local = local
            for stream, reason in resolution.left_out.items():
                if stream not in self._left_out:
                    self._observer.left_out(stream, reason)
            self._left_out = dict(resolution.left_out)
            self._world = resolution.world
            self._observer.published(resolution.coverages)

    def _resolve(
        self, lists: Mapping[Stream, Listed], local: Mapping[CanonicalName, TableFile]
    ) -> Resolution:
        coverages = tuple(self._local_coverages(local))
        return resolve(lists.values(), self.authorities, now=int(self._now()), local=coverages)

    def _local_coverages(self, local: Mapping[CanonicalName, TableFile]) -> Iterable[Coverage]:
        for name, file in local.items():
            issuers = [
                identity
                for identity in self.authorities.identities()
                if canonical_name(identity.name) == name
            ]
            # No reasons: it revokes, and covers nothing.
            yield Coverage(tuple(issuers), 0, Scope(reasons=0), 0, 0, file, None)

    def _stream(self, crl: VerifiedCrl) -> Stream:
        return stream_of(crl.issuer, crl.scope, crl.base, self.authorities)

    def _kept(self) -> set[Path]:
        lists = (*self._lists.values(), *self._new.values(), *self._previous.values())
        return {path for one in lists for path in _paths(one)} | {file.path for file in self._local.values()}

    def _sweep(self, paths: Sequence[Path]) -> None:
        # Only those of this list: others may still be on their way back from the store.
        kept = self._kept()
        for key in {path.name.rpartition("-")[0] for path in paths}:
            for path in self._store.find_tables(key):
                if path not in kept:
                    path.unlink(missing_ok=True)

    def _materialise(self, crl: VerifiedCrl) -> Listed:
        meta = TableMeta(
            issuer_name=crl.issuer.name,
            issuer_key=crl.issuer.key,
            signature=crl.signature,
            number=crl.number,
            this_update=crl.this_update,
            next_update=crl.next_update,
        )
        tables: dict[CanonicalName, TableFile] = {}
        for name, (octets, entries) in self._entries(crl).items():
            key = _file_key(crl, name)
            tables[name] = self._find(meta, key) or self._compile(
                octets, entries, meta, key, indirect=crl.scope.indirect
            )
        return Listed(
            issuer=crl.issuer,
            signer_name=crl.signer_name,
            scope=crl.scope,
            base=crl.base,
            number=crl.number,
            this_update=crl.this_update,
            next_update=crl.next_update,
            signature=crl.signature,
            tables=tables,
            none=self._nothing() if crl.scope.indirect else None,
            entries=sum(len(file.table) for file in tables.values()),
        )

    def _entries(self, crl: VerifiedCrl) -> dict[CanonicalName, tuple[bytes, der.Element]]:
        """The entries by whose certificates they are of, and where in the octets they stand."""
        own = canonical_name(crl.issuer.name)
        if not crl.scope.indirect:
            return {own: (crl.der, crl.revoked)}
        found: dict[CanonicalName, list[bytes]] = {own: []}
        for section in sections(crl.der, crl.revoked):
            name = _directory_name(section.issuer) if section.issuer else own
            found.setdefault(name, []).append(crl.der[section.begin : section.end])
            if len(found) > _MOST_ISSUERS:
                raise CrlError(
                    f"CRL of {crl.issuer}: names more than {_MOST_ISSUERS} issuers of certificates"
                )
        joined = {name: b"".join(pieces) for name, pieces in found.items()}
        return {name: (octets, _all_of(octets)) for name, octets in joined.items()}

    def _nothing(self) -> TableFile:
        """A table without entries, for all those that an indirect list has none of."""
        return self._find(_EMPTY, "none") or self._compile(b"", _all_of(b""), _EMPTY, "none")

    def _find(self, meta: TableMeta, key: str) -> TableFile | None:
        """The table that an earlier run made of this very list: its signature says so."""
        for path in self._store.find_tables(key):
            try:
                table = Table.open(path, deep=True)
            except (OSError, TableError):
                # Damaged, or of another version: it is compiled again.
                continue
            if table.meta == meta:
                return TableFile(path, table)
        return None

    def _compile(
        self, octets: bytes, entries: der.Element, meta: TableMeta, key: str, *, indirect: bool = False
    ) -> TableFile:
        fd, temporary = self._store.new_table_file()
        try:
            compile_table(octets, entries, meta, fd, indirect=indirect)
            table = Table(fd, deep=False)
        except BaseException as exc:
            temporary.unlink(missing_ok=True)
            if isinstance(exc, TableError):
                raise TableError(f"{temporary.parent}: {exc}; what was in force stays") from exc
            raise
        finally:
            os.close(fd)
        return TableFile(self._store.install_table(temporary, key, time.time_ns()), table)

    def _compile_local(self, entries: Mapping[CanonicalName, bytes]) -> dict[CanonicalName, TableFile]:
        tables: dict[CanonicalName, TableFile] = {}
        for name, content in entries.items():
            digest = hashlib.sha256(content).digest()
            key = "local" + hashlib.sha256(repr(_sorted(name)).encode()).hexdigest()
            meta = _EMPTY._replace(signature=digest)
            tables[name] = self._find(meta, key) or self._compile(content, _all_of(content), meta, key)
        return tables


def _all_of(octets: bytes) -> der.Element:
    return der.Element(0, 0, len(octets))


def _paths(one: Listed) -> list[Path]:
    return [file.path for file in one.files]


def _file_key(crl: VerifiedCrl, name: CanonicalName) -> str:
    """A name for a table's file: of who signed, what for, and whose certificates it has."""
    digest = hashlib.sha256(len(crl.issuer.name).to_bytes(4) + crl.issuer.name + crl.issuer.key)
    digest.update(crl.scope.octets + (b"delta" if crl.base is not None else b"complete"))
    if name != canonical_name(crl.issuer.name):
        digest.update(repr(_sorted(name)).encode())
    return digest.hexdigest()


def _sorted(name: CanonicalName) -> object:
    return name if isinstance(name, bytes) else [sorted(map(repr, rdn)) for rdn in name]


def _directory_name(names: bytes) -> CanonicalName:
    """The one directoryName among GeneralNames (DER) of certificateIssuer (RFC 5280, section 5.3.3)."""
    try:
        whole = der.read(names)
        at = whole.content_at
        while at < whole.end:
            name = der.read(names, at, whole.end)
            if names[at] == _DIRECTORY_NAME:
                return canonical_name(names[name.content])
            at = name.end
    except ValueError as exc:
        raise CrlError(f"certificateIssuer cannot be read: {exc}") from exc
    raise CrlError("certificateIssuer without a directoryName: whose certificates are listed is not known")
