"""Each program that is measured does the job that it is measured at; one that is not installed is skipped."""

from __future__ import annotations

import os
import re
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from bench import peers, processes
from bench.errors import BenchError
from bench.material import Material
from bench.servers import Kind, Server, Site, Source, kinds
from bench.servers import running as run_for_long

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMES = ("gateway", "haproxy", "nginx", "stunnel", "hitch", "envoy", "erlang")
ROUND_TRIPS = 60
TIMEOUT = 10.0


running = partial(run_for_long, timeout=20.0)


@cache
def everything() -> dict[str, Kind]:
    """Asked once, and not before a test runs: each program is run for its version."""
    return {kind.name: kind for kind in kinds()}


def installed(name: str) -> Kind:
    kind = everything()[name]
    if kind.missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is missing: {kind.missing}")
        pytest.skip(f"{name} is missing: {kind.missing}")
    return kind


@dataclass(frozen=True)
class Place:
    """Where the servers of these tests stand, and a list that names the revoked client."""

    site: Site
    crl: Path

    def directory(self, name: str) -> Path:
        return self.site.material.directory / name

    def anonymous(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.site.material.ca)

    def allowed(self) -> ssl.SSLContext:
        context = self.anonymous()
        context.load_cert_chain(self.site.material.client_cert, self.site.material.client_key)
        return context

    def revoked(self) -> ssl.SSLContext:
        context = self.anonymous()
        context.load_cert_chain(self.site.material.revoked)
        return context


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(ConnectionError):
            while data := self.request.recv(4096):
                self.request.sendall(data)


