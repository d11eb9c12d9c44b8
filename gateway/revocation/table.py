"""The tables in force, by issuer: compiled from verified lists, written, handed on, swept.

Everything here is of the control process. The work blocks (compiling a million
entries takes a tenth of a second) and runs in a thread, one list at a time;
only the event loop changes what is in force.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from gateway.errors import TableError
from gateway.native import Table, TableMeta, compile_table
from gateway.revocation.crl import Succession, check_succession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from gateway.names import IssuerId
    from gateway.revocation.crl import VerifiedCrl


class TableStore(Protocol):
    """Where table files are; `StateStore`."""

    def new_table_file(self) -> tuple[int, Path]:
        """An empty file to compile into."""

    def install_table(self, temporary: Path, issuer_key: str, generation: int) -> Path:
        """Flush it and give it its name."""

    def find_tables(self, issuer_key: str) -> list[Path]:
        """The tables of an issuer, newest first."""

    def sweep_tables(self, keep: Iterable[Path]) -> None:
        """Remove all others, of any issuer."""


@dataclass(frozen=True)
class InForce:
    """One issuer's list that is in force: what is left of it is the table that was made from it."""

    issuer: IssuerId
    meta: TableMeta
    path: Path
    entries: int


class Tables:
    """What is in force. `publish` is told the issuer's key and the table, after each change."""

    def __init__(self, store: TableStore, publish: Callable[[str, InForce], None]) -> None:
        self._store = store
        self._publish = publish
        self._in_force: dict[IssuerId, InForce] = {}
        self._previous: dict[IssuerId, Path] = {}
        self._lock = trio.Lock()

    def check(self, crl: VerifiedCrl) -> None:
        """Refuse a list that is older than the one in force.

        Raises:
            CrlError: it is older.
        """
        current = self._in_force.get(crl.issuer)
        if current is not None:
            check_succession(crl, current.meta)

    async def install(self, crl: VerifiedCrl) -> int:
        """Put a verified list in force; the number of its entries.

        Raises:
            CrlError: it is older than the one in force, or an entry of it cannot be used.
            StoreError, TableError: the table cannot be written. What was in force stays.
        """
        # Two URLs may bring lists of one issuer at the same moment: the second
        # has to be held against the first.
        async with self._lock:
            current = self._in_force.get(crl.issuer)
            if current is not None and check_succession(crl, current.meta) is Succession.SAME:
                return current.entries
            key = issuer_key(crl.issuer)
            table = await trio.to_thread.run_sync(self._materialise, crl, key)
            self._in_force[crl.issuer] = table
            self._publish(key, table)
            if current is not None:
                # One generation back stays: a worker may be about to open it.
                self._previous[crl.issuer] = current.path
            keep = {*(kept.path for kept in self._in_force.values()), *self._previous.values()}
            await trio.to_thread.run_sync(self._sweep, key, keep)
            return table.entries

    def sweep(self) -> None:
        """Remove the tables that nothing in force is made of: of CAs that are trusted no longer. Blocking."""
        self._store.sweep_tables({*(kept.path for kept in self._in_force.values()), *self._previous.values()})

    def _sweep(self, key: str, keep: set[Path]) -> None:
        # Only this issuer's: the lists of others may still be on their way back from the store.
        for path in self._store.find_tables(key):
            if path not in keep:
                path.unlink(missing_ok=True)

    def _materialise(self, crl: VerifiedCrl, key: str) -> InForce:
        return self._find(crl, key) or self._compile(crl, key)

    def _find(self, crl: VerifiedCrl, key: str) -> InForce | None:
        """The table that an earlier run made of this very list: its signature says so."""
        for path in self._store.find_tables(key):
            try:
                table = Table.open(path, deep=True)
            except (OSError, TableError):
                # Damaged, or of another version: it is compiled again.
                continue
            if table.meta == _meta(crl):
                return InForce(crl.issuer, _meta(crl), path, len(table))
        return None

    def _compile(self, crl: VerifiedCrl, key: str) -> InForce:
        fd, temporary = self._store.new_table_file()
        try:
            entries = compile_table(crl.der, crl.revoked, _meta(crl), fd)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        return InForce(
            crl.issuer, _meta(crl), self._store.install_table(temporary, key, time.time_ns()), entries
        )


def issuer_key(issuer: IssuerId) -> str:
    """A name for files and messages: SHA-256 over name and key, hexadecimal."""
    digest = hashlib.sha256(len(issuer.name).to_bytes(4) + issuer.name + issuer.key)
    return digest.hexdigest()


def _meta(crl: VerifiedCrl) -> TableMeta:
    return TableMeta(
        issuer_name=crl.issuer.name,
        issuer_key=crl.issuer.key,
        signature=crl.signature,
        number=crl.number,
        this_update=crl.this_update,
        next_update=crl.next_update,
    )
