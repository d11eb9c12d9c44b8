"""The control process: fetches, verifies, compiles, publishes; the workers only ever read.

It wires the parts together and decides nothing itself: what is good is said by
`revocation.crl` and `stapling.response`, when to ask again by `schedule`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway import admin, bell, commands, names, publish, refusals
from gateway.addresses import DENIED_BY_DEFAULT, AddressPolicy
from gateway.admin import Desk, History
from gateway.broadcast import Broadcast
from gateway.errors import GatewayError, StoreError
from gateway.fetch import Fetcher, display_url
from gateway.journal import Journal, ListObserver
from gateway.log import get_logger
from gateway.names import fingerprint
from gateway.operations import Operations
from gateway.publish import Update
from gateway.reading import check_change
from gateway.revocation import crl, policy
from gateway.revocation.authorities import trusted_by
from gateway.revocation.refresh import CrlRefresher, CrlSource
from gateway.revocation.serials import SerialFiles
from gateway.revocation.settling import Settler
from gateway.revocation.table import Tables
from gateway.schedule import Limits
from gateway.stapling.ask import Asker
from gateway.stapling.staples import Staples
from gateway.status import Known, Moment, Observer
from gateway.store import StateStore
from gateway.tls.context import make_contexts
from gateway.upstream.check import Checks
from gateway.upstream.tunnel import broker_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from socket import socket as listening

    from gateway.bell import Bell
    from gateway.config.material import ListenerMaterial
    from gateway.config.model import Config, CrlCache, Listener
    from gateway.metrics import Counters
    from gateway.native import Answers
    from gateway.reading import Reading
    from gateway.revocation.coverage import Coverage, Listed
    from gateway.revocation.crl import VerifiedCrl
    from gateway.stapling.refresh import StapleRefresher
    from gateway.stapling.response import VerifiedResponse
    from gateway.status import Status

_Refresher: TypeAlias = "CrlRefresher[VerifiedCrl] | StapleRefresher[VerifiedResponse]"

# With nothing in the store, how long clients queue for the first lists before
# `on_unavailable` decides. A source that hangs must not keep the door shut.
_FIRST_ROUND = 5.0
# A thread that waits for a name server or a dead file system is lost to all others for a while.
# With trio's 40, a few CAs whose names nobody resolves would hold up everything else.
_THREADS = 256
# Distribution points that are followed at most; each is a task and, once fetched, a file.
_MAX_LEARNT = 1000
# CAs that clients bring along: the chain of each has verified.
_MAX_CAS = 1000
# Of answers that end connections, how long the next ones are held back, in seconds.
_LOOK_PAUSE = 0.1
# How often it is asked whether a signer's certificate has expired.
_LOOK_AGAIN = 60.0


@dataclass(frozen=True)
class Post:
    """All that control inherits from the supervisor."""

    config: Config
    materials: Sequence[ListenerMaterial]
    socket: listening
    counters: Counters
    commands: listening | None = None
    """Where operators ask; without it nobody can."""
    admin: tuple[listening, bytes | None] | None = None
    """Where the admin interface listens, and its token."""
    read: Callable[[], Reading] | None = None
    """Reads the configuration anew, as a reload does; without it none can be asked for."""
    bell: Bell | None = None
    """Rung where the supervisor is to reload."""
    answers: Answers | None = None
    """What OCSP responders say of clients; None where no listener wants to know."""
    generation: int = 0
    """The number of the configuration."""


class Control:
    """The state of the control process."""

    def __init__(self, post: Post) -> None:
        self._config = post.config
        self._materials = post.materials
        self._commands = post.commands
        self._admin = post.admin
        self._read = post.read
        self._counters = post.counters
        self._bell = post.bell
        self._log = get_logger(process="control")
        self._store = StateStore(post.config.state_dir)
        self._fetcher = Fetcher(_address_policy(post.config.crl_cache))
        self._limits = Limits()
        self._ask = Asker(self._fetcher).ask
        self._journal = Journal(
            self._log,
            post.config.crl_cache,
            (each for material in post.materials for each in material.all_certificates()),
            self._lists,
            self._publish,
        )
        self._tables = Tables(self._store, trusted_by(post.materials), self._journal)
        self._learning = trio.Lock()
        self._follows_any = any(policy.follows(listener.revocation) for listener in post.config.listeners)
        self._broadcast = Broadcast(
            post.socket, post.counters.workers, self._hear, self._settle, generation=post.generation
        )
        self._crls: dict[str, CrlRefresher[VerifiedCrl]] = {}
        self._staples = Staples(
            post.config.listeners,
            post.materials,
            ask=self._ask,
            store=self._store,
            limits=self._limits,
            change=self._staples_changed,
            revoked=self._tables.revoked,
            log=self._log,
        )
        self._learnt = 0
        self._operations = Operations(
            self._tables,
            self._store,
            SerialFiles(post.materials),
            lambda: [
                *(("list", each) for each in self._crls.values()),
                *(("staple", each) for each in self._staples),
            ],
            self._issuers,
            self._look,
            self._log,
            late=self._broadcast.late,
            reload=self._reload,
            drain=self._drain,
            ask_anew=self._ask_anew,
        )
        self._answers = post.answers
        self._settler: Settler | None = None
        self._lookup = trio.Event()
        """Set when an answer may end a connection."""
        self._observer = Observer(post.config, post.materials, post.counters)
        self._started = time.time()
        self._coverages: Sequence[Coverage] = ()
        self._refusals = deque[publish.Refusal](maxlen=refusals.MOST)
        self._desk = Desk(
            self._look,
            self._operations,
            self._issuers,
            coverages=lambda: self._coverages,
            refusals=lambda: self._refusals,
            history=History(post.counters),
        )
        self._not_followed: set[str] = set()
        pairs = zip(post.config.listeners, post.materials, strict=True)
        spoken = {listener.name: broker_tls(listener, material.upstream_tls) for listener, material in pairs}
        self._checks = Checks(post.config.listeners, self._broker_changed, self._log, spoken)

    async def _reload(self) -> bool:
        if self._read is None or self._bell is None:
            raise GatewayError("nobody here can reload; restart the gateway")
        # Where this process has become another user, only the supervisor may read the keys.
        checked = self._config.user is None
        if checked:
            found = await trio.to_thread.run_sync(self._read)
            check_change(self._config, found.config)
            await trio.to_thread.run_sync(make_contexts, found.config.listeners, found.materials)
        self._bell.ring(bell.RELOAD)
        return checked

    def _drain(self) -> None:
        if self._bell is None:
            raise GatewayError("nobody here can drain; end the gateway")
        # A second signal would close what is left at once.
        if self._counters.stopping:
            raise GatewayError("the gateway drains already; nothing is changed")
        self._bell.ring(bell.DRAIN)

    def _lists(self) -> Iterable[Listed]:
        return self._tables.lists()

    def _issuers(self) -> list[bytes]:
        """The Names (DER) of all known CAs."""
        return [identity.name for identity in self._tables.authorities.identities()]

    def _look(self) -> Status:
        """How the gateway is."""
        local, configured = self._operations.revoked
        return self._observer.look(
            Moment(
                now=time.time(),
                started=self._started,
                begun=self._broadcast.state.ready,
                sources=[
                    *(Known("list", each.state) for each in self._crls.values()),
                    *(Known("staple", each.state, each.fingerprint) for each in self._staples),
                ],
                issuers=self._issuers(),
                responders=self._settler.responders() if self._settler else (),
                local_revocations=local,
                configured_revocations=configured,
                problems=self._operations.problems,
                brokers=self._checks.standings(),
                refusals=list(self._refusals),
                held=self._broadcast.state.held,
            )
        )

    async def run(self) -> None:
        """Serve the workers until told to stop."""
        with trio.open_signal_receiver(publish.STOP) as signals:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._work)
                await anext(signals)
                nursery.cancel_scope.cancel()

    async def _work(self) -> None:
        await trio.to_thread.run_sync(self._store.prepare)
        await self._begin()
        await self._tables.sweep()
        while True:
            await trio.sleep(_LOOK_AGAIN)
            await self._tables.look_again()
            self._journal.watch_lists()
            self._journal.watch_certificates()
            self._staples.look()

    async def _begin(self) -> None:
        """Put what the store has in force, then start every source; ready when each has had its chance."""
        trio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        listeners = self._config.listeners
        crls = [
            self._add_crl(url, learnt=False)
            for url in dict.fromkeys(url for listener in listeners for url in listener.revocation.crl_urls)
        ]
        if self._follows_any:
            await self._learn_cas(await trio.to_thread.run_sync(self._store.load_cas), keep=False)
            for url in await trio.to_thread.run_sync(self._store.learnt_urls):
                if url not in self._crls and self._learnt < _MAX_LEARNT:
                    self._learnt += 1
                    crls.append(self._add_crl(url, learnt=True))
        self._staples.begin()
        self._broadcast.change(Update(whole=False, ready=False, held=dict.fromkeys(self._staples.held, True)))
        refreshers: list[_Refresher] = [*crls, *self._staples]
        await self._operations.restore()
        async with self._tables.batch():
            for refresher in refreshers:
                await self._restore(refresher)
        missing = [refresher for refresher in refreshers if refresher.state.this_update is None]
        # Not earlier: workers that lost the control process before us keep their tables until then.
        if self._answers is not None:
            self._settler = Settler(
                self._nursery,
                listeners,
                self._tables,
                self._answers,
                self._ask,
                self._have_clients_looked_up,
                self._log,
            )
            self._nursery.start_soon(self._tell_to_look)
        self._serve()
        self._nursery.start_soon(self._operations.watch)
        self._nursery.start_soon(self._checks.run)
        for refresher in refreshers:
            self._nursery.start_soon(refresher.schedule.run)
        for certificate in _followed(listeners, self._materials):
            self._learn(policy.distribution_points(certificate.public_bytes(Encoding.DER)))
        # Their lists need not be among those that were kept.
        for ca in filter(None, self._broadcast.state.cas.values()):
            self._learn(policy.distribution_points(ca))
        with trio.move_on_after(_FIRST_ROUND):
            for refresher in missing:
                await refresher.schedule.first_attempt_done.wait()
        self._staples.look()
        self._broadcast.change(Update(whole=False, ready=True))
        self._log.info("ready", lists=len(self._tables), staples=len(self._broadcast.state.staples))

    def _serve(self) -> None:
        """Answer workers, operators, and who looks at the admin interface."""
        self._nursery.start_soon(self._broadcast.serve)
        if self._commands is not None:
            self._nursery.start_soon(commands.serve, self._commands, self._operations, self._log)
        if self._admin is not None:
            hosts = self._config.admin.hosts
            self._nursery.start_soon(admin.serve, *self._admin, hosts, self._desk, self._log)

    def _ask_anew(self, url: str | None) -> list[str]:
        asked = self._settler.ask_anew(url) if self._settler else []
        if asked:
            self._have_clients_looked_up()
        return asked

    def _have_clients_looked_up(self) -> None:
        self._lookup.set()

    async def _tell_to_look(self) -> None:
        """Tell the workers when an answer may end a connection; many in a moment are told together."""
        while True:
            await self._lookup.wait()
            self._lookup = trio.Event()
            looks = max(self._broadcast.state.looks + 1, int(time.time()))
            self._broadcast.change(Update(whole=False, ready=False, looks=looks))
            await trio.sleep(_LOOK_PAUSE)

    async def _restore(self, refresher: _Refresher) -> None:
        problem = await refresher.restore()
        if problem is not None:
            self._log.warning("stored copy not used", url=display_url(refresher.state.url), problem=problem)

    def _add_crl(self, url: str, *, learnt: bool) -> CrlRefresher[VerifiedCrl]:
        cache = self._config.crl_cache
        refresher = CrlRefresher(
            CrlSource(url, cache.refresh_interval, cache.http_timeout, cache.max_bytes, learnt=learnt),
            fetch=self._fetcher.get,
            verify=self._verify_crl,
            install=self._install_crl,
            store=self._store,
            limits=self._limits,
            observer=ListObserver(self._log),
        )
        self._crls[url] = refresher
        return refresher

    def _verify_crl(self, data: bytes) -> VerifiedCrl:
        verified = crl.verify_crl(data, self._tables.authorities, now=int(time.time()))
        self._tables.check(verified)
        return verified

    async def _install_crl(self, verified: VerifiedCrl) -> int:
        entries = await self._tables.install(verified)
        if self._follows_any:
            self._learn(verified.freshest)
        return entries

    def _learn(self, urls: Sequence[str]) -> None:
        """Follow distribution points that nobody has told of before."""
        for url in urls:
            if url in self._crls or url in self._not_followed:
                continue
            fault = None
            if not url.lower().startswith(("http://", "https://")):
                fault = f"only http and https are, not {url.partition(':')[0][:20]}"
            elif self._learnt >= _MAX_LEARNT:
                fault = f"{_MAX_LEARNT} are already followed"
            if fault is not None:
                # Told once for each, as long as there are not too many.
                if len(self._not_followed) < _MAX_LEARNT:
                    self._not_followed.add(url)
                    self._log.warning("distribution point not followed", url=display_url(url), error=fault)
                continue
            self._learnt += 1
            self._log.info("distribution point found", url=display_url(url))
            self._nursery.start_soon(self._add_crl(url, learnt=True).schedule.run)

    async def _learn_cas(self, found: Sequence[bytes], *, keep: bool = True) -> None:
        """Take CAs for known that hang below a trusted one; their lists can be verified from then on."""
        if len(self._broadcast.state.cas) >= _MAX_CAS:
            return
        async with self._learning:
            before, new = self._tables.authorities, []
            for ca in found:
                try:
                    new.append(names.load_untrusted(ca))
                except ValueError:
                    continue
            after = await trio.to_thread.run_sync(before.with_others, new)
            now = time.time()
            good = [
                certificate
                for certificate in new
                if fingerprint(certificate) not in self._broadcast.state.cas and after.paths(certificate, now)
            ][: max(0, _MAX_CAS - len(self._broadcast.state.cas))]
            if not good:
                return
            await self._tables.trust(await trio.to_thread.run_sync(before.with_others, good))
            known = {fingerprint(each): each.public_bytes(Encoding.DER) for each in good}
            self._broadcast.change(Update(whole=False, ready=False, cas={**known}))
            for key, ca in known.items():
                self._log.info("CA found", ca=names.describe(x509.load_der_x509_certificate(ca)), sha256=key)
                if keep:
                    await self._keep_ca(key, ca)
                    self._learn(policy.distribution_points(ca))
            for refresher in self._crls.values():
                if refresher.state.last_error is not None:
                    # Maybe for want of just this CA.
                    refresher.schedule.wake()

    async def _keep_ca(self, key: str, ca: bytes) -> None:
        try:
            await trio.to_thread.run_sync(self._store.save_ca, ca)
        except StoreError as exc:
            self._log.warning("CA not kept", sha256=key, error=str(exc))

    def _staples_changed(
        self, staples: Mapping[str, publish.Staple | None], held: Mapping[str, None]
    ) -> None:
        self._broadcast.change(Update(whole=False, ready=False, staples={**staples}, held={**held}))

    def _broker_changed(self, listener: str, address: str, up: bool) -> None:
        brokers = {publish.broker_key(listener, address): up}
        self._broadcast.change(Update(whole=False, ready=False, brokers={**brokers}))

    def _publish(self, coverages: Sequence[Coverage]) -> None:
        """Tell the workers."""
        self._coverages = coverages
        covers: dict[str, publish.Cover | None] = {
            hashlib.sha256(msgspec.msgpack.encode(told)).hexdigest(): told
            for told in (coverage.told() for coverage in coverages)
        }
        gone = dict.fromkeys(self._broadcast.state.covers.keys() - covers.keys())
        if gone or covers.keys() - self._broadcast.state.covers.keys():
            self._broadcast.change(Update(whole=False, ready=False, covers={**covers, **gone}))

    async def _hear(self, message: publish.Sighting) -> None:
        """What a worker has seen."""
        self._learn(message.urls)
        if message.cas:
            await self._learn_cas(message.cas)
        self._refusals.extend(message.refusals)

    async def _settle(self, question: publish.Question) -> None:
        """Find out what a worker asks about clients."""
        if self._settler is not None:
            await self._settler.settle(question)


def _address_policy(cache: CrlCache) -> AddressPolicy:
    """Where URLs from certificates may lead."""
    denied = tuple(map(ipaddress.ip_network, cache.learnt_deny))
    return AddressPolicy(
        allow=tuple(map(ipaddress.ip_network, cache.learnt_allow)), deny=(*denied, *DENIED_BY_DEFAULT)
    )


def _followed(
    listeners: Sequence[Listener], materials: Sequence[ListenerMaterial]
) -> Iterator[x509.Certificate]:
    """The CAs whose distribution points are followed."""
    for listener, material in zip(listeners, materials, strict=True):
        if policy.follows(listener.revocation):
            yield from material.client_cas


def run(post: Post) -> None:
    """The control process from fork to exit."""
    trio.run(Control(post).run)
