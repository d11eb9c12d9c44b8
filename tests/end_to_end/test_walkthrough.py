"""EMQX's CRL and OCSP pages, walked through with a real CA, a real broker and the pages' own keys."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.clients import tls_context
from tests.end_to_end.parts import (
    TIMEOUT,
    Gateway,
    Mosquitto,
    OcspResponder,
    OpensslCa,
    Web,
    free_port,
    publish,
    refused,
    s_client,
    subscriber,
    until_revoked,
)

if TYPE_CHECKING:
    from pathlib import Path

CRL_KEYS = """\
listener.tcp.external = {broker}
listener.ssl.external = {port}
listener.ssl.external.keyfile = {ca.directory}/server.key
listener.ssl.external.certfile = {ca.directory}/server.pem
listener.ssl.external.cacertfile = {ca.directory}/ca.pem
listener.ssl.external.verify = verify_peer
listener.ssl.external.fail_if_no_peer_cert = true
listener.ssl.external.enable_crl_check = true
listener.ssl.external.crl_cache_urls = {web}/ca.crl
crl_cache_http_timeout = 15s
crl_cache_refresh_interval = {refresh}
node.data_dir = {state}
"""

STAPLING_KEYS = """\
listener.ssl.external.enable_ocsp_stapling = true
listener.ssl.external.ocsp_responder_url = {responder}
listener.ssl.external.ocsp_issuer_pem = {ca.directory}/ca.pem
listener.ssl.external.ocsp_refresh_interval = {refresh}
listener.ssl.external.ocsp_refresh_http_timeout = 15s
"""

STAPLED = ("OCSP Response Status: successful", "Cert Status: good")


def emqx_conf(directory: Path, ca: OpensslCa, web: Web, broker: int, refresh: str = "1s") -> tuple[Path, int]:
    port = free_port()
    config = directory / "emqx.conf"
    config.write_text(
        CRL_KEYS.format(
            broker=f"127.0.0.1:{broker}",
            port=f"127.0.0.1:{port}",
            ca=ca,
            web=web.url,
            refresh=refresh,
            state=directory / "data",
        )
    )
    return config, port


def convert(config: Path) -> Path:
    """The TOML that `tls-gateway convert` prints, in a file."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "convert", str(config)], capture_output=True, text=True, check=True
    )
    converted = config.with_suffix(".toml")
    converted.write_text(done.stdout)
    return converted


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("form", ["emqx", "converted"])
def test_a_revoked_client_is_refused_within_one_refresh(
    tmp_path: Path, ca: OpensslCa, web: Web, mosquitto: Mosquitto, version: str, form: str
) -> None:
    serial = ca.issue("fleet-1")
    config, port = emqx_conf(tmp_path, ca, web, mosquitto.port)
    if form == "converted":
        config = convert(config)
    tls = ("--tls-version", f"tlsv{version}")
    with (
        Gateway(config, port) as gateway,
        subscriber(mosquitto.port, "walk/#", tmp_path / "sub.log") as listener,
    ):
        listener.wait_for("SUBACK")
        assert publish(port, ca, "fleet-1", "walk/through", "hello", *tls).returncode == 0
        listener.wait_for("walk/through hello")

        ca.revoke("fleet-1")
        ca.publish()
        gateway.wait_for("list in force", "number=2")

        until_revoked(port, ca, "fleet-1", f"-tls1_{version[-1]}")
        assert publish(port, ca, "fleet-1", "walk/through", "never", *tls).returncode != 0
        (line, *_) = gateway.wait_for("client refused")
        assert "reason=certificate_revoked" in line
        assert "peer=127.0.0.1:" in line
        assert "subject=CN=fleet-1" in line.replace('"', "")
        assert "issuer=CN=Test Fleet CA" in line.replace('"', "")
        assert f"serial={serial}" in line
        assert "revocation_reason=keyCompromise" in line
        assert "revoked_at=20" in line

        assert publish(port, ca, "device", "walk/through", "still", *tls).returncode == 0
        listener.wait_for("walk/through still")
        assert not listener.lines("never")


def test_several_urls_keep_several_cas_fresh(
    tmp_path: Path, ca: OpensslCa, web: Web, mosquitto: Mosquitto
) -> None:
    other = OpensslCa(tmp_path / "other", name="Other Fleet CA")
    other.issue("guest")
    both = tmp_path / "both.pem"
    both.write_bytes(ca.cert("ca").read_bytes() + other.cert("ca").read_bytes())
    config, port = emqx_conf(tmp_path, ca, web, mosquitto.port)
    with Web(other.web) as second:
        text = config.read_text().replace("/ca.crl", f"/ca.crl, {second.url}/ca.crl")
        config.write_text(text.replace(str(ca.cert("ca")), str(both)))
        with Gateway(config, port) as gateway:
            assert publish(port, ca, "device", "t", "m").returncode == 0
            assert publish(port, other, "guest", "t", "m", trust=both).returncode == 0
            other.revoke("guest")
            other.publish()
            gateway.wait_for("list in force", "Other Fleet CA", "number=2")
            until_revoked(port, other, "guest", "-CAfile", both)
            assert publish(port, ca, "device", "t", "m").returncode == 0


