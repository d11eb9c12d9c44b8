"""What docs/comparison.md says that others do with a client that is revoked, tried on those that Debian has.

Each begins with a list that revokes nobody and ticket keys that outlive a reload. Then the
list revokes the client, and is brought in as the program's manual has it.
"""

from __future__ import annotations

import base64
import socket
import ssl
from signal import SIGHUP
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.end_to_end.clients import client, echoes, resume, tls_context
from tests.end_to_end.parts import Process, accepts, free_port, program, run, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.clients import Echo
    from tests.end_to_end.parts import OpensslCa

HAPROXY = """\
global
    nbthread 1
    stats socket {directory}/haproxy.sock mode 600 level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen broker
    bind 127.0.0.1:{port} ssl crt {directory}/both.pem verify required {files}
    server broker 127.0.0.1:{broker}
"""
NGINX = """\
daemon off;
load_module modules/ngx_stream_module.so;
pid {directory}/nginx.pid;
worker_processes 1;
events {{}}
stream {{
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {ca}/server.pem;
    ssl_certificate_key {ca}/server.key;
    ssl_client_certificate {ca}/ca.pem;
    ssl_verify_client on;
    ssl_crl {directory}/ca.crl;
    ssl_session_ticket_key {directory}/ticket;
    server {{
        listen 127.0.0.1:{port} ssl;
        proxy_pass 127.0.0.1:{broker};
    }}
}}
"""
STUNNEL = """\
foreground = yes
pid =
syslog = no
[broker]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{broker}
cert = {ca}/server.pem
key = {ca}/server.key
CAfile = {ca}/ca.pem
CRLfile = {directory}/ca.crl
verifyChain = yes
requireCert = yes
ticketKeySecret = {key}
ticketMacSecret = {key}
"""


class Peer(NamedTuple):
    """A program: its configuration, and how it is started with it."""

    name: str
    config: str
    command: tuple[str, ...]


PEERS = [
    Peer("haproxy", HAPROXY, ("-db", "-f", "{config}")),
    Peer("nginx", NGINX, ("-e", "stderr", "-p", "/usr/share/nginx", "-c", "{config}")),
    Peer("stunnel", STUNNEL, ("{config}",)),
]


def publish(ca: OpensslCa, directory: Path) -> None:
    """Put the CA's list, in PEM, where the program reads it."""
    ca.publish()
    run("openssl", "crl", "-inform", "DER", "-in", ca.web / "ca.crl", "-out", directory / "ca.crl")


def bring_in(peer: Peer, process: Process, directory: Path) -> None:
    """Have the program take the new list."""
    if peer.name != "haproxy":
        process.process.send_signal(SIGHUP)
        return
    from_file = (directory / "ca.crl").read_text()
    for command in (
        f"set ssl crl-file {directory}/ca.crl <<\n{from_file}\n",
        f"commit ssl crl-file {directory}/ca.crl\n",
    ):
        ask(directory / "haproxy.sock", command)


def ask(path: Path, command: str) -> None:
    """A command of the Runtime API."""
    with socket.socket(socket.AF_UNIX) as runtime:
        runtime.connect(str(path))
        runtime.sendall(command.encode())
        while runtime.recv(4096):
            pass


def is_refused(port: int, ca: OpensslCa) -> bool:
    """Whether one without a session is; that stunnel closes its port for a moment at SIGHUP is not that."""
    try:
        with client(port, ca):
            return False
    except ConnectionRefusedError:
        return False
    except (OSError, AssertionError):
        return True


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name
)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_others_let_a_revoked_client_resume_and_stay(
    peer: Peer, version: ssl.TLSVersion, ca: OpensslCa, echo: Echo, tmp_path: Path
) -> None:
    port = free_port()
    (tmp_path / "both.pem").write_bytes(ca.cert("server").read_bytes() + ca.key("server").read_bytes())
    keys = [bytes([number]) * 48 for number in range(3)]
    (tmp_path / "tickets").write_bytes(b"".join(base64.b64encode(key) + b"\n" for key in keys))
    (tmp_path / "ticket").write_bytes(keys[0])
    config = tmp_path / "peer.conf"
    config.write_text(
        peer.config.format(
            directory=tmp_path,
            ca=ca.directory,
            port=port,
            broker=echo.port,
            key=":".join(["5A"] * 16),
            files=f"ca-file {ca.cert('ca')} crl-file {tmp_path}/ca.crl tls-ticket-keys {tmp_path}/tickets",
        )
    )
    publish(ca, tmp_path)
    context = tls_context(ca)
    context.minimum_version = context.maximum_version = version
    command = [program(peer.name), *(word.format(config=config) for word in peer.command)]
    with Process(command, tmp_path / "peer.log") as process:
        until(lambda: accepts(port), f"{peer.name} to listen")
        echoed, _, session = resume(port, context, None)
        assert echoed
        with client(port, ca) as live:
            ca.revoke("device")
            publish(ca, tmp_path)
            bring_in(peer, process, tmp_path)
            until(lambda: is_refused(port, ca), "the new list to be in force")
            until(lambda: accepts(port), f"{peer.name} to listen again")
            echoed, resumed, _ = resume(port, context, session)
            assert (echoed, resumed) == (True, True)
            assert echoes(live)
