"""A reload that goes wrong, or is disturbed, costs no client and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.clients import Echo, client, echoes
from tests.end_to_end.gateways import Manager, Storm, configure, edit, has_ended, reload, workers_of
from tests.end_to_end.parts import (
    TIMEOUT,
    Gateway,
    OcspResponder,
    OpensslCa,
    Web,
    accepts,
    free_port,
    s_client,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path

# The gateway, whose workers do what a file says, where it is there. Who hangs heeds no signal.
_FAULTY = """
import os, signal, sys
from pathlib import Path
from gateway import bell, children, worker
children.KILL_AFTER = 0.5
fault = Path(sys.argv.pop(1))
run, ring = worker.run, bell.Bell.ring

def faulty_run(post):
    if fault.exists() and fault.read_text() == "crash at start":
        raise RuntimeError("a fault")
    if fault.exists() and fault.read_text() == "hang at start":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            signal.sigwait(signal.valid_signals() - {signal.SIGKILL})
    run(post)

def faulty_ring(self, what):
    ring(self, what)
    if what == bell.ACCEPTING and fault.exists() and fault.read_text() == "crash after accepting":
        fault.unlink(missing_ok=True)
        os._exit(9)

worker.run, bell.Bell.ring = faulty_run, faulty_ring
from gateway.cli import main
main()
"""


class Faulty(Gateway):
    """A gateway whose workers do what its file `fault` says."""

    def __init__(self, config: Path, port: int) -> None:
        super().__init__(config, port)
        self.fault = config.with_suffix(".fault")
        self._command = [sys.executable, "-c", _FAULTY, str(self.fault), *self._command[3:]]


def hang_up(gateway: Gateway) -> None:
    gateway.process.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("fault", ["crash at start", "hang at start"])
def test_a_reload_whose_workers_never_accept_is_undone_and_those_before_go_on(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with (
        manager,
        Faulty(config, port) as gateway,
        client(port, ca) as held,
        Storm(port, ca) as storm,
    ):
        manager.hears("READY=1")
        before = workers_of(gateway)
        other = free_port()
        # More workers, and another address: half of its clients would wait at sockets that nobody looks at.
        edit(config, "workers = 2", 'workers = 4\nreload_timeout = "1s"')
        edit(config, f'"127.0.0.1:{port}"', f'"127.0.0.1:{port}", "127.0.0.1:{other}"')
        gateway.fault.write_text(fault)
        hang_up(gateway)
        manager.hears("RELOADING=1")
        gateway.wait_for(
            "reload undone", "error=", "worker-0, worker-1, worker-2, worker-3: did not accept within",
            "the configuration of before stays",
        )  # fmt: skip
        assert manager.hears("READY=1") == ["STATUS=the last reload was undone, see the log"]
        until(lambda: len(gateway.pids()) == 3, "those of the next generation to end, and control")
        assert set(gateway.pids()) >= set(before.values())
        assert not accepts(other)
        served = storm.served
        until(lambda: storm.served > served + 20, "clients after it")
        assert storm.faults == []
        assert echoes(held)
        # And the next one, with nothing wrong, is taken.
        gateway.fault.unlink()
        edit(config, 'reload_timeout = "1s"', "")
        reload(gateway)
        manager.hears("RELOADING=1")
        assert manager.hears("READY=1") == ["STATUS=4 workers accept"]
        assert accepts(other)
        assert echoes(held)
    assert storm.faults == []


def test_a_required_staple_that_never_comes_undoes_the_reload_and_revocation_goes_on(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    ca.issue("stolen")
    config, port = configure(tmp_path, ca, web, echo.port, extra='reload_timeout = "1s"')
    good = config.read_text()
    with Gateway(config, port) as gateway, client(port, ca, "stolen") as stolen:
        stapling = f'[listeners.stapling]\nenabled = true\nrequired = true\nissuer = "{ca.directory}/ca.pem"'
        nobody = f'{stapling}\nresponder_url = "http://127.0.0.1:{free_port()}"'
        edit(config, "[listeners.revocation]", f"{nobody}\n[listeners.revocation]")
        hang_up(gateway)
        gateway.wait_for("reload undone")
        # Control is that of before again, and those before hear it.
        gateway.wait_for(" ready ", count=2)
        ca.revoke("stolen")
        ca.publish()
        assert stolen.recv(1) == b""
        with client(port, ca):
            pass
        config.write_text(good)
        reload(gateway)


def test_a_worker_that_dies_right_after_it_accepts_is_started_again_and_no_client_is_lost(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    with Faulty(config, port) as gateway, client(port, ca) as held:
        gateway.fault.write_text("crash after accepting")
        reload(gateway)
        gateway.wait_for("child ended", "exit code 9")
        until(lambda: len(workers_of(gateway)) >= 2, "the worker to be started again")
        for _ in range(6):
            with client(port, ca):
                pass
        assert echoes(held)
        assert not gateway.lines("reload undone")


def test_a_storm_of_signals_ends_in_one_generation_and_costs_nobody(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, workers=1)
    with Gateway(config, port) as gateway:
        with client(port, ca) as held, Storm(port, ca, threads=2) as storm:
            reload(gateway)
            for _ in range(100):
                hang_up(gateway)
                assert echoes(held)
            edit(config, "workers = 1", "workers = 3")
            hang_up(gateway)
            until(lambda: len(workers_of(gateway)) >= 3, "the last configuration to be taken")
            served = storm.served
            until(lambda: storm.served > served + 20, "clients after it")
            # Of a hundred generations most have served nobody, and took nobody's place.
            assert echoes(held)
        assert storm.faults == []
        until(lambda: len(gateway.pids()) == 4, "all others to end")
        assert not gateway.lines(" error ")


def test_a_reload_while_control_is_being_started_again_is_taken_and_control_is_left_alone(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    with Faulty(config, port) as gateway, client(port, ca) as held:
        os.kill(gateway.children()["gw-control"], signal.SIGKILL)
        # It waits half a second, for it has died young.
        gateway.wait_for("child ended", "child=control", "SIGKILL")
        reload(gateway)
        control = gateway.children()["gw-control"]
        # It looks again after a second; by then the time of the one before is up.
        ca.publish()
        gateway.wait_for("list in force", "number=2")
        assert gateway.children()["gw-control"] == control
        assert echoes(held)


@pytest.mark.parametrize("fault", ["", "hang at start"])
def test_a_gateway_that_is_to_end_during_a_reload_drains_and_ends(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, fault: str
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, drain="1s")
    with Faulty(config, port) as gateway, client(port, ca) as held:
        gateway.fault.write_text(fault)
        hang_up(gateway)
        gateway.wait_for(" reloading ")
        children = gateway.children()
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_for("stopping")
        assert echoes(held)
        assert held.recv(1) == b""
        assert gateway.process.wait(TIMEOUT) == 0
        assert all(map(has_ended, children.values()))


def test_a_watched_file_that_only_the_refused_configuration_names_is_looked_at(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, extra="watch = true")
    ca.issue("renewed", "server")
    mended = ca.directory / "mended.pem"
    with Gateway(config, port) as gateway:
        new = config.read_text().replace("server.pem", "mended.pem").replace("server.key", "renewed.key")
        config.with_suffix(".new").write_text(new)
        config.with_suffix(".new").rename(config)
        gateway.wait_for("reload refused", "mended.pem")
        (ca.directory / "renewed.pem").rename(mended)
        gateway.wait_for(" reloaded ")


def test_while_a_reload_waits_those_before_go_on_with_the_lists_and_the_staples_that_they_have(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    other = OpensslCa(tmp_path / "other", "Another CA")
    ca.issue("ocsp", "ocsp")
    ca.issue("renewed", "server")
    with OcspResponder(ca) as responder:
        stapling = f'[listeners.stapling]\nenabled = true\nrequired = true\nissuer = "{ca.directory}/ca.pem"'
        config, port = configure(tmp_path, ca, web, echo.port, workers=1)
        here = f'{stapling}\nresponder_url = "{responder.url}"\n'
        edit(config, "[listeners.revocation]", f"{here}[listeners.revocation]")
        with Gateway(config, port) as gateway:
            until(lambda: "OCSP Response Status: successful" in s_client(port, ca, "device", "-status"), "it")
            # Another CA, another list, another certificate, and nobody who would answer for it.
            edit(config, f'"{ca.directory}/ca.pem"\n\n', f'"{other.directory}/ca.pem"\n\n')
            edit(config, "server.", "renewed.")
            edit(config, responder.url, f"http://127.0.0.1:{free_port()}")
            edit(config, "/ca.crl", "/nobodys.crl")
            hang_up(gateway)
            gateway.wait_for("listener waits for staple")
            gateway.wait_for(" ready ", count=2)
            for _ in range(3):
                with client(port, ca):
                    pass
                said = s_client(port, ca, "device", "-status")
                assert "OCSP Response Status: successful" in said
                assert "CN = server" in said
