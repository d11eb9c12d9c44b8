"""Names that strangers choose come through real handshakes into the log: one line each, nothing forged."""

from __future__ import annotations

import http.client
import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.authority import Authority, tlv, to_pem
from tests.end_to_end.clients import Echo
from tests.end_to_end.parts import TIMEOUT, Gateway, OpensslCa, Web, free_port, run
from tests.log.test_lines import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = [
    *(name for name in HOSTILE if name and name != "\udc80"),
    "n" * 10_000,
    "\x1b]0;title\x07" * 500,
    '2026-01-01T00:00:00Z info    client refused listener=shut subject="CN=admin"\n',
    '"},{"event":"forged"}',
]

CONFIG = """\
workers = 1
state_dir = "{directory}/state"

[[listeners]]
name = "open"
bind = ["127.0.0.1:{open}"]
upstreams = ["127.0.0.1:{broker}"]
certificates = [{{ cert = "{ca.directory}/server.pem", key = "{ca.directory}/server.key" }}]
client_ca = "{directory}/clients.pem"
alpn = ["mqtt"]
[listeners.revocation]
check = "off"

[[listeners]]
name = "shut"
bind = ["127.0.0.1:{shut}"]
upstreams = ["127.0.0.1:{broker}"]
certificates = [{{ cert = "{ca.directory}/server.pem", key = "{ca.directory}/server.key" }}]
client_ca = "{directory}/clients.pem"
[listeners.revocation]
follow_distribution_points = false

[log]
level = "debug"
format = "{style}"
access = true
flood_limit = 0
"""


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


def named(text: str) -> x509.Name:
    """A Name that no CA would issue."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, _validate=False)])


def call(port: int, directory: Path, *options: str) -> None:
    """Shake hands, and leave or be thrown out."""
    run(
        "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-cert", directory / "client.pem",
        "-key", directory / "client.key", *options, said="Q\n", check=False,
    )  # fmt: skip


def values(line: str, style: str) -> dict[str, Any]:
    """What one line says; it is whole, and nothing else."""
    assert line.isprintable()
    if style == "json":
        return dict(json.loads(line))
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z (debug  |info   |warning|error  ) [A-Za-z]", line)
    return dict(re.findall(r' (\w+)=("(?:[^"\\]|\\.)*"|\S+)', line))


def last(gateway: Gateway, count: int, listener: str, style: str) -> list[dict[str, Any]]:
    """The lines of the access log of a listener, once there are so many."""
    shape = f'"listener": "{listener}"' if style == "json" else f"process=worker-0 listener={listener} "
    return [values(line, style) for line in gateway.wait_for("connection over", shape, count=count)]


# A negative serial is among them, and names that are too long.
@pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning")
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("style", ["text", "json"])
def test_whatever_a_certificate_says_of_itself_it_is_one_line_that_can_be_parsed(
    tmp_path: Path, ca: OpensslCa, echo: Echo, style: str
) -> None:
    clients = Authority.root(named("CA\n\x1b[2J\u202e"))
    (tmp_path / "clients.pem").write_bytes(clients.pem)
    ports = {"open": free_port(), "shut": free_port()}
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.format(directory=tmp_path, ca=ca, broker=echo.port, style=style, **ports))
    sni = "bad\n\x1b[31mname\x7f"
    with HostileGateway(config, ports["open"]) as gateway:
        for number, name in enumerate(NAMES):
            leaf = clients.issue(
                named(name), serial=[1, -3, 1 << 180][number % 3], hosts=["a\n\x1b[31m", "b" * 1000]
            )
            leaf.write(tmp_path, "client")
            for port in ports.values():
                call(port, tmp_path, "-servername", sni, "-alpn", "mqtt,x\ny")
        relayed = last(gateway, len(NAMES), "open", style)
        refused = last(gateway, len(NAMES), "shut", style)
    text = gateway.log
    assert len(text.splitlines()) == text.count("\n")
    everything = [values(line, style) for line in text.splitlines()]
    # One of the names has an event in it, and is none.
    event = r'.*"event": "client refused", "level"' if style == "json" else r"\S+ warning client refused "
    assert sum(re.match(event, each) is not None for each in text.splitlines()) == len(NAMES)
    for found, name in zip(refused, NAMES, strict=True):
        assert found["end"] == "client_refused"
        assert found["verdict"] == "no_list"
        assert len(found["subject"]) < 1100
        assert name[:1] in found["subject"] or "\\" in found["subject"]
    assert {found["end"] for found in relayed} <= {"client_closed", "broker_closed"}
    assert {found["alpn"] for found in relayed} == {"mqtt"}
    assert {found["server_name"] for found in relayed} == {
        sni if style == "json" else '"' + sni.encode("unicode_escape").decode() + '"'
    }
    assert len({found["serial"] for found in relayed}) == 3
    if style == "json":
        assert not any(each["event"] == "forged" for each in everything)
        assert all(each["subject"].isprintable() for each in everything if "subject" in each)


class HostileGateway(Gateway):
    """Its log may be JSON."""

    def wait_for(self, *parts: str, count: int = 1) -> list[str]:
        if parts == (" ready ",):
            return super().wait_for("ready", "staples", count=count)
        return super().wait_for(*parts, count=count)


@pytest.mark.parametrize(
    "replaced",
    [
        (tlv(0x0C, b"device"), tlv(0x03, b"\0evice")),
        (bytes.fromhex("a003020102"), bytes.fromhex("a003020103")),
    ],
    ids=["a BIT STRING as a name", "a version that there is not"],
)
def test_a_certificate_that_nobody_would_issue_ends_no_worker(
    tmp_path: Path, ca: OpensslCa, echo: Echo, replaced: tuple[bytes, bytes]
) -> None:
    stranger = Authority.root("stranger").issue("device")
    (tmp_path / "clients.pem").write_bytes(Authority.root("ours").pem)
    stranger.write(tmp_path, "client")
    der = stranger.der
    assert replaced[0] in der
    (tmp_path / "client.pem").write_bytes(to_pem(der.replace(*replaced), "CERTIFICATE"))
    ports = {"open": free_port(), "shut": free_port()}
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.format(directory=tmp_path, ca=ca, broker=echo.port, style="text", **ports))
    with Gateway(config, ports["open"]) as gateway:
        call(ports["open"], tmp_path)
        gateway.wait_for("connection over", "end=client_refused", "verdict=untrusted")
        assert gateway.lines("crashed") == []


def asked(port: int, token: str) -> int:
    """The status code with which the admin interface answers whoever shows this token."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/status", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


