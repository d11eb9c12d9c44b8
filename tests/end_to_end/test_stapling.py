"""A certificate that demands a staple, a listener that waits for it, and a responder that comes late."""

from __future__ import annotations

import signal
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


class Place:
    """A certificate that demands a staple of `responder`, and the configuration of a listener with it."""

    def __init__(self, directory: Path, ca: OpensslCa) -> None:
        self.ca = ca
        self.responder = OcspResponder(ca)
        settings = ca.directory / "openssl.cnf"
        settings.write_text(settings.read_text() + STAPLED.format(url=self.responder.url))
        self.issue()
        self.port = free_port()
        self.config = directory / "gateway.toml"
        self.config.write_text(CONFIG.format(port=self.port))

    def issue(self) -> str:
        """Issue the server's certificate, or its successor; the serial."""
        serial = self.ca.issue("server", "stapled")
        self.ca.key("server").chmod(0o600)
        chain = self.ca.cert("server").read_bytes() + self.ca.cert("ca").read_bytes()
        (self.ca.directory / "chain.pem").write_bytes(chain)
        return serial

    def said(self) -> str:
        """What a client sees."""
        return s_client(self.port, self.ca, None, "-status")


@pytest.fixture
def place(tmp_path: Path, ca: OpensslCa) -> Place:
    return Place(tmp_path, ca)


def test_a_listener_that_requires_a_staple_waits_for_the_responder_that_its_certificate_names(
    place: Place,
) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--config", str(place.config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0
    assert "no OCSP response is stored: the listener accepts nobody and clients refuse it" in checked.stderr
    assert f"until {place.responder.url} answers" in checked.stderr
    with Gateway(place.config, place.port) as gateway:
        gateway.wait_for("warning", "listener waits for staple", "listener=external")
        gateway.wait_for("warning", "must-staple without staple", "CN=server")
        with socket.create_connection(("127.0.0.1", place.port)) as waiting:
            # It is the kernel that has taken it: the gateway says nothing.
            waiting.sendall(b"not TLS")
            with place.responder:
                gateway.wait_for("listener has its staple", "listener=external")
                # An alert, or the end: now it is looked at.
                waiting.recv(1)
                said = place.said()
                assert "OCSP Response Status: successful" in said
                assert "Cert Status: good" in said
    # What is stored will do, without the responder.
    with Gateway(place.config, place.port) as gateway:
        assert "Cert Status: good" in place.said()
        assert not gateway.lines("listener waits for staple")


def test_a_renewed_certificate_is_shown_once_it_has_its_staple_and_the_old_one_until_then(
    place: Place,
) -> None:
    with place.responder, Gateway(place.config, place.port) as gateway:
        gateway.wait_for("staple in force")
        place.responder.__exit__()
        serial = place.issue()
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for("listener waits for staple")
        said = place.said()
        assert f"Serial Number: {serial}" not in said
        assert "Cert Status: good" in said
        with place.responder:
            gateway.wait_for(" reloaded ")
            said = place.said()
            assert f"Serial Number: {serial}" in said
            assert "Cert Status: good" in said
