"""An operator's word is in force while the CA has not published a thing."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.end_to_end.clients import Echo, client, echoes, resume, tls_context
from tests.end_to_end.gateways import configure
from tests.end_to_end.parts import TIMEOUT, Gateway, OpensslCa, Web, refused, until

if TYPE_CHECKING:
    from pathlib import Path


WHY = ("--reason", "keyCompromise", "--note", "lost")


def command(
    name: str, config: Path, *arguments: str | Path, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """`tls-gateway NAME --config …` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", name, "--config", config, *arguments],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def end_of(connection: ssl.SSLSocket) -> float:
    """When the gateway ends a connection, on the monotonic clock."""
    # A reset is an end, too.
    with suppress(ConnectionError, ssl.SSLError):
        assert connection.recv(1) == b""
    return time.monotonic()


def is_refused(gateway: Gateway, ca: OpensslCa) -> bool:
    """A verdict there is for sure, not a broken connection alone."""
    return "certificate revoked" in refused(gateway.port, ca, "device")


def test_a_certificate_is_revoked_at_once_kept_over_a_restart_and_taken_back(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    with Gateway(config, port) as gateway:
        with client(port, ca) as connection:
            ended: list[float] = []
            watch = threading.Thread(target=lambda: ended.append(end_of(connection)))
            watch.start()
            asked = time.monotonic()
            # In this process: half a second of Python's start would hide what is measured.
            done = CliRunner().invoke(
                main,
                ["revoke", "--config", str(config), "--cert", str(ca.cert("device")), *WHY],
            )
            answered = time.monotonic()
            watch.join(TIMEOUT)
            assert ended, "the connection of the revoked client lives"
        assert "revoked and in force" in done.stdout
        figures = f"answered after {1000 * (answered - asked):.1f} ms, "
        figures += f"disconnected {1000 * (ended[0] - answered):+.1f} ms from the answer"
        print(figures)  # noqa: T201 - what `pytest -rP` is asked for
        assert is_refused(gateway, ca)
    with Gateway(config, port) as gateway:
        assert is_refused(gateway, ca)
        [listed] = json.loads(command("revoked", config, "--json").stdout)
        assert (listed["reason"], listed["note"]) == ("keyCompromise", "lost")
        assert json.loads(command("status", config, "--json").stdout)["local_revocations"] == 1
        command("unrevoke", config, "--cert", ca.cert("device"))
        with client(port, ca) as connection:
            assert echoes(connection)
    with Gateway(config, port), client(port, ca) as connection:
        assert echoes(connection)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_is_refused_before_a_byte_reaches_the_broker(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, version: ssl.TLSVersion
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, workers=1)
    context = tls_context(ca)
    context.minimum_version = context.maximum_version = version
    with Gateway(config, port) as gateway:
        _, _, session = resume(port, context, None)
        assert resume(port, context, session, b"before")[:2] == (True, True)
        with client(port, ca) as connection:
            command("revoke", config, "--cert", ca.cert("device"))
            # The worker knows of it, else this would last.
            end_of(connection)
        heard = echo.heard
        assert b"before" in heard
        for _ in range(3):
            assert resume(port, context, session, b"after")[:2] == (False, True)
        gateway.wait_for("client refused", "reason=certificate_revoked", "resumed=True", count=3)
        assert echo.heard == heard
        command("unrevoke", config, "--cert", ca.cert("device"))
        until(lambda: resume(port, context, session)[:2] == (True, True), "the session to be good again")


def test_a_worker_that_stands_still_is_told_of(tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, workers=2)
    with Gateway(config, port) as gateway:
        still = gateway.children()["gw-worker-1"]
        os.kill(still, signal.SIGSTOP)
        try:
            done = command("revoke", config, "--cert", ca.cert("device"))
        finally:
            os.kill(still, signal.SIGCONT)
        assert "revoked: serial" in done.stdout
        assert "warning: not in force in 1 workers yet" in done.stderr
        assert "revoked and in force" in command("revoke", config, "--cert", ca.cert("device")).stdout
        for _ in range(6):
            assert is_refused(gateway, ca)


def test_a_line_in_the_file_of_revoked_serials_is_in_force_as_long_as_it_stands_there(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    serial, file = ca.issue("device"), tmp_path / "revoked.txt"
    file.write_text("# nobody yet\n")
    config, port = configure(tmp_path, ca, web, echo.port, revocation='revoked_serials = "revoked.txt"')
    with Gateway(config, port) as gateway:
        with client(port, ca) as connection:
            with file.open("a") as opened:
                opened.write(f"{serial} CN=Test Fleet CA\n")
            end_of(connection)
        gateway.wait_for("client disconnected", "reason=certificate_revoked", "CN=device")
        # The other worker hears of it in its own time.
        until(lambda: not any(welcome(port, ca) for _ in range(4)), "both workers to refuse it")
        assert is_refused(gateway, ca)
        [listed] = json.loads(command("revoked", config, "--json").stdout)
        assert (listed["serial"], listed["by"]) == (serial, f"{file} line 2")
        said = command("unrevoke", config, "--cert", ca.cert("device"), code=1).stderr
        assert f"is revoked by {file} line 2: take that line out; nothing is changed" in said
        # A bad line changes nothing; it is told once, with where it is.
        with file.open("a") as opened:
            opened.write("device\n")
        gateway.wait_for("revoked serials not read", f"{file}: line 3: expected a serial number")
        assert is_refused(gateway, ca)
        file.write_text("# taken back\n")
        assert f"{file}: " in command("refresh", config).stdout
        until(lambda: welcome(port, ca), "the client to be welcome again")
        file.write_text(f"0x{serial.lower()}\n")
        gateway.wait_for("revoked serials read", "revoked=1", "more=1", count=2)
    with Gateway(config, port) as gateway:
        assert is_refused(gateway, ca)
    file.write_text("device\n")
    assert f"{file}: line 1: expected a serial number" in command("check", config, code=1).stderr
    assert f"{file}: line 1: expected a serial number" in command("serve", config, code=1).stderr


def test_a_bad_file_of_revoked_serials_lets_nobody_in_over_a_reload_and_the_end_of_control(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    file = tmp_path / "revoked.txt"
    file.write_text(f"{ca.issue('device')}\n")
    config, port = configure(tmp_path, ca, web, echo.port, revocation='revoked_serials = "revoked.txt"')
    with Gateway(config, port) as gateway:
        file.write_text("nonsense\n")
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for("reload refused", f"{file}: line 1: expected a serial number")
        assert is_refused(gateway, ca)
        os.kill(gateway.children()["gw-control"], signal.SIGKILL)
        gateway.wait_for(" ready ", count=2)
        gateway.wait_for("revoked serials not read")
        assert is_refused(gateway, ca)
        file.write_text("# nobody any more\n")
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for(" reloaded ")
        until(lambda: welcome(port, ca), "the client to be welcome")


def welcome(port: int, ca: OpensslCa) -> bool:
    return resume(port, tls_context(ca), None)[0]


def test_refresh_brings_a_new_list_in_force_at_once(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    config.write_text(config.read_text().replace('refresh_interval = "1s"', 'refresh_interval = "1h"'))
    url = f"{web.url}/ca.crl"
    with Gateway(config, port) as gateway:
        with client(port, ca) as connection:
            assert echoes(connection)
        assert "unchanged" in command("refresh", config, url).stdout
        ca.revoke("device")
        ca.publish()
        assert f"{url}: new list in force" in command("refresh", config, url).stdout
        assert is_refused(gateway, ca)
        (ca.web / "ca.crl").unlink()
        assert "failed" in command("refresh", config, code=1).stderr


def test_without_a_gateway_nothing_is_done_and_it_is_said(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, _port = configure(tmp_path, ca, web, echo.port)
    said = command("revoke", config, "--cert", ca.cert("device"), code=1).stderr
    assert "nobody is there; nothing is done" in said
    assert said.count("\n") == 1
