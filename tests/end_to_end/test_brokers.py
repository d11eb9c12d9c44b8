"""Brokers die and come back behind the gateway, with MQTT going on."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.clients import tls_context
from tests.end_to_end.parts import TIMEOUT, Gateway, Mosquitto, OpensslCa, free_port, publish, run, until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

_CONFIG = """\
state_dir = "{directory}/state"
workers = 1
drain_timeout = "1s"
log = {{ level = "debug" }}

[[listeners]]
name = "external"
bind = ["127.0.0.1:{port}"]
upstreams = [{upstreams}]
balance = "{balance}"
certificates = [{{ cert = "{ca.directory}/server.pem", key = "{ca.directory}/server.key" }}]
client_ca = "{ca.directory}/ca.pem"

[listeners.revocation]
check = "off"

[listeners.health_check]
enabled = true
interval = "50ms"
fall = 2
rise = 1
"""
# MQTT 3.1.1: CONNECT with a clean session and no client id, and its answer; PINGREQ and PINGRESP.
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
_CONNACK = b"\x20\x02\x00\x00"
_PING, _PONG = b"\xc0\x00", b"\xd0\x00"


@contextmanager
def mqtt(port: int, ca: OpensslCa, stem: str = "device") -> Iterator[ssl.SSLSocket]:
    """A client that a broker has said hello to."""
    with (
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
        tls_context(ca, stem).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert ask(connection, _CONNECT) == _CONNACK
        yield connection


def ask(connection: ssl.SSLSocket, packet: bytes) -> bytes:
    connection.sendall(packet)
    return connection.recv(64)


def clients_of(broker: Mosquitto) -> int:
    """How many MQTT clients a broker has welcomed."""
    return len(broker.lines("New client connected"))


class Site:
    """Two brokers with the gateway before them."""

    def __init__(self, directory: Path, ca: OpensslCa, balance: str, stack: ExitStack) -> None:
        self.brokers = []
        for name in ("one", "two"):
            (directory / name).mkdir()
            self.brokers.append(stack.enter_context(Mosquitto(directory / name)))
        self.port = free_port()
        upstreams = ", ".join(f'"127.0.0.1:{broker.port}"' for broker in self.brokers)
        config = directory / "gateway.toml"
        config.write_text(
            _CONFIG.format(directory=directory, port=self.port, upstreams=upstreams, balance=balance, ca=ca)
        )
        self.gateway = stack.enter_context(Gateway(config, self.port))


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, ca: OpensslCa) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, ca, request.param, stack)


@pytest.mark.parametrize("site", ["round-robin", "least-connections", "client"], indirect=True)
def test_a_broker_dies_then_the_other_and_one_comes_back(site: Site, ca: OpensslCa) -> None:
    one, two = site.brokers
    with ExitStack() as stack:
        # A device has one broker of its own with "client", and each has one client otherwise.
        clients = [stack.enter_context(mqtt(site.port, ca)) for _ in range(2)]
        until(lambda: clients_of(one) + clients_of(two) == 2, "the brokers to say who is there")
        doomed, spared = (one, two) if clients_of(one) else (two, one)
        before = clients_of(doomed)
        doomed.__exit__()
        site.gateway.wait_for("broker down", str(doomed.port))
        until(lambda: sum(map(is_over, clients)) == before, "its clients to be closed, and no others")
        ended = [client for client in clients if is_over(client)]
        for client in ended:
            client.close()
        site.gateway.wait_for(
            "connection ended", f"broker=127.0.0.1:{doomed.port}", "end=broker_", count=before
        )
        for client in clients:
            if client not in ended:
                assert ask(client, _PING) == _PONG
    for number in range(4):
        assert publish(site.port, ca, "device", "t", str(number)).returncode == 0
    spared.__exit__()
    site.gateway.wait_for("no broker left")
    for number in range(3):
        assert publish(site.port, ca, "device", "t", str(number)).returncode != 0
    assert len(site.gateway.wait_for("Z error   broker unreachable")) == 1
    with doomed:
        site.gateway.wait_for("broker up", str(doomed.port))
        until(lambda: publish(site.port, ca, "device", "t", "again").returncode == 0, "a client to come in")
        site.gateway.wait_for("broker reachable again")
    assert not site.gateway.lines("crashed")


def test_a_broker_speaks_tls_and_knows_the_gateway_by_its_certificate(tmp_path: Path, ca: OpensslCa) -> None:
    ca.issue("gateway")
    options = [f"cafile {ca.cert('ca')}", f"certfile {ca.cert('server')}", f"keyfile {ca.key('server')}"]
    with ExitStack() as stack:
        names = ["require_certificate true", "use_identity_as_username true"]
        broker = stack.enter_context(Mosquitto(tmp_path, *options, *names))
        port, config = free_port(), tmp_path / "gateway.toml"
        config.write_text(
            _CONFIG.format(
                directory=tmp_path,
                port=port,
                upstreams=f'"localhost:{broker.port}"',
                balance="round-robin",
                ca=ca,
            )
            + "[listeners.upstream_tls]\nenabled = true\n"
            + f'ca = "{ca.cert("ca")}"\ncert = "{ca.cert("gateway")}"\nkey = "{ca.key("gateway")}"\n'
        )
        gateway = stack.enter_context(Gateway(config, port))
        with mqtt(port, ca) as connection:
            assert broker.wait_for("New client connected", "u'gateway'")
            assert ask(connection, _PING) == _PONG
            assert publish(port, ca, "device", "t", "x" * 100_000, "-r").returncode == 0
            assert "x" * 100_000 in retained(port, ca)
            broker.__exit__()
            until(lambda: is_over(connection), "its client to be closed")
        gateway.wait_for("no broker left")
        assert not gateway.lines("crashed")


def is_over(client: ssl.SSLSocket) -> bool:
    """Whether the gateway has ended the connection, with close_notify: a bare end would be an error."""
    client.settimeout(0.1)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    finally:
        client.settimeout(TIMEOUT)


@pytest.mark.parametrize("site", ["client"], indirect=True)
def test_a_device_comes_back_to_its_broker_whichever_certificate_it_has(site: Site, ca: OpensslCa) -> None:
    stems = [f"device-{number}" for number in range(6)]
    for stem in stems:
        ca.issue(stem)
    homes: dict[str, int] = {}
    for stem in stems * 2:
        before = welcomed(site)
        with mqtt(site.port, ca, stem):
            until(partial(lambda before: welcomed(site) != before, before), "a broker to say who is there")
        (home,) = [number for number in range(2) if welcomed(site)[number] != before[number]]
        assert homes.setdefault(stem, home) == home
    assert set(homes.values()) == {0, 1}


def welcomed(site: Site) -> list[int]:
    return [clients_of(broker) for broker in site.brokers]


def retained(port: int, ca: OpensslCa) -> str:
    """The message that is kept under "t", heard through the gateway."""
    return run(
        "mosquitto_sub", "-h", "localhost", "-p", str(port), "-t", "t", "-C", "1", "-W", "20",
        "--cafile", ca.cert("ca"), "--cert", ca.cert("device"), "--key", ca.key("device"),
    ).stdout  # fmt: skip
