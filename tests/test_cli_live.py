"""The commands to the running gateway ask for what was typed, and tell what was answered."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding

from gateway import cli_live, commands, names, publish
from gateway.cli import main
from gateway.commands import Answer, Command, Drain, ListRevoked, Refresh, Reload, Revoke, Status, Unrevoke
from gateway.errors import GatewayError
from tests.authority import Authority
from tests.statuses import a_status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

ROOT = Authority.root("Root")
LEAF = ROOT.issue("device").cert
NAME = ROOT.cert.subject.public_bytes()


@contextmanager
def gateway(state_dir: Path, answer: Answer) -> Iterator[list[Command]]:
    """One that hears one command, and answers so."""
    (state_dir / "run").mkdir(parents=True)
    heard: list[Command] = []
    with publish.bind(state_dir / "run", commands.SOCKET_NAME) as bound:
        bound.settimeout(10.0)

        def serve() -> None:
            connection, _ = bound.accept()
            with connection, connection.makefile("rb") as file:
                length = int.from_bytes(file.read(4))
                heard.append(msgspec.msgpack.decode(file.read(length), type=Command))
                connection.sendall(commands._frame(answer))

        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        thread.join()


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "leaf.pem").write_bytes(LEAF.public_bytes(Encoding.PEM))
    (tmp_path / "leaf.der").write_bytes(LEAF.public_bytes(Encoding.DER))
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    return tmp_path


@pytest.mark.parametrize("name", ["leaf.pem", "leaf.der"])
def test_a_certificate_is_revoked_by_its_issuer_and_serial(files: Path, name: str) -> None:
    with gateway(files / "state", Answer(ok=True, lines=("done", "warning: but"))) as heard:
        result = run(
            *("revoke", "--state-dir", files / "state", "--cert", files / name),
            *("--reason", "keyCompromise", "--note", "lost"),
        )
    assert (result.exit_code, result.stdout, result.stderr) == (0, "done\n", "warning: but\n")
    assert heard == [Revoke(names.issuer_name_der(LEAF), f"{LEAF.serial_number:x}", "keyCompromise", "lost")]


@pytest.mark.parametrize("serial", ["0x0AbC", "abc", "0A:BC", "0000abc"])
def test_a_serial_is_hexadecimal_however_it_is_written(files: Path, serial: str) -> None:
    with gateway(files / "state", Answer(ok=True, lines=("done",))) as heard:
        result = run(
            *("unrevoke", "--state-dir", files / "state"), "--issuer", files / "ca.pem", "--serial", serial
        )
    assert result.exit_code == 0
    assert heard == [Unrevoke(NAME, "abc")]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["refresh"], Refresh(None)),
        (["refresh", "http://ca/"], Refresh("http://ca/")),
        (["revoked"], ListRevoked()),
        (["reload"], Reload()),
        (["drain"], Drain()),
        (["status"], Status()),
    ],
)
def test_each_command_asks_for_its_own(tmp_path: Path, arguments: list[str], command: Command) -> None:
    with gateway(tmp_path / "state", Answer(ok=True, lines=("one\x1b[0m", "two"))) as heard:
        result = run(*arguments, "--state-dir", tmp_path / "state")
    assert (result.exit_code, result.stdout) == (0, "one\\x1b[0m\ntwo\n")
    assert heard == [command]


@pytest.mark.parametrize("name", ["revoked", "status"])
def test_json_is_for_machines(tmp_path: Path, name: str) -> None:
    with gateway(tmp_path / "state", Answer(ok=True, lines=("text",), data=b'{"a": 1}')):
        result = run(name, "--json", "--state-dir", tmp_path / "state")
    assert json.loads(result.stdout) == {"a": 1}


def test_what_fails_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with gateway(tmp_path / "state", Answer(ok=False, lines=("no such source",))):
        result = run("refresh", "http://ca/", "--state-dir", tmp_path / "state")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "tls-gateway: no such source\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "expected either --cert, or --issuer and --serial"),
        (["--cert", "leaf.pem", "--serial", "5"], "expected either --cert, or --issuer and --serial"),
        (["--issuer", "ca.pem"], "expected either --cert, or --issuer and --serial"),
        (["--cert", "none.pem"], "none.pem: cannot be read: No such file or directory"),
        (["--cert", "junk.pem"], "junk.pem: expected a certificate in PEM or DER"),
        *(
            (["--issuer", "ca.pem", "--serial", serial], "--serial: expected a serial number")
            for serial in ("xyz", "", "--5", "1_0", " 5", "0x", "٣")
        ),
        (["--cert", "leaf.pem"], "command.sock: expected a running gateway, but nobody is there"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(files)
    (files / "junk.pem").write_bytes(b"junk")
    result = run("revoke", "--state-dir", "state", *arguments)
    assert result.exit_code == 1
    assert expected in result.stderr
    assert result.stderr.endswith("; nothing is done\n")
    assert result.stderr.count("\n") == 1


def test_which_gateway_has_to_be_said(files: Path) -> None:
    result = run("revoke", "--cert", files / "leaf.pem")
    assert "expected --config or --state-dir" in result.stderr
    assert result.exit_code == 1


def answer(at: float, handshakes: int, refused: int = 0) -> Answer:
    """Of a gateway that has counted this at that time."""
    totals = dict.fromkeys(a_status().totals, 0) | {"handshakes": handshakes, "refused_stale": refused}
    status = a_status(now=at, totals=totals)
    return Answer(ok=True, lines=("ready\x1b[0m", "more"), data=msgspec.json.encode(status))


def watched(
    monkeypatch: pytest.MonkeyPatch, *answers: Answer | GatewayError, option: str = "--watch"
) -> Result:
    """`status --watch` that is interrupted after these."""
    coming = list(answers)

    def ask(_directory: Path, _command: Command) -> Answer:
        one = coming.pop(0)
        if isinstance(one, GatewayError):
            raise one
        return one

    def sleep(seconds: float) -> None:
        assert seconds == 2.0
        if not coming:
            raise KeyboardInterrupt

    monkeypatch.setattr(commands, "ask", ask)
    monkeypatch.setattr(time, "sleep", sleep)
    return run("status", "--watch", option, "--state-dir", "state")


def test_status_is_watched_until_it_is_interrupted_with_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    result = watched(monkeypatch, answer(10.0, 100), answer(14.0, 300, 2), answer(16.0, 0))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "ready\\x1b[0m",
        "more",
        "ready\\x1b[0m",
        "per second: 50.0 handshakes, 0.5 refused, 0.0 KiB in, 0.0 KiB out",
        "more",
        "ready\\x1b[0m",
        "per second: 0.0 handshakes, 0.0 refused, 0.0 KiB in, 0.0 KiB out",
        "more",
    ]


def test_what_is_watched_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"line {number}" for number in range(30)]
    assert cli_live._fitting(lines) == lines  # no terminal
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
    fitting = cli_live._fitting(lines)
    assert fitting[:22] == lines[:22]
    assert fitting[22:] == ["… 8 lines more; without --watch all of them"]
    assert cli_live._fitting(lines[:23]) == lines[:23]


@pytest.mark.parametrize(
    ("line", "colour"),
    [
        ("not ready: x", "31"), ("  http://x DOWN", "31"), ("    failed 2 times: x\x1b[0m", "31"),
        ("warning: w", "33"), ("LISTS", "1"), ("ready", ""), ("BREAKDOWN of x", ""),
    ],
)  # fmt: skip
def test_on_a_terminal_what_is_wrong_is_red(line: str, colour: str) -> None:
    painted = cli_live._painted(line)
    assert painted.startswith(f"\x1b[{colour}m") is bool(colour)
    assert painted.count("\x1b") == (2 if colour else 0)


def test_watching_goes_on_when_the_gateway_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    result = watched(monkeypatch, answer(10.0, 100), GatewayError("nobody is there"), answer(14.0, 100))
    assert "tls-gateway: nobody is there" in result.stdout
    assert result.stdout.count("more") == 2


def test_who_watches_a_gateway_that_was_never_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    result = watched(monkeypatch, GatewayError("nobody is there"))
    assert (result.exit_code, result.stderr) == (1, "tls-gateway: nobody is there\n")


def test_machines_watch_a_line_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    result = watched(monkeypatch, answer(10.0, 1), answer(12.0, 2), option="--json")
    assert [json.loads(line)["now"] for line in result.stdout.splitlines()] == [10.0, 12.0]