SECRETS = ("s3cr3t-word", "t0ken-of-the-admin-interface-1234567890")


def test_no_secret_comes_into_the_log(tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo) -> None:
    password, token = SECRETS
    (tmp_path / "token").write_text(token)
    (tmp_path / "token").chmod(0o600)
    host = web.url.removeprefix("http://")
    clients = Authority.root("ours")
    (tmp_path / "clients.pem").write_bytes(clients.pem)
    points = [f"http://learnt:{password}@127.0.0.1:1/a.crl", f"ftp://user:{password}@127.0.0.1/b.crl"]
    leaf = clients.issue("device", crl_urls=points, ocsp_urls=[f"http://ocsp:{password}@127.0.0.1:1/"])
    leaf.write(tmp_path, "client")
    ports = {"open": free_port(), "shut": free_port()}
    admin = free_port()
    config = tmp_path / "gateway.toml"
    text = CONFIG.format(directory=tmp_path, ca=ca, broker=echo.port, style="text", **ports).replace(
        "follow_distribution_points = false",
        f'ocsp = "prefer"\ncrl_urls = ["http://user:{password}@{host}/ca.crl", '
        f'"http://user:{password}@{host}/none.crl", "http://user:{password}@127.0.0.1:1/none.crl"]',
    )
    text += f'\n[admin]\nbind = "127.0.0.1:{admin}"\ntoken_file = "{tmp_path}/token"\n'
    config.write_text(text)
    with Gateway(config, ports["shut"]) as gateway:
        gateway.wait_for("list not refreshed", count=3)
        call(ports["shut"], tmp_path)
        gateway.wait_for("connection over", "listener=shut")
        gateway.wait_for("distribution point", "a.crl")
        assert asked(admin, token) == HTTPStatus.OK
        assert asked(admin, f"{token}-wrong") == HTTPStatus.UNAUTHORIZED
        gateway.wait_for("admin request denied")
    said = gateway.log
    assert "subject=" in said
    keys = [ca.key("server").read_text(), leaf.key_pem.decode()]
    lines = [line for key in keys for line in key.splitlines() if "-----" not in line]
    for secret in (*SECRETS, *lines):
        assert secret not in said
