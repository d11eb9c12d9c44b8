"""Under a service manager: what it is told, and the socket that it hands over."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.clients import Echo, client, echoes, tls_context
from tests.end_to_end.gateways import Manager, configure
from tests.end_to_end.parts import TIMEOUT, Gateway, OpensslCa, Web, until


def test_the_manager_is_told_of_each_step_of_a_life(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with manager, Gateway(config, port) as gateway:
        assert manager.hears("READY=1") == ["STATUS=2 workers accept"]
        with client(port, ca):
            manager.hears("WATCHDOG=1")
            manager.hears("WATCHDOG=1")
        gateway.process.send_signal(signal.SIGHUP)
        manager.hears("RELOADING=1")
        assert manager.hears("READY=1") == ["STATUS=2 workers accept"]
        config.write_text("nonsense")
        gateway.process.send_signal(signal.SIGHUP)
        manager.hears("RELOADING=1")
        assert manager.hears("READY=1") == ["STATUS=the last reload was refused, see the log"]
        gateway.process.send_signal(signal.SIGTERM)
        manager.hears("STOPPING=1")
        assert gateway.process.wait(TIMEOUT) == 0


_HAND_OVER = """
import os, sys
given = int(sys.argv[1])
os.dup2(given, 3)
if given != 3:
    os.close(given)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Activated(Gateway):
    """Started with a listening socket as descriptor 3, as systemd's socket units do it."""

    def __init__(self, config: Path, port: int, listening: socket.socket) -> None:
        super().__init__(config, port)
        self._command = [sys.executable, "-c", _HAND_OVER, str(listening.fileno()), *self._command]
        self._pass_fds = (listening.fileno(),)


def test_who_came_before_the_gateway_was_started_is_served_through_the_socket_that_was_handed_over(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    with socket.create_server(("127.0.0.1", port)) as listening:
        early = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        with Activated(config, port, listening) as gateway:
            listening.close()
            with tls_context(ca).wrap_socket(early, server_hostname="localhost") as connection:
                assert echoes(connection)
                gateway.process.send_signal(signal.SIGHUP)
                gateway.wait_for(" reloaded ")
                assert echoes(connection)
            for _ in range(6):
                with client(port, ca):
                    pass
            until(lambda: len(gateway.pids()) == 3, "the old workers to end")


def test_a_socket_that_no_listener_asks_for_is_told_of_and_is_no_childs(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    with socket.create_server(("127.0.0.1", 0)) as listening, Activated(config, port, listening) as gateway:
        host, other = listening.getsockname()
        gateway.wait_for(f"socket not used process=supervisor address={host}:{other}")
        inode = os.fstat(listening.fileno()).st_ino
        for pid in gateway.children().values():
            opened = {each.readlink() for each in (Path("/proc") / str(pid) / "fd").iterdir()}
            assert Path(f"socket:[{inode}]") not in opened


# PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN, then the program; 3: the kernel cannot, it is older than 6.3.
_NEVER_WRITABLE_AND_EXECUTABLE = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) and sys.exit(3)
os.execv(sys.argv[1], sys.argv[1:])
"""


class LockedIn(Gateway):
    """The gateway as the unit's MemoryDenyWriteExecute has it."""

    def __init__(self, config: Path, port: int) -> None:
        super().__init__(config, port)
        self._command = [sys.executable, "-c", _NEVER_WRITABLE_AND_EXECUTABLE, *self._command]


def test_it_needs_no_memory_that_is_writable_and_executable(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    probe = [sys.executable, "-c", _NEVER_WRITABLE_AND_EXECUTABLE, "/bin/true"]
    if subprocess.run(probe, check=False, timeout=TIMEOUT).returncode == 3:
        pytest.skip("the kernel is older than 6.3")
    listener = 'balance = "client"\nhealth_check = { enabled = true }'
    config, port = configure(tmp_path, ca, web, echo.port, listener=listener)
    with LockedIn(config, port) as gateway, client(port, ca) as held:
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for(" reloaded ")
        assert echoes(held)
        ca.revoke("device")
        ca.publish()
        assert held.recv(1) == b""
        assert gateway.lines("crashed") == []
