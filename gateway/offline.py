"""What would become of a client, told to people from the lists that the gateway keeps; nothing is fetched.

The same code answers as in the gateway: OpenSSL builds the chain, `verify_crl` and
`Tables` put the stored lists in force, the lookup in C judges each certificate. The
state directory is copied first, so that asking changes nothing in it, not even beside
a gateway that runs. Lines are `key: value`, as `inspection` has them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway import der
from gateway.config.values import one_line
from gateway.errors import GatewayError
from gateway.fetch import display_url
from gateway.inspection import line
from gateway.names import describe, issuer_id, printable, printable_der, reason_text
from gateway.native import ALL_REASONS, Cover, Subjects, Table, TableMeta, VerdictKind, World, compile_table
from gateway.revocation import local, scope
from gateway.revocation.authorities import trusted_by
from gateway.revocation.chain import build_chain
from gateway.revocation.crl import parse_untrusted, verify_crl
from gateway.revocation.known import find_extension
from gateway.revocation.policy import moment
from gateway.revocation.serials import SerialFiles
from gateway.revocation.table import Tables
from gateway.store import StateStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.config.material import ListenerMaterial
    from gateway.config.model import Config, Listener, Revocation
    from gateway.names import IssuerId
    from gateway.native import Verdict
    from gateway.revocation.coverage import Coverage, Listed, Stream
    from gateway.revocation.crl import Succession
    from gateway.revocation.local import LocalRevocation

_REFUSED = {
    VerdictKind.REVOKED: "certificate_revoked",
    VerdictKind.NO_LIST: "no_list",
    VerdictKind.STALE: "list_expired",
}


class Answer(NamedTuple):
    """Whether every listener that was asked about lets the client in, and the lines that say why."""

    let_in: bool
    lines: list[str]


def ask(
    config: Config, materials: Sequence[ListenerMaterial], path: Path, *, listener: str | None = None
) -> Answer:
    """What becomes of the client in the PEM file `path` at each listener, or at the one of this name.

    The client's own certificate is the first in the file; those behind it are CAs that
    it sends along. `materials` are those of the listeners of `config`, in order.

    Raises:
        GatewayError: the file or the state directory cannot be read, no listener has the
            name, or there are no lists to answer from.
    """
    client = _read_client(path)
    doors = [
        (each, material)
        for each, material in zip(config.listeners, materials, strict=True)
        if listener in (None, each.name)
    ]
    if not doors:
        names = ", ".join(each.name for each in config.listeners)
        raise GatewayError(f"no listener is called {one_line(str(listener))}: expected one of {names}")
    with ExitStack() as stack:
        office = _Office(config, materials, client[1:])
        if any(_looks_up(each) for each, _ in doors):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tls-gateway-check-")))
            office.load(directory)
        lines = [line("client", _both(client[0])), *office.notes]
        let_in = True
        for each, material in doors:
            good, told = _at_listener(office, each, material, client)
            let_in = let_in and good
            lines += ["", line("listener", each.name), *told]
    return Answer(let_in, lines)


def _read_client(path: Path) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as exc:
        raise GatewayError(f"{one_line(str(path))}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise GatewayError(
            f"{one_line(str(path))}: expected certificates in PEM: {one_line(str(exc))}"
        ) from exc
    return found


def _looks_up(listener: Listener) -> bool:
    return listener.verify != "none" and listener.revocation.check != "off"


class _Office:
    """Puts the stored lists in force, as the control process does when it starts."""

    def __init__(
        self, config: Config, materials: Sequence[ListenerMaterial], brought: Sequence[x509.Certificate]
    ) -> None:
        self.now = int(time.time())
        self.world = World()
        self.coverages: tuple[Coverage, ...] = ()
        self.learnt: list[x509.Certificate] = []
        self.notes: list[str] = []
        self.config = config
        self._brought = brought
        self._authorities = trusted_by(materials)
        self._lists: list[Listed] = []
        # What a list says of its scope, by its signature.
        self._scopes: dict[bytes, str] = {}
        # As in control: what a file revokes is revoked at every listener.
        self._local = SerialFiles(materials).revocations

    def load(self, directory: Path) -> None:
        """Copy the state directory to `directory` and put its lists in force. Raises GatewayError."""
        _copy(self.config.state_dir, directory)
        store = StateStore(directory)
        store.prepare()
        urls = [url for each in self.config.listeners for url in each.revocation.crl_urls]
        # As in control: what was learnt counts only where any listener follows distribution points.
        if any(
            _looks_up(each) and each.revocation.follow_distribution_points for each in self.config.listeners
        ):
            urls += store.learnt_urls()
            self._learn(store.load_cas())
        self._local += self._by_hand(store)
        trio.run(self._install, store, list(dict.fromkeys(urls)))
        if not self._lists and not self._local:
            why = "".join(f"; {note.partition(':')[2].strip()}" for note in self.notes)
            raise GatewayError(
                f"{one_line(str(self.config.state_dir))}: no usable list is stored there, so that nothing"
                f" can be said; the gateway fetches them when it runs{why}"
            )

    def _learn(self, cas: Sequence[bytes]) -> None:
        for ca in cas:
            try:
                self.learnt.append(x509.load_der_x509_certificate(ca))
            except ValueError:
                self.notes.append(line("note", "a CA in the state directory cannot be read: left out"))
        candidates = [*self.learnt, *self._brought]
        every = self._authorities.with_others(candidates)
        good = [ca for ca in candidates if every.paths(ca, self.now)]
        self._authorities = self._authorities.with_others(good)

    def _by_hand(self, store: StateStore) -> tuple[LocalRevocation, ...]:
        payload, problem = store.load_local()
        try:
            if problem is None:
                return () if payload is None else local.decode(payload)
        except GatewayError:
            pass
        # The problem's own words are about the copy.
        self.notes.append(line("note", "what was revoked by hand cannot be read, and does not count"))
        return ()

    async def _install(self, store: StateStore, urls: Sequence[str]) -> None:
        tables = Tables(store, self._authorities, self, now=lambda: self.now)
        if self._local:
            await tables.revoke_locally(local.entries(self._local))
        for url in urls:
            shown = display_url(url)
            restored = await trio.to_thread.run_sync(store.load_crl, url)
            if restored.crl is None:
                found = "no list is stored"
                if restored.problem is not None:
                    found = "the stored list is damaged, or just being replaced"
                self.notes.append(line("note", f"{shown}: {found}"))
                continue
            try:
                verified = verify_crl(restored.crl.der, tables.authorities, now=self.now)
                extensions = parse_untrusted(verified.der).extensions
                point = find_extension(extensions, x509.IssuingDistributionPoint)
                self._scopes[verified.signature] = scope.in_words(point)
                await tables.install(verified)
            except GatewayError as exc:
                self.notes.append(line("note", f"{shown}: the stored list is not used: {exc}"))

    def published(self, coverages: Sequence[Coverage]) -> None:
        """Take over what is in force; `revocation.table.Observer`."""
        self.coverages = tuple(coverages)
        self.world.publish(cover for coverage in coverages for cover in coverage.covers())

    def in_force(self, one: Listed, _before: Listed | None, _succession: Succession) -> None:
        """Remember what tables are of which list; `revocation.table.Observer`."""
        self._lists.append(one)

    def left_out(self, stream: Stream, reason: str) -> None:
        """Tell of it; `revocation.table.Observer`."""
        name = min(printable_der(issuer.name) for issuer in stream.issuer)
        self.notes.append(line("note", f"the list of {name} does not count: {reason}"))

    def judge(self, certificate: x509.Certificate, issuer: IssuerId, grace: float) -> Verdict:
        """What all lists say of one certificate."""
        return self.world.judge(
            certificate.public_bytes(Encoding.DER), issuer.name, issuer.key, now=self.now, grace=grace
        )

    def lists_of(
        self, certificate: x509.Certificate, issuer: IssuerId, grace: float
    ) -> Iterator[tuple[str, int]]:
        """Each list that covers the certificate or has it: what it is, and for which reasons it counts."""
        data, nothing = certificate.public_bytes(Encoding.DER), _empty_table()
        for coverage in self.coverages:
            if issuer not in coverage.issuers:
                continue
            world = World()

            def verdict(*more: Cover, world: World = world, coverage: Coverage = coverage) -> VerdictKind:
                world.publish((*coverage.covers(), *more))
                return world.judge(data, issuer.name, issuer.key, now=self.now, grace=grace).kind

            revokes = verdict() is VerdictKind.REVOKED
            # Which reasons it brings is asked of the lookup itself: does it fill the one gap that
            # a list of all other reasons leaves?
            reasons = sum(
                bit
                for bit in (1 << number for number in range(1, len(scope.REASON_FLAGS) + 1))
                if not revokes and verdict(_all_but(bit, issuer, nothing)) is not VerdictKind.NO_LIST
            )
            if revokes or reasons:
                one = self._list_with(coverage.table.path)
                words = self._words_by_hand(certificate, issuer)
                if one is not None:
                    words = self._words(one, coverage, grace, revokes=revokes)
                yield words, reasons

    def _words_by_hand(self, certificate: x509.Certificate, issuer: IssuerId) -> str:
        one = local.find(self._local, issuer.name, certificate.serial_number)
        return "revoked by hand in this gateway" + (f", by {one.by}" if one is not None else "")

    def _words(self, one: Listed, coverage: Coverage, grace: float, *, revokes: bool) -> str:
        delta = None if coverage.delta is None else self._list_with(coverage.delta.path)
        until = f"fresh until {moment(coverage.next_update)}"
        if coverage.next_update == 0:
            until = "never expires"
        elif coverage.next_update < self.now - grace:
            until = f"EXPIRED at {moment(coverage.next_update)}"
        elif coverage.next_update < self.now:
            until = f"expired at {moment(coverage.next_update)}, within grace"
        said = [
            printable_der(one.issuer.name),
            "without number" if one.number is None else f"number {one.number}",
            self._scopes[one.signature],
        ]
        if delta is not None:
            said.append(f"with delta {delta.number} of base {delta.base}")
        return ", ".join([*said, until, *(["has it"] if revokes else [])])

    def _list_with(self, path: Path) -> Listed | None:
        return next(
            (one for one in reversed(self._lists) if any(path == file.path for file in one.files)), None
        )


def _copy(state_dir: Path, directory: Path) -> None:
    place = one_line(str(state_dir))
    if not state_dir.is_dir():
        raise GatewayError(f"{place}: there is no state directory: the gateway makes it when it runs")
    try:
        for part in ("crl", "ca", "local"):
            if (state_dir / part).is_dir():
                shutil.copytree(state_dir / part, directory / part, ignore=shutil.ignore_patterns(".new-*"))
    except OSError as exc:
        # copytree gathers what went wrong, as (from, to, why).
        why = exc.strerror or (str(exc.args[0][0][2]) if isinstance(exc, shutil.Error) else str(exc))
        raise GatewayError(
            f"{place}: the stored lists cannot be read: {one_line(why)};"
            " ask as the user that the gateway runs as"
        ) from exc


def _at_listener(
    office: _Office, listener: Listener, material: ListenerMaterial, client: Sequence[x509.Certificate]
) -> tuple[bool, list[str]]:
    """Whether the listener lets the client in, and why."""
    if listener.verify == "none":
        return True, [line("verdict", "let in: no client certificate is asked for")]
    lines: list[str] = []
    chain = build_chain(listener, material.client_cas, client[0], client[1:])
    if isinstance(chain, str) and office.learnt:
        found = build_chain(listener, material.client_cas, client[0], [*client[1:], *office.learnt])
        if not isinstance(found, str):
            lines.append(
                line("note", "the file lacks a CA that is known from others: the client has to send it")
            )
            chain = found
    if isinstance(chain, str):
        return False, [line("verdict", f"refused: untrusted: {chain}")]
    revocation = listener.revocation
    if revocation.check == "off":
        return True, [*lines, line("verdict", "let in: its chain is good, and revocation is not checked")]
    pairs = list(pairwise(chain))
    if revocation.check == "leaf":
        pairs = pairs[:1]
    worst, depth = VerdictKind.GOOD, 0
    for number, (certificate, issuer) in enumerate(pairs):
        verdict, told = _certificate(office, certificate, issuer_id(issuer), revocation.grace)
        lines += told
        if verdict.kind > worst:
            worst, depth = verdict.kind, number
    if not pairs:
        lines.append(line("certificate", f"{describe(chain[0])} is trusted itself: no list covers it"))
    lines += _not_asked(worst, revocation)
    let_in, words = _decide(worst, depth, revocation, office)
    return let_in, [*lines, line("verdict", words)]


def _certificate(
    office: _Office, certificate: x509.Certificate, issuer: IssuerId, grace: float
) -> tuple[Verdict, list[str]]:
    verdict = office.judge(certificate, issuer, grace)
    lines = [line("certificate", _both(certificate))]
    covered = 0
    for words, reasons in office.lists_of(certificate, issuer, grace):
        lines.append(line("list", words))
        covered |= reasons
    match verdict.kind:
        case VerdictKind.REVOKED:
            status = (
                f"REVOKED since {moment(verdict.entry.revocation_date)}: {reason_text(verdict.entry.reason)}"
            )
        case VerdictKind.STALE:
            status = f"not revoked in lists of which one has expired at {moment(verdict.next_update)}"
        case VerdictKind.NO_LIST if covered:
            status = f"covered by no list for {_reason_words(ALL_REASONS & ~covered)}"
        case VerdictKind.NO_LIST:
            status = "covered by no list"
        case _:
            status = "not revoked"
    return verdict, [*lines, line("status", status)]


def _not_asked(kind: VerdictKind, revocation: Revocation) -> list[str]:
    if kind is VerdictKind.REVOKED or revocation.ocsp == "off":
        return []
    return [line("note", f'ocsp is "{revocation.ocsp}", and no responder is asked here')]


def _decide(kind: VerdictKind, depth: int, revocation: Revocation, office: _Office) -> tuple[bool, str]:
    if kind is not VerdictKind.REVOKED and revocation.ocsp == "require":
        return True, "let in if a responder says that it is good, whatever the lists say"
    if kind is VerdictKind.GOOD:
        return True, "let in"
    reason = _REFUSED[kind] + (f" (depth {depth})" if depth else "")
    if kind is VerdictKind.REVOKED or revocation.on_unavailable == "reject":
        return False, f"refused: {reason}"
    if revocation.on_unavailable == "accept":
        return True, f'let in unchecked, because on_unavailable is "accept": {reason}'
    seconds = office.config.crl_cache.http_timeout
    return False, f'waits {seconds:g} s for a list, because on_unavailable is "wait"; then refused: {reason}'


def _reason_words(mask: int) -> str:
    return ", ".join(flag.value for bit, flag in enumerate(scope.REASON_FLAGS, 1) if mask >> bit & 1)


def _all_but(reason: int, issuer: IssuerId, nothing: Table) -> Cover:
    """A list without entries that never ends, of this issuer, for all reasons but one."""
    return Cover(issuer.name, issuer.key, 0, 0, ALL_REASONS & ~reason, Subjects.ALL, 0, 0, nothing)


def _empty_table() -> Table:
    fd = os.memfd_create("tls-gateway-check", os.MFD_CLOEXEC)
    try:
        compile_table(b"", der.Element(0, 0, 0), TableMeta(b"", b"", b"", None, 0, 0), fd)
        return Table(fd)
    finally:
        os.close(fd)


def _both(certificate: x509.Certificate) -> str:
    return f"{describe(certificate)} of {printable(certificate.issuer)}"
