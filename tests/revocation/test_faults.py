"""A list that is in force, a real web server, and everything that can go wrong between them.

The clock is the test's own and stands still, except where an answer moves it.
"""

from __future__ import annotations

import datetime as dt
import gc
import gzip
import json
import ssl
import tracemalloc
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

from gateway.addresses import AddressPolicy
from gateway.commands import Answer as Told
from gateway.commands import Status
from gateway.fetch import Fetcher
from gateway.operations import Operations
from gateway.revocation.authorities import Authorities
from gateway.revocation.crl import VerifiedCrl, verify_crl
from gateway.revocation.refresh import CrlRefresher, CrlSource
from gateway.revocation.serials import SerialFiles
from gateway.schedule import Limits, Schedule
from gateway.status import Known, of_source
from gateway.store import Restored, StateStore
from tests.authority import NOW, Authority, Revoked
from tests.http_server import Answer, Immense, Server, http, no_tls, raw, reset, reset_at_once, serving
from tests.observer import Recorder
from tests.resolver import resolving
from tests.statuses import a_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock

    from gateway.status import Status as GatewayStatus

CA = Authority.root("Test CA")
TRUSTED = Authorities([CA.cert])
LISTS = {number: CA.crl([Revoked(serial) for serial in range(number)], number=number) for number in (1, 2)}
WEB = trustme.CA()

HOST, PATH = "crl.example", "/ca.crl"
INTERVAL, TIMEOUT = 900.0, 15.0
MAX_BYTES = 4 << 20
CHANCE = 0.5


