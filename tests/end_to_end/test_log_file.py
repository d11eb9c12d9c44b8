"""A real gateway's log file, rotated as logrotate does it, removed, and where it cannot be written."""

from __future__ import annotations

import os
import pwd
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.clients import Echo, client
from tests.end_to_end.gateways import configure
from tests.end_to_end.parts import TIMEOUT, Gateway, OpensslCa, Web, accepts, program, run, until
from tests.test_layers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "nobody"


@pytest.fixture
def place() -> Iterator[Path]:
    """Where another user may go, which pytest's directories are not."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "log").mkdir(mode=0o755)
        yield directory


class Filed(Gateway):
    """A gateway whose log is a file; `stderr` is what it says all the same."""

    def __init__(self, config: Path, port: int, file: Path) -> None:
        super().__init__(config, port)
        self.file = file

    @property
    def log(self) -> str:
        """All that stands in the file now."""
        return self.file.read_text() if self.file.exists() else ""

    @property
    def stderr(self) -> str:
        return self.log_file.read_text()


def filed(place: Path, ca: OpensslCa, web: Web, echo: Echo, *, extra: str = "") -> Filed:
    file = place / "log" / "gateway.log"
    config, port = configure(place, ca, web, echo.port, extra=extra)
    config.write_text(config.read_text() + f'\n[log]\nfile = "{file}"\nlevel = "debug"\n')
    return Filed(config, port, file)


LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z (?:debug  |info   |warning|error  ) .*? process=(\S+)")


def processes(text: str) -> set[str]:
    """Whose lines these are; each is whole."""
    found = [LINE.match(line) for line in text.splitlines()]
    assert None not in found
    return {match[1] for match in found if match}


EVERYBODY = {"supervisor", "control", "worker-0", "worker-1"}


def logged_by_all(gateway: Filed, ca: OpensslCa) -> bool:
    """Whether every process has a line in the file, after it had something to say."""
    for _ in range(5):
        with client(gateway.port, ca):
            pass
    if "supervisor" not in processes(gateway.log):
        gateway.process.send_signal(signal.SIGHUP)
    return processes(gateway.log) >= EVERYBODY


def test_signals_that_rotate_logs_end_nobody_and_the_next_line_is_in_the_new_file(
    place: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    gateway = filed(place, ca, web, echo)
    with gateway:
        assert stat.S_IMODE(gateway.file.stat().st_mode) == 0o640
        before = gateway.children()
        old = gateway.file.rename(gateway.file.with_suffix(".log.1"))
        for pid in (gateway.process.pid, *before.values()):
            os.kill(pid, signal.SIGUSR1)
        until(gateway.file.exists, "the supervisor to make the file")
        until(lambda: logged_by_all(gateway, ca), "lines of all processes")
        assert gateway.lines("crashed") == gateway.lines("killed") == []
    assert "supervisor" in processes(old.read_text())
    assert "stopped process=supervisor" in gateway.log.splitlines()[-1]
    assert gateway.stderr == ""


def test_a_file_that_was_removed_is_there_again(place: Path, ca: OpensslCa, web: Web, echo: Echo) -> None:
    with filed(place, ca, web, echo) as gateway:
        gateway.file.unlink()
        until(lambda: logged_by_all(gateway, ca), "lines of all processes")


@pytest.mark.parametrize("way", ["create", "copytruncate"])
def test_logrotate_may_rotate_it_in_both_of_its_ways(
    place: Path, ca: OpensslCa, web: Web, echo: Echo, way: str
) -> None:
    gateway = filed(place, ca, web, echo)
    rules = (ROOT / "deploy" / "tls-gateway.logrotate").read_text()
    group = pwd.getpwuid(os.getuid()).pw_name
    for ours, here in (
        ("/var/log/tls-gateway", str(gateway.file.parent)),
        ("create 0640 tls-gateway tls-gateway", f"create 0640 {group}" if way == "create" else way),
        ("systemctl kill --signal=SIGUSR1 tls-gateway.service", f"kill -USR1 $(cat {place}/pid)"),
    ):
        assert ours in rules
        rules = rules.replace(ours, here)
    (place / "rules").write_text(rules)
    (place / "rules").chmod(0o644)
    with gateway:
        (place / "pid").write_text(str(gateway.process.pid))
        said = gateway.log
        run(program("logrotate"), "--force", "--state", place / "rotated", place / "rules")
        assert gateway.file.with_suffix(".log.1").read_text().startswith(said)
        until(lambda: logged_by_all(gateway, ca), "lines of all processes in the new file")
        assert said.splitlines()[0] not in gateway.log
        assert "\0" not in gateway.log
    assert gateway.stderr == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_file_is_the_users_and_root_makes_the_next_one_where_the_user_may_not(
    place: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    with filed(place, ca, web, echo, extra=f'user = "{USER}"') as gateway:
        account = pwd.getpwnam(USER)
        assert gateway.file.stat().st_uid == account.pw_uid
        gateway.file.rename(gateway.file.with_suffix(".log.1"))
        gateway.process.send_signal(signal.SIGUSR1)
        until(lambda: logged_by_all(gateway, ca), "lines of all processes")
        assert gateway.file.stat().st_uid == account.pw_uid


def test_while_the_disk_is_full_the_gateway_goes_on_and_says_so_elsewhere(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    file = tmp_path / "gone" / "gateway.log"
    file.parent.mkdir()
    config.write_text(config.read_text() + f'\n[log]\nfile = "{file}"\n')
    gateway = Filed(config, port, file)
    with gateway:
        file.unlink()
        file.parent.rmdir()
        gateway.process.send_signal(signal.SIGUSR1)
        until(
            lambda: (
                {found[1] for found in re.finditer(r"log file not written process=(\S+)", gateway.stderr)}
                == EVERYBODY
            ),
            "all processes to say so",
        )
        with client(port, ca):
            pass
        file.parent.mkdir()
        until(lambda: processes_in_text(gateway.log) == EVERYBODY - {"supervisor"}, "the others to be back")
        gateway.process.send_signal(signal.SIGUSR1)
        until(lambda: processes_in_text(gateway.log) == EVERYBODY, "the supervisor to be back")


def processes_in_text(text: str) -> set[str]:
    return set(re.findall(r"log file written again process=(\S+)", text))


def test_check_and_serve_say_that_the_file_cannot_be_opened(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, _ = configure(tmp_path, ca, web, echo.port)
    config.write_text(config.read_text() + f'\n[log]\nfile = "{tmp_path}/none/gateway.log"\n')
    for command in ("check", "serve"):
        done = run(sys.executable, "-m", "gateway", command, "--config", config, check=False)
        assert done.returncode == 1
        assert f"{config}: log.file: expected a file in a directory that exists" in done.stderr


def test_a_storm_of_strangers_costs_a_few_lines_and_none_is_forgotten(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    config.write_text(config.read_text() + '\n[log]\nlevel = "debug"\naccess = true\nflood_limit = 2\n')
    storm = 100
    with Gateway(config, port) as gateway:
        for _ in range(storm):
            with socket.create_connection(("127.0.0.1", port), TIMEOUT) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                while stranger.recv(1000):
                    pass
        with client(port, ca):
            pass
        gateway.wait_for("connection over", "CN=device")
    for event in ("handshake failed", "connection over"):
        written = gateway.lines(f" {event} process=worker", "end=handshake_failed" if "over" in event else "")
        left_out = [
            int(line.rpartition("count=")[2])
            for line in gateway.lines("similar events left out", f'of="{event}"', "listener=front")
        ]
        assert len(written) + sum(left_out) == storm
        assert sum(left_out) > 0


def test_those_who_are_there_at_the_end_have_their_line_in_the_access_log(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port, drain="0s")
    config.write_text(config.read_text() + "\n[log]\naccess = true\n")
    gateway = Gateway(config, port)
    with ExitStack() as held:
        with gateway:
            for _ in range(20):
                held.enter_context(client(port, ca))
        ends = gateway.lines("connection over", "CN=device", "end=stopped", "bytes_in=4 bytes_out=4")
        assert len(ends) == 20


def test_a_reload_takes_another_log_file_and_those_who_drain_keep_theirs(
    place: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    gateway = filed(place, ca, web, echo)
    before = gateway.file
    with gateway, client(gateway.port, ca) as connection:
        gateway.config.write_text(gateway.config.read_text().replace("gateway.log", "other.log"))
        gateway.file = before.with_name("other.log")
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for(" reloaded ")
        connection.unwrap()
        until(lambda: "connection ended" in before.read_text(), "the line of a worker that drains")
        until(lambda: logged_by_all(gateway, ca), "lines of all processes in the other file")


def test_a_log_that_nobody_reads_keeps_no_client_and_no_end_waiting(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(tmp_path, ca, web, echo.port)
    config.write_text(config.read_text() + '\n[log]\nlevel = "debug"\naccess = true\n')
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * select.PIPE_BUF)
    os.set_blocking(writing, True)
    gateway = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--config", config], stderr=writing, start_new_session=True
    )
    try:
        until(lambda: accepts(port), "the gateway to listen")
        for _ in range(10):
            with client(port, ca):
                pass
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(TIMEOUT) == 0
    finally:
        gateway.kill()
        gateway.wait()
        os.close(reading)
        os.close(writing)
