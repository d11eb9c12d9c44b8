"""A certificate that demands a staple, a listener that waits for it, and a responder that comes late."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.parts import Gateway, OcspResponder, OpensslCa, free_port, s_client

if TYPE_CHECKING:
    from pathlib import Path

STAPLED = """\
[stapled]
basicConstraints = CA:FALSE
subjectAltName = DNS:localhost
extendedKeyUsage = serverAuth
tlsfeature = status_request
authorityInfoAccess = OCSP;URI:{url}
"""
CONFIG = """\
workers = 1
state_dir = "state"

[[listeners]]
name = "external"
bind = ["127.0.0.1:{port}"]
upstreams = ["127.0.0.1:9"]
certificates = [{{ cert = "ca/chain.pem", key = "ca/server.key" }}]
verify = "none"

[listeners.stapling]
enabled = true
required = true
refresh_interval = "1s"
"""


@pytest.fixture
def ca(tmp_path: Path) -> OpensslCa:
    authority = OpensslCa(tmp_path / "ca")
    authority.issue("ocsp", "ocsp")
    return authority


def test_a_listener_that_requires_a_staple_waits_for_the_responder_that_its_certificate_names(
    tmp_path: Path, ca: OpensslCa
) -> None:
    responder = OcspResponder(ca)
    settings = ca.directory / "openssl.cnf"
    settings.write_text(settings.read_text() + STAPLED.format(url=responder.url))
    ca.issue("server", "stapled")
    ca.key("server").chmod(0o600)
    (ca.directory / "chain.pem").write_bytes(ca.cert("server").read_bytes() + ca.cert("ca").read_bytes())
    port = free_port()
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.format(port=port))
    checked = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0
    assert "no OCSP response is stored: the listener accepts nobody and clients refuse it" in checked.stderr
    assert f"until {responder.url} answers" in checked.stderr
    with Gateway(config, port) as gateway:
        gateway.wait_for("warning", "listener waits for staple", "listener=external")
        gateway.wait_for("warning", "must-staple without staple", "CN=server")
        with socket.create_connection(("127.0.0.1", port)) as waiting:
            # It is the kernel that has taken it: the gateway says nothing.
            waiting.sendall(b"not TLS")
            with responder:
                gateway.wait_for("listener has its staple", "listener=external")
                # An alert, or the end: now it is looked at.
                waiting.recv(1)
                said = s_client(port, ca, None, "-status")
                assert "OCSP Response Status: successful" in said
                assert "Cert Status: good" in said
    # What is stored will do, without the responder.
    with Gateway(config, port) as gateway:
        assert "Cert Status: good" in s_client(port, ca, None, "-status")
        assert not gateway.lines("listener waits for staple")