def test_the_pages_keys_are_good_as_they_stand(tmp_path: Path, ca: OpensslCa, web: Web) -> None:
    config, _ = emqx_conf(tmp_path, ca, web, 1883, refresh="15m")
    config.write_text(
        config.read_text() + STAPLING_KEYS.format(responder="http://127.0.0.1:9", ca=ca, refresh="5m")
    )
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_live_client_is_disconnected_when_it_is_revoked(
    tmp_path: Path, ca: OpensslCa, web: Web, mosquitto: Mosquitto
) -> None:
    ca.issue("fleet-2")
    config, port = emqx_conf(tmp_path, ca, web, mosquitto.port)
    with (
        Gateway(config, port) as gateway,
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
        tls_context(ca, "fleet-2").wrap_socket(plain, server_hostname="localhost") as live,
    ):
        assert publish(port, ca, "device", "t", "m").returncode == 0
        ca.revoke("fleet-2")
        ca.publish()
        (line, *_) = gateway.wait_for("client disconnected")
        assert "reason=certificate_revoked" in line
        assert 'subject="CN=fleet-2"' in line
        assert live.recv(1) == b""


class TestStapling:
    """The OCSP page."""

    @pytest.fixture
    def ca(self, tmp_path: Path) -> OpensslCa:
        authority = OpensslCa(tmp_path / "ca")
        authority.issue("server", "server")
        authority.issue("device")
        authority.issue("ocsp", "ocsp")
        return authority

    def config(
        self, directory: Path, ca: OpensslCa, web: Web, broker: int, responder: str, refresh: str = "1s"
    ) -> tuple[Path, int]:
        config, port = emqx_conf(directory, ca, web, broker)
        config.write_text(
            config.read_text() + STAPLING_KEYS.format(responder=responder, ca=ca, refresh=refresh)
        )
        return config, port

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_the_first_handshake_after_readiness_has_a_staple(
        self, tmp_path: Path, ca: OpensslCa, web: Web, mosquitto: Mosquitto, version: str
    ) -> None:
        with OcspResponder(ca) as responder:
            config, port = self.config(tmp_path, ca, web, mosquitto.port, responder.url)
            with Gateway(config, port):
                said = s_client(port, ca, "device", "-status", version)
                assert all(line in said for line in STAPLED), said

    def test_the_last_good_staple_outlives_the_responder_and_a_restart(
        self, tmp_path: Path, ca: OpensslCa, web: Web, mosquitto: Mosquitto
    ) -> None:
        with OcspResponder(ca) as responder:
            config, port = self.config(tmp_path, ca, web, mosquitto.port, responder.url)
            with Gateway(config, port) as gateway:
                responder.__exit__()
                gateway.wait_for("staple not refreshed")
                said = s_client(port, ca, "device", "-status")
                assert all(line in said for line in STAPLED), said
        with Gateway(config, port):
            said = s_client(port, ca, "device", "-status")
            assert all(line in said for line in STAPLED), said

    def test_what_the_wrong_one_signed_is_logged_and_not_stapled(
        self, tmp_path: Path, ca: OpensslCa, web: Web, mosquitto: Mosquitto
    ) -> None:
        with OcspResponder(ca, signer="device") as responder:
            config, port = self.config(tmp_path, ca, web, mosquitto.port, responder.url)
            with Gateway(config, port) as gateway:
                gateway.wait_for("staple not refreshed", "CN=device")
                assert "no response sent" in s_client(port, ca, "device", "-status")

    def test_a_revoked_server_certificate_is_an_error_and_not_stapled(
        self, tmp_path: Path, ca: OpensslCa, web: Web, mosquitto: Mosquitto
    ) -> None:
        ca.revoke("server")
        with OcspResponder(ca) as responder:
            config, port = self.config(tmp_path, ca, web, mosquitto.port, responder.url)
            with Gateway(config, port) as gateway:
                gateway.wait_for("error", "staple not refreshed", "revoked")
                said = s_client(port, ca, "device", "-status")
                assert "no response sent" in said


def test_a_client_that_no_list_covers_gets_unknown_ca(
    tmp_path: Path, ca: OpensslCa, web: Web, mosquitto: Mosquitto
) -> None:
    (ca.web / "ca.crl").unlink()
    config, port = emqx_conf(tmp_path, ca, web, mosquitto.port)
    with Gateway(config, port) as gateway:
        assert "alert unknown ca" in refused(port, ca, "device")
        gateway.wait_for("client refused", "reason=no_list")


def test_a_certificate_cannot_make_the_gateway_call_this_machine(
    tmp_path: Path, ca: OpensslCa, web: Web, mosquitto: Mosquitto
) -> None:
    section = f"[pointed]\nextendedKeyUsage = clientAuth\ncrlDistributionPoints = URI:{web.url}/ca.crl\n"
    settings = ca.directory / "openssl.cnf"
    settings.write_text(settings.read_text() + section)
    ca.issue("pointed", "pointed")
    emqx, port = emqx_conf(tmp_path, ca, web, mosquitto.port)
    config = convert(emqx)
    text = config.read_text().replace(
        "follow_distribution_points = false", "follow_distribution_points = true"
    )
    config.write_text(re.sub(r"(?m)^crl_urls = .*$", "", text))
    with Gateway(config, port) as gateway:
        assert "alert unknown ca" in refused(port, ca, "pointed")
        gateway.wait_for("distribution point found", f"{web.url}/ca.crl")
        (line, *_) = gateway.wait_for("list not refreshed", f"{web.url}/ca.crl")
        assert "127.0.0.1" in line
        assert web.requests == 0


def test_a_client_without_a_certificate_is_told_so(
    tmp_path: Path, ca: OpensslCa, web: Web, mosquitto: Mosquitto
) -> None:
    config, port = emqx_conf(tmp_path, ca, web, mosquitto.port)
    with Gateway(config, port):
        assert "alert certificate required" in refused(port, ca, None, "-tls1_3")