def tls(*, of: trustme.CA = WEB, name: str = HOST, begins: int = -30, days: int = 1) -> ssl.SSLContext:
    """What a server presents: a certificate that begins and ends in so many days."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    now = dt.datetime.now(dt.UTC)
    times: dict[str, Any] = {
        "not_before": now + dt.timedelta(days=begins),
        "not_after": now + dt.timedelta(days=days),
    }
    of.issue_cert(name, **times).configure_cert(context)
    return context


def self_signed() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    alone = trustme.CA()
    with alone.cert_pem.tempfile() as cert, alone.private_key_pem.tempfile() as key:
        context.load_cert_chain(cert, key)
    return context


async def none_late() -> int:
    await trio.lowlevel.checkpoint()
    return 0


class Scene:
    """One source, from a web server to what is in force, with a disk."""

    def __init__(self, server: Server, clock: MockClock, directory: Path) -> None:
        self.server = server
        self.clock = clock
        self.names = resolving(["127.0.0.1"])
        self.url = f"{server.base.partition(':')[0]}://{HOST}:{server.port}{PATH}"
        self.store = StateStore(directory)
        self.store.prepare()
        self.installed: list[int | None] = []
        self.recorder = Recorder()
        self.refresher = self.start()
        unused: Any = None
        self.operations = Operations(
            unused,
            unused,
            SerialFiles([]),
            lambda: [("list", self.refresher)],
            tuple,
            self.look,
            unused,
            late=none_late,
            reload=unused,
            drain=unused,
            now=self.now,
        )

    def start(self) -> CrlRefresher[VerifiedCrl]:
        """As after a restart."""
        trusting = ssl.create_default_context()
        WEB.configure_trust(trusting)
        self.refresher = CrlRefresher(
            CrlSource(self.url, INTERVAL, TIMEOUT, MAX_BYTES),
            fetch=Fetcher(AddressPolicy(), trusting).get,
            verify=lambda data: verify_crl(data, TRUSTED, now=NOW),
            install=self.install,
            store=self.store,
            limits=Limits(),
            observer=self.recorder,
            now=self.now,
            chance=lambda: CHANCE,
        )
        return self.refresher

    async def told(self) -> tuple[str, dict[str, Any]]:
        """What `tls-gateway status` shows of the source, to people and to machines."""
        answer = await self.operations.handle(Status(), "root")
        assert isinstance(answer, Told)
        # However it is broken into lines.
        return " ".join(" ".join(answer.lines).split()), json.loads(answer.data)["sources"][0]

    def look(self) -> GatewayStatus:
        return a_status(now=self.now(), sources=(of_source(Known("list", self.refresher.state), self.now()),))

    def now(self) -> float:
        return NOW + self.clock.current_time()

    async def install(self, verified: VerifiedCrl) -> int:
        await trio.lowlevel.checkpoint()
        self.installed.append(verified.number)
        return 0

    def offers(self, answer: Answer) -> None:
        self.server.answers[PATH] = answer

    def offers_list(self, number: int) -> None:
        self.offers(http("200 OK", LISTS[number], f'ETag: "{number}"'))


@asynccontextmanager
async def scene(
    clock: MockClock, directory: Path, secure: ssl.SSLContext | None = None
) -> AsyncIterator[Scene]:
    """With the first list in force, and the source under its schedule."""
    async with serving(secure) as server, trio.open_nursery() as nursery:
        made = Scene(server, clock, directory)
        made.offers_list(1)
        nursery.start_soon(made.refresher.schedule.run)
        await made.refresher.schedule.first_attempt_done.wait()
        assert made.installed == [1]
        yield made
        nursery.cancel_scope.cancel()


Fault = Callable[[Scene], None]


def answers(answer: Answer) -> Fault:
    return lambda scene: scene.offers(answer)


def redirects_to_itself(scene: Scene) -> None:
    scene.offers(http("302 Found", b"", f"Location: {PATH}"))


def hangs(scene: Scene) -> None:
    async def hang(_stream: trio.abc.Stream) -> None:
        scene.clock.jump(TIMEOUT)
        await trio.sleep_forever()

    scene.offers(hang)


def trickles(scene: Scene) -> None:
    """Always some progress: a bound on silence alone would never strike."""

    async def trickle(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        for _ in range(int(TIMEOUT * 2)):
            await stream.send_all(b"0")
            scene.clock.jump(0.5)
        await trio.sleep_forever()

    scene.offers(trickle)


def has_no_address(scene: Scene) -> None:
    scene.names.answers = [[]]


def listens_no_more(scene: Scene) -> None:
    # Of the loopback network, and nobody is there.
    scene.names.answers = [["127.0.0.2"]]


def presents(context: Callable[[], ssl.SSLContext]) -> Fault:
    def present(scene: Scene) -> None:
        scene.server.tls = context()

    return present


def at_the_door(bare: Answer) -> Fault:
    def stand(scene: Scene) -> None:
        scene.server.bare = bare

    return stand


async def ends(stream: trio.abc.Stream) -> None:
    await stream.receive_some()


def hangs_in_the_handshake(scene: Scene) -> None:
    async def hang(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        scene.clock.jump(TIMEOUT)
        await trio.sleep_forever()

    scene.server.bare = hang


WHOLE = LISTS[2]
PAGE = b"<!DOCTYPE html>\n<title>Down for maintenance</title>"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = f"larger than {MAX_BYTES} bytes"
FAULTS = {
    "404": (answers(http("404 Not Found", PAGE)), "status 404 Not Found"),
    "500": (answers(http("500 Internal Server Error")), "status 500 Internal Server Error"),
    "redirect loop": (redirects_to_itself, "more than 5 redirects"),
    "slow trickle": (trickles, "no complete answer within 15 s"),
    "silence": (hangs, "no complete answer within 15 s"),
    "length too large": (
        answers(raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(WHOLE) + 1), WHOLE)),
        f"(received {len(WHOLE)} bytes, expected {len(WHOLE) + 1})",
    ),
    "length too small": (
        answers(raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(WHOLE) - 1), WHOLE)),
        "not a CRL in DER",
    ),
    "chunks cut off": (answers(raw(CHUNKED, b"%x\r\n" % len(WHOLE), WHOLE[:-1])), "incomplete chunked read"),
    "no length, cut off": (answers(raw(b"HTTP/1.1 200 OK\r\n\r\n", WHOLE[:-1])), "not a CRL in DER"),
    "truncated where it was made": (answers(http("200 OK", WHOLE[: len(WHOLE) // 2])), "not a CRL in DER"),
    "empty": (answers(http("200 OK")), "neither DER nor PEM"),
    "gzip cut off": (
        answers(http("200 OK", gzip.compress(WHOLE)[:-4], "Content-Encoding: gzip")),
        "gzip: the compressed body is cut off",
    ),
    "gzip that nobody announced": (answers(http("200 OK", gzip.compress(WHOLE))), "neither DER nor PEM"),
    "gzip bomb": (
        answers(http("200 OK", gzip.compress(bytes(64 << 20)), "Content-Encoding: gzip")),
        TOO_LARGE,
    ),
    "web page": (
        answers(http("200 OK", PAGE, "Content-Type: text/html")),
        'neither DER nor PEM "X509 CRL": it begins with \'<!DOCTYPE html>',
    ),
    "2 GB announced": (answers(Immense(2 << 30, f"Content-Length: {2 << 30}")), TOO_LARGE),
    "2 GB": (answers(Immense(2 << 30)), TOO_LARGE),
    "reset": (answers(reset), "Connection reset by peer"),
    "closed": (answers(raw(b"")), "Server disconnected without sending a response"),
    "no such name": (has_no_address, f"cannot resolve {HOST}: Name or service not known"),
    "refused": (listens_no_more, "Connection refused"),
    "not its CA's": (
        answers(http("200 OK", Authority.root("Test CA").crl(number=9))),
        "CRL of CN=Test CA: ",
    ),
}
TLS_FAULTS = {
    "self-signed": (presents(self_signed), "TLS: self-signed certificate"),
    "unknown authority": (
        presents(lambda: tls(of=trustme.CA())),
        "TLS: unable to get local issuer certificate",
    ),
    "expired": (presents(lambda: tls(days=-1)), "TLS: certificate has expired"),
    "wrong name": (
        presents(lambda: tls(name="other.example")),
        f"TLS: Hostname mismatch, certificate is not valid for '{HOST}'",
    ),
    "not yet valid": (presents(lambda: tls(begins=1, days=2)), "TLS: certificate is not yet valid"),
    "plain HTTP": (at_the_door(no_tls), "no TLS is spoken there"),
    "silence in the handshake": (hangs_in_the_handshake, "no complete answer within 15 s"),
    "reset in the handshake": (at_the_door(reset_at_once), "Connection reset by peer"),
    "closed in the handshake": (at_the_door(ends), "TLS: unexpected eof while reading"),
    "redirect to http": (
        answers(http("302 Found", b"", "Location: http://127.0.0.1/")),
        "redirected to http://127.0.0.1/: refused, because it leads from https to http",
    ),
}


@pytest.mark.parametrize(
    ("secure", "fault", "said"),
    [
        *(pytest.param(False, *row, id=name) for name, row in FAULTS.items()),
        *(pytest.param(True, *row, id=f"https: {name}") for name, row in TLS_FAULTS.items()),
    ],
)
async def test_the_list_in_force_outlives_every_fault(
    secure: bool, fault: Fault, said: str, mock_clock: MockClock, tmp_path: Path
) -> None:
    good = tls() if secure else None
    async with scene(mock_clock, tmp_path, good) as at:
        state, schedule = at.refresher.state, at.refresher.schedule
        kept, succeeded = at.store.load_crl(at.url), state.last_success
        fault(at)
        for failures in (1, 2, 3):
            await schedule.refresh()
            # What was in force is, and is what the next start would find.
            assert at.installed == [1]
            assert at.store.load_crl(at.url) == kept
            assert (state.number, state.last_success) == (1, succeeded)
            assert state.etag == '"1"'
            # It is asked again as the back-off says.
            delay = Schedule(INTERVAL).after_failure(failures, CHANCE)
            assert state.consecutive_failures == failures
            assert state.next_attempt == pytest.approx(at.now() + delay)
            # The status says why, and of what.
            assert state.last_error is not None
            assert said in state.last_error
            assert state.url == at.url
            assert at.recorder.events[-1] == (state.last_error, delay)
            text, shown = await at.told()
            assert f"LISTS {at.url} [" in text
            assert "] in force, " in text
            assert "number 1, 0 entries, " in text
            assert f"failed {failures} times: {' '.join(state.last_error.split())}" in text
            assert (shown["url"], shown["last_error"]) == (at.url, state.last_error)
            assert (shown["consecutive_failures"], shown["next_attempt"]) == (failures, state.next_attempt)
        # And when it is over, it is over.
        at.offers_list(2)
        at.names.answers, at.server.tls, at.server.bare = [["127.0.0.1"]], good, None
        await schedule.refresh()
        assert at.installed == [1, 2]
        assert (state.number, state.consecutive_failures, state.last_error) == (2, 0, None)
        assert at.recorder.events[-1] == "fetched"
        assert " times: " not in (await at.told())[0]
        stored = at.store.load_crl(at.url).crl
        assert stored is not None
        assert stored.der == LISTS[2]


async def test_gzip_is_no_fault(mock_clock: MockClock, tmp_path: Path) -> None:
    async with scene(mock_clock, tmp_path) as at:
        at.offers(http("200 OK", gzip.compress(LISTS[2]), "Content-Encoding: gzip"))
        await at.refresher.schedule.refresh()
        assert at.installed == [1, 2]


async def test_of_a_body_without_end_no_more_is_read_or_held_than_the_bound(
    mock_clock: MockClock, tmp_path: Path
) -> None:
    async with scene(mock_clock, tmp_path) as at:
        body = Immense(2 << 30)
        at.offers(body)
        # The bound is kept without the help of the garbage collector.
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(4):
                await at.refresher.schedule.refresh()
            held, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
    assert held < MAX_BYTES / 2
    assert most < 1.5 * MAX_BYTES
    # Each time the bound, and what the kernel's buffers take; the first time as a small body, too.
    assert body.sent < 5 * (MAX_BYTES + (16 << 20))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [cut, flip, empty, remove])
@pytest.mark.parametrize("suffix", [".der", ".json"])
async def test_a_stored_list_that_is_damaged_is_reported_and_fetched_again_whole(
    damage: Callable[[Path], None], suffix: str, mock_clock: MockClock, tmp_path: Path
) -> None:
    async with scene(mock_clock, tmp_path) as at:
        [path] = (tmp_path / "crl").glob(f"*{suffix}")
        damage(path)
        again = at.start()
        problem = await again.restore()
        # Without a description there is nothing that anybody knows of.
        assert (problem is None) == (damage is remove and suffix == ".json")
        assert problem is None or str(path.with_suffix("")) in problem
        assert at.installed == [1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.schedule.run)
            await again.schedule.first_attempt_done.wait()
            nursery.cancel_scope.cancel()
        assert at.installed == [1, 1]
        assert b"if-none-match" not in at.server.requests[-1].lower()
        restored = at.store.load_crl(at.url)
        assert restored.problem is None
        assert restored != Restored()


async def test_a_stored_list_that_is_sound_is_asked_for_when_it_is_due(
    mock_clock: MockClock, tmp_path: Path
) -> None:
    async with scene(mock_clock, tmp_path) as at:
        again = at.start()
        assert await again.restore() is None
        assert at.installed == [1, 1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.schedule.run)
            await trio.testing.wait_all_tasks_blocked()
            assert len(at.server.requests) == 1
            assert again.state.next_attempt == pytest.approx(at.now() + 0.95 * INTERVAL)
            mock_clock.jump(INTERVAL)
            await again.schedule.first_attempt_done.wait()
            nursery.cancel_scope.cancel()
        assert b'if-none-match: "1"' in at.server.requests[-1].lower()
