"""What is in force in a worker: control's state, as C reads it.

Each update is put in force as a whole: tables are mapped, the world of the lookup is
swapped, staples go into the slots of their certificates. What cannot be leaves in
force what was there before.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway import publish
from gateway.errors import TableError
from gateway.native import Table
from gateway.revocation.coverage import terms
from gateway.tls import context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from gateway.native import Cover, Listener, StapleSlot, World
    from gateway.tls.context import ServerContext, TrustedCa


class InForce:
    """The state of one worker, for all of its listeners."""

    def __init__(
        self, world: World, recheck: Callable[[], None], log: FilteringBoundLogger, generation: int = 0
    ) -> None:
        """`recheck` has live connections looked up again; `generation` is the worker's own."""
        self.state = self._own = publish.Update(whole=True, ready=False, generation=generation)
        """What control has told, all of it."""
        self._other: publish.Update | None = None
        """What one of another configuration has told since."""
        self.own_cas: set[bytes] = set()
        """Those of the configuration (DER)."""
        self._world = world
        self._recheck = recheck
        self._log = log
        self._tables: dict[str, Table] = {}
        """By path."""
        self._covers: dict[str, publish.Cover] = {}
        """Those in force."""
        self._cas: list[tuple[Listener, list[TrustedCa]]] = []
        """Those that each listener knows."""
        self._staples: dict[str, list[StapleSlot]] = {}
        """By the fingerprint of their certificate."""
        self._changed = trio.Event()

    def add(self, listener: Listener, server: ServerContext, slots: Sequence[tuple[str, StapleSlot]]) -> None:
        """Keep a listener up to date; `slots` are those of its certificates, by fingerprint."""
        self._cas.append((listener, list(server.client_cas)))
        self.own_cas |= {ca.certificate.public_bytes(Encoding.DER) for ca in server.client_cas}
        for key, slot in slots:
            self._staples.setdefault(key, []).append(slot)

    def apply(self, update: publish.Update) -> bool:
        """Put it in force; whether that is so of all that control has told until now."""
        known, looks = self.state.cas, self.state.looks
        told = self._hear(update)
        self._learn([ca for key, ca in self.state.cas.items() if ca is not None and key not in known])
        wanted = {key: cover for key, cover in self.state.covers.items() if cover is not None}
        covers = {key: cover for key, cover in wanted.items() if self._open(cover)}
        if len(covers) < len(wanted):
            covers = {**self._covers, **covers}
        others = covers != self._covers
        if others:
            self._swap(covers)
        if others or self.state.looks != looks:
            self._recheck()
        self._staple()
        return all(key in covers for key, cover in told.covers.items() if cover is not None)

    def _hear(self, update: publish.Update) -> publish.Update:
        """All that this control process has told; of the one that a reload has replaced some of it stays."""
        if update.generation == self._own.generation:
            self.state = self._own = publish.merge(self._own, update)
            self._other = None
            return self.state
        if self._other is None or self._other.generation != update.generation:
            self._other = publish.Update(whole=True, ready=False)
        self._other = publish.merge(self._other, update)
        self.state = publish.beside(self._other, self._own)
        return self._other

    async def wait_for_change(self) -> None:
        """Until other tables are in force."""
        await self._changed.wait()

    def _swap(self, covers: dict[str, publish.Cover]) -> None:
        self._world.publish(itertools.chain.from_iterable(map(self._terms, covers.values())))
        self._covers = covers
        used = {path for cover in covers.values() for path in (cover.table, cover.delta)}
        self._tables = {path: table for path, table in self._tables.items() if path in used}
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _terms(self, cover: publish.Cover) -> Iterator[Cover]:
        return terms(
            cover, self._tables[cover.table], None if cover.delta is None else self._tables[cover.delta]
        )

    def _open(self, cover: publish.Cover) -> bool:
        for path in (cover.table, cover.delta):
            if path is not None and path not in self._tables:
                try:
                    # control has just written and checked it; the header is checked all the same.
                    self._tables[path] = Table.open(Path(path), deep=False)
                except (OSError, TableError) as exc:
                    self._log.error(
                        "table unusable", path=path, error=str(exc), consequence="those before stay"
                    )
                    return False
        return True

    def _staple(self) -> None:
        for fingerprint, slots in self._staples.items():
            staple = self.state.staples.get(fingerprint)
            for slot in slots:
                if staple is None:
                    slot.set(b"", 0)
                else:
                    slot.set(staple.der, staple.expires)

    def _learn(self, found: Sequence[bytes]) -> None:
        """Take in the CAs that clients brought to any worker, each below one that is there already."""
        certificates = [x509.load_der_x509_certificate(ca) for ca in found]
        for listener, known in self._cas:
            # Until nothing is added any more: one may hang below another that comes behind it.
            while any(context.learn_ca(listener, known, certificate) for certificate in certificates):
                pass
