"""The load generator says what happened: to the bytes, to the clients, to the time, and to itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from bench.errors import BenchError
from bench.loadgen import Load, LoadSite, Plan, Result, echo_service
from bench.material import Material
from tests.bench.tls_server import TlsServer, peer_serial
from tests.brokers import receive

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from bench.build import Programs

STALL = 0.2


def run(site: LoadSite, server: TlsServer, plan: Plan) -> Result:
    with Load(site, server.port, plan) as load:
        return load.run()


def stalls(at: int) -> Callable[[int, bytes], bytes]:
    """An answer that comes late once."""

    def answer(number: int, message: bytes) -> bytes:
        if number == at:
            time.sleep(STALL)
        return message

    return answer


def changes(at: int, into: Callable[[bytes], bytes]) -> Callable[[int, bytes], bytes]:
    """An answer that is wrong once."""
    return lambda number, message: into(message) if number == at else message


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_full_and_resumed_handshakes_are_told_apart(
    site: LoadSite, material: Material, tls: Literal["1.2", "1.3"]
) -> None:
    plan = Plan("handshakes", connections=2, count=10, tls=tls)
    with TlsServer(material) as server:
        full = run(site, server, plan)
        resumed = run(site, server, replace(plan, resume=True))
    assert (full.done, full.resumed, full.failed) == (10, 0, {})
    assert (resumed.done, resumed.resumed, resumed.failed) == (10, 10, {})


@pytest.mark.parametrize("size", [1, 64, 1 << 20])
def test_round_trips_of_any_size_come_back_whole(site: LoadSite, material: Material, size: int) -> None:
    with TlsServer(material) as server:
        result = run(site, server, Plan("echo", connections=2, count=6, size=size))
    assert (result.done, result.failed) == (6, {})


@pytest.mark.parametrize(
    "into", [lambda sent: bytes([sent[0] ^ 1]) + sent[1:], lambda sent: sent + b"!"], ids=["changed", "added"]
)
def test_wrong_bytes_are_counted(site: LoadSite, material: Material, into: Callable[[bytes], bytes]) -> None:
    with TlsServer(material, answer=changes(5, into)) as server:
        result = run(site, server, Plan("handshakes", count=10, size=16))
    assert (result.done, result.failed) == (9, {"wrong bytes": 1})


def test_a_connection_that_was_to_stay_and_did_not_is_a_failure(site: LoadSite, material: Material) -> None:
    with TlsServer(material) as server, Load(site, server.port, Plan("idle", connections=4)) as load:
        server.drop(1)
        deadline = time.monotonic() + 5
        while server.open > 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        result = load.run()
    assert sum(result.failed.values()) == 1


def test_failures_are_counted_by_kind(
    site: LoadSite, material: Material, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port: int = nobody.getsockname()[1]
        with Load(site, port, Plan("handshakes", count=1, timeout=0.1)) as load:
            assert load.run().failed == {"timeout": 1}
    with Load(site, port, Plan("handshakes", count=1)) as load:
        assert load.run().failed == {"connect": 1}
    stranger = Material.make(tmp_path_factory.mktemp("stranger"))
    with TlsServer(stranger) as server:
        assert run(site, server, Plan("handshakes", count=1)).failed == {"tls": 1}
        theirs = LoadSite(site.program, replace(material, ca=stranger.ca), site.cpu)
        assert run(theirs, server, Plan("handshakes", count=1)).failed == {"alert 48 unknown CA": 1}


def test_a_closed_loop_hides_a_stall_and_an_open_loop_does_not(site: LoadSite, material: Material) -> None:
    plan = Plan("echo", count=100)
    with TlsServer(material, answer=stalls(20)) as server:
        closed = run(site, server, plan)
    with TlsServer(material, answer=stalls(20)) as server:
        opened = run(site, server, replace(plan, rate=200.0))
    assert closed.done == opened.done == 100
    assert closed.latency_us["p90"] < STALL / 2 * 1e6 <= opened.latency_us["p90"]
    assert opened.latency_us["max"] >= STALL * 1e6
    assert (closed.late, closed.late_no_slot) == (0, 0)
    # 40 were due while the only connection waited for its answer.
    assert opened.late >= 35
    assert opened.late_no_slot >= 20


def test_an_open_loop_of_handshakes_counts_from_when_each_was_due(site: LoadSite, material: Material) -> None:
    with TlsServer(material, answer=stalls(4)) as server:
        result = run(site, server, Plan("handshakes", rate=100.0, seconds=0.4))
    assert (result.done, result.failed) == (40, {})
    assert result.latency_us["p90"] >= STALL / 2 * 1e6


def test_an_open_loop_keeps_its_rate(site: LoadSite, material: Material) -> None:
    with TlsServer(material) as server:
        result = run(site, server, Plan("echo", connections=4, rate=200.0, seconds=0.5))
    assert result.done == 100
    assert result.seconds >= 99 / 200


def test_arrivals_that_find_no_connection_in_time_fail(site: LoadSite, material: Material) -> None:
    def answer(_number: int, message: bytes) -> bytes:
        time.sleep(STALL)
        return message

    with TlsServer(material, answer=answer) as server:
        result = run(site, server, Plan("handshakes", rate=1000.0, count=200, timeout=STALL / 2))
    assert (result.done, result.failed) == (0, {"timeout": 200})
    assert server.serials.total() < 100


def test_it_says_when_it_had_no_cpu_to_keep_the_rate(site: LoadSite, material: Material) -> None:
    plan = Plan("echo", connections=4, rate=200.0, seconds=1.5)
    with TlsServer(material) as server, Load(site, server.port, plan) as load:
        load.start()
        time.sleep(0.1)
        os.kill(load.pid, signal.SIGSTOP)
        time.sleep(STALL)
        os.kill(load.pid, signal.SIGCONT)
        result = load.wait()
    assert result.done == 300
    assert result.late - result.late_no_slot >= 20
    assert result.load_was_limit


def test_it_says_when_it_used_its_processor_up(site: LoadSite, material: Material) -> None:
    with TlsServer(material) as server:
        result = run(site, server, Plan("handshakes", connections=4, count=50))
    assert result.load_was_limit == (result.cpu_seconds > 0.9 * result.seconds)


def test_it_was_the_limit_when_it_had_no_descriptor_left(site: LoadSite, material: Material) -> None:
    with TlsServer(material) as server:
        plan = Plan("storm", connections=8)
        with Load(site, server.port, plan) as load:
            # Standard streams, epoll, signals, timer: few are left for connections.
            subprocess.run(["prlimit", f"--pid={load.pid}", "--nofile=10:10"], check=True)
            result = load.run()
    assert result.failed["no port"] >= 1
    assert result.done + sum(result.failed.values()) == 8
    assert result.load_was_limit


def test_many_distinct_certificates_are_presented_in_turn(site: LoadSite, material: Material) -> None:
    wanted = material.client_serials
    with TlsServer(material) as server:
        result = run(site, server, Plan("handshakes", count=3 * len(wanted), clients=len(wanted)))
    assert result.failed == {}
    assert server.serials == dict.fromkeys(wanted, 3)


def test_as_many_distinct_certificates_as_were_asked_for(site: LoadSite, material: Material) -> None:
    with TlsServer(material) as server:
        run(site, server, Plan("storm", connections=6, clients=3))
    assert server.serials == dict.fromkeys(material.client_serials[:3], 2)


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("rate", [0.0, 200.0], ids=["closed", "open"])
def test_the_share_of_revoked_clients_is_refused(
    site: LoadSite, material: Material, listing: Path, tls: Literal["1.2", "1.3"], rate: float
) -> None:
    plan = Plan("handshakes", connections=4, count=40, rate=rate, tls=tls, revoked_share=0.25)
    with TlsServer(material, crl=listing) as server:
        result = run(site, server, plan)
    assert (result.done, result.refused, result.failed) == (30, 10, {})
    assert result.refused_latency_us["p50"] > 0


def test_revoked_clients_are_spread_evenly(site: LoadSite, material: Material) -> None:
    order: list[bool] = []

    def admit(_server: TlsServer, connection: ssl.SSLSocket) -> bool:
        order.append(peer_serial(connection) in material.revoked_serials)
        return True

    with TlsServer(material, admit=admit) as server:
        run(site, server, Plan("handshakes", count=9, revoked_share=1 / 3))
    assert order == [False, True, False] * 3


def test_a_revoked_client_that_is_served_is_a_failure(site: LoadSite, material: Material) -> None:
    with TlsServer(material) as server:
        result = run(site, server, Plan("handshakes", count=10, revoked_share=0.5))
    assert (result.done, result.refused, result.failed) == (5, 0, {"revoked but served": 5})


def test_a_revoked_client_in_a_storm_is_refused(site: LoadSite, material: Material, listing: Path) -> None:
    with TlsServer(material, crl=listing) as server:
        result = run(site, server, Plan("storm", connections=10, revoked_share=0.3))
    assert (result.done, result.refused, result.failed) == (7, 3, {})


def test_a_revoked_client_that_is_refused_for_another_reason_is_a_failure(
    site: LoadSite, material: Material
) -> None:
    def admit(_server: TlsServer, connection: ssl.SSLSocket) -> bool:
        return peer_serial(connection) not in material.revoked_serials

    with TlsServer(material, admit=admit) as server:
        result = run(site, server, Plan("handshakes", count=10, revoked_share=0.5))
    assert (result.done, result.refused, result.failed) == (5, 0, {"closed": 5})


def test_a_resumed_revoked_client_may_be_refused_by_the_end_of_the_connection(
    site: LoadSite, material: Material
) -> None:
    def admit(_server: TlsServer, connection: ssl.SSLSocket) -> bool:
        return not (connection.session_reused and peer_serial(connection) in material.revoked_serials)

    plan = Plan("handshakes", connections=2, count=20, resume=True, revoked_share=0.5)
    with TlsServer(material, admit=admit) as server:
        result = run(site, server, plan)
    assert (result.done, result.resumed, result.refused, result.failed) == (10, 10, 10, {})


def test_a_storm_connects_all_clients_and_keeps_them(site: LoadSite, material: Material) -> None:
    with TlsServer(material) as server:
        result = run(site, server, Plan("storm", connections=50))
    assert (result.done, result.failed) == (50, {})
    assert server.most_open == 50
    # One microsecond: the report rounds seconds to it.
    assert result.latency_us["max"] <= result.seconds * 1e6 + 1


def test_until_closed_measures_when_the_server_closed_each(site: LoadSite, material: Material) -> None:
    plan = Plan("idle", connections=5, revoked=True, until_closed=True)
    with TlsServer(material) as server, Load(site, server.port, plan) as load:
        load.start()
        time.sleep(STALL)
        server.drop(5)
        result = load.wait()
    assert set(server.serials) == set(material.revoked_serials)
    assert (result.done, result.failed) == (5, {})
    # The generator may see the start a little later than it was given.
    assert result.latency_us["p50"] >= STALL / 2 * 1e6


def test_until_closed_fails_for_what_stays_open(site: LoadSite, material: Material) -> None:
    plan = Plan("idle", connections=5, until_closed=True, timeout=0.6)
    with TlsServer(material) as server, Load(site, server.port, plan) as load:
        load.start()
        server.drop(3)
        result = load.wait()
    assert (result.done, result.failed) == (3, {"timeout": 2})


def test_connections_that_do_not_come_up_end_the_preparation(
    site: LoadSite, material: Material, listing: Path
) -> None:
    with TlsServer(material, crl=listing) as server:
        load = Load(site, server.port, Plan("idle", connections=100, revoked=True))
        with pytest.raises(BenchError, match=r"0 of 100 connections came up: .*alert 44 certificate revoked"):
            load.__enter__()


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (Plan("idle", rate=5.0), "--rate is for handshakes and echo"),
        (Plan("echo"), "--count or --seconds is missing"),
        (Plan("storm", until_closed=True), "--until-closed is for idle"),
        (Plan("echo", count=1, resume=True), "--resume is for handshakes"),
        (Plan("echo", count=1, revoked_share=0.1), "--revoked-share is for handshakes and storm"),
        (Plan("handshakes", count=1, revoked_share=1.5), "--revoked-share cannot be '1.5'"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_in_one_line(site: LoadSite, plan: Plan, why: str) -> None:
    with pytest.raises(BenchError, match=why) as raised:
        Load(site, 1, plan).__enter__()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda _text: b"", "holds no private key"),
        (lambda text: text[: text.rindex(b"-----BEGIN CERT")], "client 8: .*not followed by its certificate"),
        (lambda text: text[text.index(b"-----BEGIN CERT") :], "client 1: no private key"),
        (lambda text: text.replace(b"-----END PRIVATE", b"-----END"), "client 1: no private key"),
    ],
    ids=["empty", "cut off", "starts with a certificate", "damaged"],
)
def test_a_bundle_of_clients_that_is_no_good_is_named(
    site: LoadSite, material: Material, tmp_path: Path, broken: Callable[[bytes], bytes], why: str
) -> None:
    bundle = tmp_path / "clients.pem"
    bundle.write_bytes(broken(material.clients.read_bytes()))
    there = LoadSite(site.program, replace(material, clients=bundle), site.cpu)
    with pytest.raises(BenchError, match=f"clients.pem.*{why}"):
        Load(there, 1, Plan("storm", clients=len(material.client_serials))).__enter__()


def test_the_echo_service_sends_back_what_it_gets(programs: Programs, site: LoadSite) -> None:
    sent = os.urandom(1 << 20)
    with echo_service(programs, site.cpu) as port, socket.create_connection(("127.0.0.1", port), 10) as peer:
        for start in range(0, len(sent), 1 << 16):
            part = sent[start : start + (1 << 16)]
            peer.sendall(part)
            assert receive(peer, len(part)) == part