class Broker(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    material = Material.make(tmp_path_factory.mktemp("servers"))
    crl = material.write_crl(9, listing=material.revoked_serials)
    cpu = min(os.sched_getaffinity(0))
    with Broker(("127.0.0.1", 0), Echo) as broker:
        threading.Thread(target=broker.serve_forever, kwargs={"poll_interval": 0.05}).start()
        yield Place(Site(material, Path(), broker.server_address[1], cpu, cpu), crl)
        broker.shutdown()


class Trip(NamedTuple):
    """What a client saw whose byte came back."""

    version: str | None
    resumed: bool | None
    session: ssl.SSLSession | None


def round_trip(server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Trip:
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as client:
            client.sendall(b"?")
            if client.recv(2) != b"?":
                raise EOFError("closed without an answer")
            return Trip(client.version(), client.session_reused, client.session)


def refusal(server: Server, context: ssl.SSLContext) -> str:
    """What a client sees that is not served.

    It sends nothing: where bytes lie unread in a socket that is closed, the kernel sends a reset, which may
    overtake the alert.
    """
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as client:
                assert client.recv(1) == b"", "served"
        except (ssl.SSLError, ConnectionResetError) as exc:
            return str(exc)
    return "closed"


@dataclass(frozen=True)
class Up:
    """A server that runs, with the list if it can have one."""

    kind: Kind
    server: Server


@pytest.fixture(scope="module", params=NAMES)
def up(request: pytest.FixtureRequest, place: Place) -> Iterator[Up]:
    kind = installed(request.param)
    crl = place.crl if kind.crl else None
    with running(kind, place.site, place.directory(f"{kind.name}-up"), crl=crl, entries=10) as server:
        yield Up(kind, server)


def test_an_allowed_client_is_served_over_tls_1_3(up: Up, place: Place) -> None:
    assert round_trip(up.server, place.allowed()).version == "TLSv1.3"


def test_an_allowed_client_is_served_over_tls_1_2(up: Up, place: Place) -> None:
    context = place.allowed()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert round_trip(up.server, context).version == "TLSv1.2"


def test_a_client_without_a_certificate_is_refused(up: Up, place: Place) -> None:
    assert "CERTIFICATE_REVOKED" not in refusal(up.server, place.anonymous())


def test_a_listed_client_is_refused_where_there_is_a_list(up: Up, place: Place) -> None:
    if up.kind.crl:
        assert ("CERTIFICATE_REVOKED" in refusal(up.server, place.revoked())) == up.kind.alert
    else:
        round_trip(up.server, place.revoked())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_of_a_client_with_a_certificate_is_resumed(
    up: Up, place: Place, version: ssl.TLSVersion
) -> None:
    context = place.allowed()
    context.maximum_version = version
    first = round_trip(up.server, context)
    assert not first.resumed
    assert round_trip(up.server, context, first.session).resumed


def test_cpu_time_is_that_of_all_threads_of_all_processes(up: Up, place: Place) -> None:
    """Held against the kernel's own sum, which is in ticks: one may be missing for each process."""
    before, ticks_before = processes.cpu_seconds(up.server.pid), ticks(up.server.pid)
    context = place.allowed()
    for _ in range(ROUND_TRIPS):
        round_trip(up.server, context)
    used = processes.cpu_seconds(up.server.pid) - before
    tick = 1 / os.sysconf("SC_CLK_TCK")
    allowance = tick * (1 + len(processes.tree(up.server.pid)))
    assert used == pytest.approx((ticks(up.server.pid) - ticks_before) * tick, abs=allowance)
    assert used > ROUND_TRIPS * 100e-6


def ticks(root: int) -> int:
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in processes.tree(root)]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_list_two_workers_serve_the_same_client_and_nothing_is_left_behind(
    name: str, place: Place
) -> None:
    kind = installed(name)
    with running(
        kind, place.site, place.directory(f"{name}-two"), crl=None, entries=None, workers=2
    ) as server:
        round_trip(server, place.revoked())
        tree = processes.tree(server.pid)
    wait_for(lambda: not any(map(alive, tree)))


def wait_for(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Runs, and does not only wait to be reaped by whoever has adopted it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_program_that_cannot_check_a_list_is_not_started_with_one(place: Place) -> None:
    for kind in [kind for kind in everything().values() if not kind.crl]:
        with (
            pytest.raises(BenchError, match=f"{kind.name} cannot check a CRL"),
            running(kind, place.site, place.directory("never"), crl=place.crl, entries=10),
        ):
            pass


def test_a_program_is_not_started_with_more_entries_than_it_can_take(place: Place) -> None:
    limited = [(kind, kind.most_entries) for kind in everything().values() if kind.most_entries is not None]
    for kind, most in limited:
        with (
            pytest.raises(BenchError, match=f"{kind.name} is left out above {most:,} entries"),
            running(kind, place.site, place.directory("never"), crl=place.crl, entries=most + 1),
        ):
            pass


def test_a_server_that_does_not_start_shows_why(place: Place) -> None:
    with (
        pytest.raises(BenchError, match=r"(?s)broken ended with 1:.*missing\.pem"),
        running(
            installed("haproxy"),
            place.site,
            place.directory("broken"),
            crl=place.directory("missing.pem"),
            entries=10,
        ),
    ):
        pass


def test_the_gateway_finds_its_list_in_its_state_when_the_source_is_gone(
    place: Place, tmp_path: Path
) -> None:
    crl = tmp_path / "list.pem"
    crl.write_bytes(place.crl.read_bytes())
    source = Source(crl.as_uri(), state=tmp_path / "state")
    kind = installed("gateway")
    for start in ("first", "second"):
        directory = place.directory(f"gateway-{start}")
        with running(kind, place.site, directory, crl=None, entries=10, source=source) as server:
            assert "CERTIFICATE_REVOKED" in refusal(server, place.revoked())
            assert 0 < server.start_seconds < TIMEOUT
        crl.unlink(missing_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_installed_program_says_its_version(name: str) -> None:
    assert re.search(r"\d+\.\d+", installed(name).version)


@pytest.mark.parametrize("crl", [True, False])
def test_a_configuration_is_filled_and_has_the_lines_of_its_case_only(crl: bool, tmp_path: Path) -> None:
    values = {
        "directory": "/d",
        "port": "1",
        "broker_port": "2",
        "workers": "3",
        "descriptors": "4",
        "connections": "5",
        "ca": "/ca",
        "server_cert": "/cert",
        "server_key": "/key",
        "user": "nobody",
        "crl": "/the-list",
        "crl_url": "file:///the-list",
        "refresh_interval": "1m",
        "state": "/s",
        "ocsp": "",
    }
    for kind in everything().values():
        peers.fill(kind, tmp_path, values, crl=crl)
        text = (tmp_path / kind.template).read_text()
        assert "${" not in text
        assert ("the-list" in text) == (crl and kind.crl)
        assert not re.search(r"# (with|without) a CRL$|# as root$", text, re.MULTILINE)


KILLED = """
import subprocess, time
from bench.servers import _placed
print(subprocess.Popen(_placed(["sleep", "60"], 0, 2)).pid, flush=True)
time.sleep(60)
"""


def test_a_server_ends_when_the_benchmark_is_killed() -> None:
    root = Path(peers.__file__).parent.parent.parent
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        process.kill()
    wait_for(lambda: not alive(pid))


BURNS = """
import os, sys, threading, time
def burn():
    end = time.thread_time() + 0.1
    while time.thread_time() < end: pass
for thread in [threading.Thread(target=burn) for _ in range(2)]:
    thread.start()
    thread.join()
if os.fork() == 0:
    burn()
    print(flush=True)
sys.stdin.read()
"""


def test_cpu_time_counts_threads_that_ended_and_children_that_live() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BURNS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        used = processes.cpu_seconds(process.pid)
    assert 0.3 < used < 0.6
