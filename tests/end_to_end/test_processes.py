"""What the family of processes promises when its members die, drain and stop."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.clients import Echo, client, echoes, resume, tls_context
from tests.end_to_end.gateways import configure, has_ended, workers_of
from tests.end_to_end.parts import (
    TIMEOUT,
    Gateway,
    OpensslCa,
    Web,
    accepts,
    free_port,
    until,
    until_revoked,
)

if TYPE_CHECKING:
    from pathlib import Path

# RFC 8446, section 4.
NEW_SESSION_TICKET = 4


def test_a_killed_worker_is_replaced_and_the_others_connections_do_not_notice(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    with Gateway(config, port) as gateway:
        before = workers_of(gateway)
        assert set(before) == {"gw-worker-0", "gw-worker-1"}
        clients = [client(port, ca) for _ in range(12)]
        connections = [held.__enter__() for held in clients]
        os.kill(before["gw-worker-0"], signal.SIGKILL)
        until(lambda: len(workers_of(gateway)) == 2 and workers_of(gateway) != before, "another worker")
        alive = 0
        for connection in connections:
            try:
                alive += echoes(connection)
            except OSError:
                continue
        # Whichever of them worker 1 had: SO_REUSEPORT spreads by a hash of the ports.
        assert 0 < alive < len(connections)
        for _ in range(8):
            with client(port, ca):
                pass
        for connection in connections:
            connection.close()


def test_new_connections_are_served_throughout_the_death_of_control(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    ca.issue("later")
    config, port = configure(tmp_path, ca, web, echo.port)
    with Gateway(config, port) as gateway:
        with client(port, ca) as held:
            os.kill(gateway.children()["gw-control"], signal.SIGKILL)
            with client(port, ca):
                assert echoes(held)
            gateway.wait_for(" ready ", count=2)
            assert echoes(held)
        ca.revoke("later")
        ca.publish()
        gateway.wait_for("list in force", "number=2")
        until_revoked(port, ca, "later")


def test_sigterm_drains_and_exits_with_0(tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, drain="20s")
    with Gateway(config, port) as gateway:
        with client(port, ca) as held:
            gateway.process.send_signal(signal.SIGTERM)
            gateway.wait_for("stopping")
            # Others are sent elsewhere at once, rather than left to queue.
            until(lambda: not accepts(port), "the door to be shut")
            # A live connection is served until it ends by itself.
            for _ in range(5):
                assert echoes(held)
                time.sleep(0.05)
        assert gateway.process.wait(10) == 0
        assert not gateway.lines("drain timed out")


def test_too_few_descriptors_are_told_at_the_start(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, listener="max_connections = 2_000_000_000")
    with Gateway(config, port) as gateway:
        (line,) = gateway.lines("descriptor limit low")
        assert "max_connections=2000000000" in line


def test_a_signal_to_the_whole_family_drains_all_the_same(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, drain="20s")
    with Gateway(config, port) as gateway:
        with client(port, ca) as held:
            os.killpg(gateway.process.pid, signal.SIGTERM)
            gateway.wait_for("stopping")
            assert echoes(held)
        assert gateway.process.wait(10) == 0
        assert len(gateway.lines("child ended", "exit code 0")) == 3


def test_a_connection_that_outlasts_the_drain_ends_with_close_notify(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, drain="300ms")
    with Gateway(config, port) as gateway, client(port, ca) as held:
        gateway.process.send_signal(signal.SIGTERM)
        assert held.recv(1) == b""
        assert gateway.process.wait(10) == 0


def test_nothing_is_left_when_the_supervisor_is_killed(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    with Gateway(config, port) as gateway:
        children = gateway.children()
        assert len(children) == 3
        gateway.process.kill()
        gateway.process.wait()
        until(lambda: all(has_ended(pid) for pid in children.values()), "the children to end")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_resume_on_any_worker_and_are_looked_up_again(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, version: ssl.TLSVersion
) -> None:
    ca.issue("roamer")
    config, port = configure(tmp_path, ca, web, echo.port, workers=3)
    context = tls_context(ca, "roamer")
    context.minimum_version = context.maximum_version = version

    with Gateway(config, port) as gateway:
        echoed, resumed, session = resume(port, context, None)
        assert (echoed, resumed) == (True, False)
        # With three workers, twelve connections that all resume have met more than one.
        for _ in range(12):
            assert resume(port, context, session)[:2] == (True, True)
        ca.revoke("roamer")
        ca.publish()

        def turned_away() -> bool:
            # Each worker hears of the list in its own time, and is met by chance.
            assert resume(port, context, session)[1]
            refusal = ("client refused", "reason=certificate_revoked", "resumed=True", "CN=roamer")
            return bool(gateway.lines(*refusal))

        until(turned_away, "the list to be in force")
        assert resume(port, context, session)[:2] == (False, True)


def test_a_full_handshake_brings_one_ticket(tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo) -> None:
    tickets = 0

    def notice(
        _connection: object, direction: str, _version: object, _type: object, message: int, _data: bytes
    ) -> None:
        nonlocal tickets
        tickets += direction == "read" and message == NEW_SESSION_TICKET

    config, port = configure(tmp_path, ca, web, echo.port)
    with Gateway(config, port):
        context = tls_context(ca)
        context._msg_callback = notice  # type: ignore[attr-defined]  # CPython's own tests use it
        with (
            socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            assert echoes(connection)
            assert connection.version() == "TLSv1.3"
    assert tickets == 1


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 4096, b""]
)
def test_garbage_costs_a_debug_line_and_nobody_else_notices(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, garbage: bytes
) -> None:
    config, port = configure(
        tmp_path,
        ca,
        web,
        echo.port,
        listener='handshake_timeout = "1s"\nmax_connections = 100',
        extra='log = { level = "debug" }',
    )
    with Gateway(config, port) as gateway:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as stranger:
            stranger.sendall(garbage)
            with client(port, ca):
                pass
            while True:
                try:
                    if not stranger.recv(4096):
                        break
                except ConnectionResetError:
                    break
        gateway.wait_for(" debug ", "handshake")
        assert not gateway.lines(" warning ")
        assert not gateway.lines(" error ")


def test_max_connections_holds_over_all_workers(tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, listener="max_connections = 3")
    with Gateway(config, port) as gateway:
        held = [client(port, ca) for _ in range(3)]
        for one in held:
            one.__enter__()
        with pytest.raises(OSError, match=r"closed|reset|EOF"), client(port, ca):
            pytest.fail("a fourth came in")
        gateway.wait_for("max_connections reached")
        for one in held:
            one.__exit__(None, None, None)

        def comes_in() -> bool:
            try:
                with client(port, ca):
                    return True
            except OSError:
                return False

        until(comes_in, "room for another")


def test_a_broker_that_is_away_is_logged_and_the_client_closed(
    tmp_path: Path, ca: OpensslCa, web: Web
) -> None:
    config, port = configure(tmp_path, ca, web, free_port())
    with Gateway(config, port) as gateway:
        with pytest.raises((OSError, AssertionError)), client(port, ca):
            pytest.fail("nobody could have echoed")
        gateway.wait_for("broker unreachable", "refused")


def test_a_second_gateway_on_the_same_address_or_state_is_refused(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    other = tmp_path / "other.toml"
    other.write_text(config.read_text())
    with Gateway(config, port):
        second = Gateway(other, port)
        with pytest.raises(AssertionError, match="in use by another gateway"):
            second.__enter__()
        other.write_text(config.read_text().replace(f"{tmp_path}/state", f"{tmp_path}/other-state"))
        with pytest.raises(AssertionError, match=f"listeners.0..bind.0.*cannot listen on 127.0.0.1:{port}"):
            second.__enter__()


def test_a_list_that_comes_later_lets_the_waiting_client_in(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    (ca.web / "ca.crl").rename(ca.web / "later.crl")
    config, port = configure(tmp_path, ca, web, echo.port, revocation='on_unavailable = "wait"')
    with Gateway(config, port):
        arrived = threading.Timer(0.5, lambda: (ca.web / "later.crl").rename(ca.web / "ca.crl"))
        arrived.start()
        with client(port, ca):
            pass
        arrived.join()


def test_on_unavailable_accept_lets_an_uncovered_client_in(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    (ca.web / "ca.crl").unlink()
    config, port = configure(tmp_path, ca, web, echo.port, revocation='on_unavailable = "accept"')
    with Gateway(config, port), client(port, ca):
        pass
