"""A reload changes what it should and loses nobody."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.clients import Echo, client, echoes, resume, tls_context
from tests.end_to_end.gateways import Storm, configure, edit, reload, workers_of
from tests.end_to_end.parts import (
    TIMEOUT,
    Gateway,
    OpensslCa,
    Web,
    accepts,
    free_port,
    refused,
    run,
    s_client,
    until,
)

RELOADS = 20


def test_twenty_reloads_at_full_rate_lose_neither_a_client_nor_a_connection(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, extra='reload_drain_timeout = "60s"')
    with Gateway(config, port) as gateway, client(port, ca) as first, Storm(port, ca) as storm:
        for number in range(RELOADS):
            before = storm.served
            reload(gateway)
            until(lambda before=before: storm.served > before or bool(storm.faults), "clients after a reload")  # type: ignore[misc]  # mypy cannot infer a lambda's default argument
            assert not storm.faults, f"reload {number + 1}"
            if number == 1:
                # Not longer: the generation before the last four is ended for want of room.
                assert echoes(first)
    assert storm.faults == []
    assert storm.served > 10 * RELOADS


def test_a_live_connection_goes_on_and_is_still_subject_to_revocation(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    ca.issue("stolen")
    config, port = configure(tmp_path, ca, web, echo.port)
    with Gateway(config, port) as gateway, client(port, ca) as kept, client(port, ca, "stolen") as stolen:
        old = workers_of(gateway)
        reload(gateway)
        assert echoes(kept)
        assert echoes(stolen)
        ca.revoke("stolen")
        ca.publish()
        assert stolen.recv(1) == b""
        gateway.wait_for("client disconnected", "certificate_revoked", "CN=stolen")
        assert echoes(kept)
        kept.close()
        until(
            lambda: all(not Path(f"/proc/{pid}").exists() for pid in old.values()), "the old workers to end"
        )


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("workers = 2", "workers = 0", "workers: expected"),
        ("server.pem", "missing.pem", "missing.pem"),
        ('bind = ["', 'bind = ["192.0.2.1:1", "', "cannot listen on 192.0.2.1:1"),
        # Bound before that is found: nobody looks at the sockets of six more workers.
        (
            "workers = 2",
            'workers = 8\nadmin.bind = "unix:/dev/null/admin"',
            "cannot listen on unix:/dev/null",
        ),
        ("/state", "/elsewhere", "state_dir: cannot be changed by a reload"),
    ],
)
def test_a_bad_configuration_is_refused_whole_and_nothing_changes(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, before: str, after: str, complaint: str
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    with Gateway(config, port) as gateway, client(port, ca) as held:
        children = gateway.children()
        edit(config, before, after)
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for("reload refused", complaint, "the configuration in force stays")
        assert echoes(held)
        for _ in range(6):
            with client(port, ca):
                pass
        assert gateway.children() == children


def test_the_command_answers_with_the_reason_or_has_it_taken(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    command = [sys.executable, "-m", "gateway", "reload", "--state-dir", str(tmp_path / "state")]
    with Gateway(config, port) as gateway:
        for right, wrong, complaint in (
            ("workers = 2", "workers = -1", "workers: expected"),
            ("/state", "/elsewhere", "state_dir: cannot be changed by a reload"),
        ):
            edit(config, right, wrong)
            bad = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
            assert (bad.returncode, complaint in bad.stderr) == (1, True)
            edit(config, wrong, right)
        edit(config, "workers = 2", "workers = 3")
        good = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert (good.returncode, good.stdout.startswith("the configuration is good")) == (0, True)
        gateway.wait_for(" reloaded ")
        until(lambda: len(workers_of(gateway)) == 3, "the third worker")


def test_a_renewed_certificate_is_presented_and_its_listener_moves_and_grows(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, workers=3)
    ca.issue("renewed", "server")
    with Gateway(config, port) as gateway, client(port, ca) as held:
        other = free_port()
        edit(config, "server.pem", "renewed.pem")
        edit(config, "server.key", "renewed.key")
        edit(config, "workers = 3", "workers = 1")
        edit(config, f'"127.0.0.1:{port}"', f'"127.0.0.1:{port}", "127.0.0.1:{other}"')
        reload(gateway)
        for each in (port, other):
            # Of the three sockets of the first port one worker has all.
            for _ in range(6):
                assert "CN = renewed" in s_client(each, ca, "device")
        edit(config, f'"127.0.0.1:{port}", ', "")
        reload(gateway)
        until(lambda: not accepts(port), "the old port to be shut")
        assert accepts(other)
        assert echoes(held)


def test_a_client_ca_taken_out_lets_nobody_in_any_more(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    other = OpensslCa(tmp_path / "other", "Another CA")
    config, port = configure(tmp_path, ca, web, echo.port)
    with Gateway(config, port) as gateway, client(port, ca) as held:
        edit(config, f'client_ca = "{ca.directory}/ca.pem"', f'client_ca = "{other.directory}/ca.pem"')
        reload(gateway)
        assert "alert unknown ca" in refused(port, ca, "device", "-tls1_2")
        assert echoes(held)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_outlive_a_reload_that_does_not_change_their_listener(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, version: ssl.TLSVersion
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    context = tls_context(ca)
    context.minimum_version = context.maximum_version = version
    with Gateway(config, port) as gateway:
        _, _, session = resume(port, context, None)
        edit(config, "workers = 2", "workers = 1")
        reload(gateway)
        assert resume(port, context, session)[:2] == (True, True)


def test_files_that_are_watched_are_taken_when_they_have_changed(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, extra="watch = true")
    ca.issue("renewed", "server")
    with Gateway(config, port) as gateway:
        for kind in ("key", "pem"):
            # In one step each, as whoever renews does it: between them the two do not fit.
            run("cp", ca.directory / f"renewed.{kind}", ca.directory / "new")
            (ca.directory / "new").rename(ca.directory / f"server.{kind}")
        gateway.wait_for(" reloaded ")
        assert "CN = renewed" in s_client(port, ca, "device")


def test_only_so_many_generations_drain_and_the_oldest_ends_with_close_notify(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, workers=1, drain="100ms")
    with Gateway(config, port) as gateway, ExitStack() as stack:
        held = []
        for _ in range(6):
            held.append(stack.enter_context(client(port, ca)))
            reload(gateway)
        for oldest in held[:2]:
            assert oldest.recv(1) == b""
        assert all(echoes(each) for each in held[2:])
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(TIMEOUT) == 0


def test_a_reload_that_is_under_way_can_be_taken_back(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    first, second = free_port(), free_port()
    config, port = configure(tmp_path, ca, web, echo.port, extra=f'admin.bind = "127.0.0.1:{first}"')
    token = tmp_path / "token"
    token.write_text("x" * 40)
    token.chmod(0o600)
    edit(config, "admin.bind", f'admin.token_file = "{token}"\nadmin.bind')
    with Gateway(config, port) as gateway:
        control = gateway.children()["gw-control"]
        # The next control process, and so the next workers, have to wait for this one to end.
        os.kill(control, signal.SIGSTOP)
        try:
            edit(config, str(first), str(second))
            gateway.process.send_signal(signal.SIGHUP)
            gateway.wait_for(" reloading ")
            edit(config, str(second), str(first))
            gateway.process.send_signal(signal.SIGHUP)
            gateway.wait_for(" reloading ", count=2)
        finally:
            os.kill(control, signal.SIGCONT)
        gateway.wait_for(" reloaded ")
        assert accepts(first)
        assert not accepts(second)


def test_thirty_reloads_leave_no_descriptor_open(tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo) -> None:
    def opened() -> list[str]:
        return sorted(str(each.readlink()).partition(":")[0] for each in descriptors.iterdir())

    config, port = configure(tmp_path, ca, web, echo.port)
    with Gateway(config, port) as gateway:
        descriptors = Path("/proc") / str(gateway.process.pid) / "fd"
        reload(gateway)
        until(lambda: len(gateway.pids()) == 3, "the first workers to end")
        before = opened()
        for _ in range(30):
            reload(gateway)
        until(lambda: len(gateway.pids()) == 3, "the old workers to end")
        assert opened() == before
