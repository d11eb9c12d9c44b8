"""Two hundred real CAs, from a real web server into tables, while one of them hangs."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from typing import TYPE_CHECKING

import trio

from gateway.addresses import AddressPolicy
from gateway.fetch import Fetcher
from gateway.revocation.authorities import Authorities
from gateway.revocation.crl import VerifiedCrl, verify_crl
from gateway.revocation.refresh import CrlRefresher, CrlSource
from gateway.revocation.table import Tables
from gateway.schedule import Limits
from gateway.store import StateStore
from tests.authority import NOW, Authority, Revoked
from tests.http_server import Answer, Server, http, serving
from tests.observer import Recorder
from tests.resolver import resolving

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.revocation.coverage import Coverage, Listed, Stream
    from gateway.revocation.crl import Succession

HANGS, FETCHES = 7, 32
ENTRIES = b"".join(Revoked(serial).der() for serial in range(1 << 40, (1 << 40) + 10_000))
LIST = len(ENTRIES)


class Told:
    """What the workers would be told."""

    def __init__(self) -> None:
        self.rounds: list[Sequence[Coverage]] = []

    def published(self, coverages: Sequence[Coverage]) -> None:
        self.rounds.append(coverages)

    def in_force(self, one: Listed, before: Listed | None, succession: Succession) -> None:
        assert before is None

    def left_out(self, stream: Stream, reason: str) -> None:
        raise AssertionError(reason)


class Busy:
    """How many requests a server has at a time; it answers none before there are `crowd` of them."""

    def __init__(self, server: Server, crowd: int) -> None:
        self._server = server
        self._crowd = crowd
        self._crowded = trio.Event()
        self.now = self.most = 0

    def offer(self, path: str, answer: Answer) -> None:
        async def counted(stream: trio.abc.Stream) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now == self._crowd:
                self._crowded.set()
            try:
                await self._crowded.wait()
                await answer(stream)
            finally:
                self.now -= 1

        self._server.answers[path] = counted


async def hang(_stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


async def test_two_hundred_issuers_come_into_force_while_one_hangs_and_no_list_stays_in_memory(
    tmp_path: Path,
) -> None:
    cas = [Authority.root(f"CA {number}") for number in range(200)]
    told, store = Told(), StateStore(tmp_path)
    store.prepare()
    tables = Tables(store, Authorities([ca.cert for ca in cas]), told, now=lambda: NOW)
    resolving(["127.0.0.1"])
    limits, fetch, recorder = Limits(FETCHES), Fetcher(AddressPolicy()).get, Recorder()

    def verify(data: bytes) -> VerifiedCrl:
        return verify_crl(data, tables.authorities, now=NOW)

    async with serving() as server, trio.open_nursery() as nursery:
        busy, refreshers = Busy(server, FETCHES), []
        for number, ca in enumerate(cas):
            path = f"/{number}.crl"
            busy.offer(path, hang if number == HANGS else http("200 OK", ca.crl(raw_entries=ENTRIES)))
            refreshers.append(
                CrlRefresher(
                    CrlSource(f"http://ca{number}.example:{server.port}{path}", 900, 900, 2 * LIST),
                    fetch=fetch,
                    verify=verify,
                    install=tables.install,
                    store=store,
                    limits=limits,
                    observer=recorder,
                    now=lambda: NOW,
                )
            )
        gc.collect()
        tracemalloc.start()
        for each in refreshers:
            nursery.start_soon(each.schedule.run)
        with trio.fail_after(60):
            for number, each in enumerate(refreshers):
                if number != HANGS:
                    await each.schedule.first_attempt_done.wait()
        held, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        nursery.cancel_scope.cancel()

    assert Counter(map(str, recorder.events)) == {"fetched": 199}
    assert len(tables) == len(told.rounds[-1]) == 199
    # Those that come together come into force together.
    assert len(told.rounds) < 199 / 2
    assert busy.most == FETCHES
    # 199 lists have come by. At any time those of the fetches under way are held, and of each a copy;
    # in the end none is, only what is known of it.
    assert most < 2 * FETCHES * LIST < 199 * LIST / 2
    assert held < 16 * LIST
