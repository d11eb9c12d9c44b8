"""Whoever logs does not wait for a disk, and what is not written is counted."""

from __future__ import annotations

import fcntl
import io
import os
import select
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from gateway import log
from gateway.config.model import Log
from gateway.log import sink as sinks
from gateway.log.sink import Sink

if TYPE_CHECKING:
    from pathlib import Path


class Slow(io.StringIO):
    """A disk that hangs until it is told not to."""

    def __init__(self) -> None:
        super().__init__()
        self.going_on, self.asked = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        assert self.going_on.wait(30)
        return super().write(text)


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def nothing(_sink: Sink) -> None:
    """No report."""


def test_while_the_disk_hangs_nobody_waits_and_lines_beyond_the_bound_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sinks, "MOST_WAITING", 5)
    disk = Slow()
    sink = Sink(None, disk, nothing)
    sink.in_background()
    sink.write("first\n")
    assert disk.asked.wait(30)
    for number in range(8):
        sink.write(f"{number}\n")
    assert sink.lost() == 3
    disk.going_on.set()
    sink.close(30)
    assert disk.getvalue() == "first\n0\n1\n2\n3\n4\n"


def test_all_that_waits_is_written_at_the_end_with_what_the_last_report_says() -> None:
    output = io.StringIO()
    sink = Sink(None, output, lambda sink: sink.write("report\n"))
    sink.in_background()
    for number in range(1000):
        sink.write(f"{number}\n")
    sink.close(30)
    assert [line for line in output.getvalue().splitlines() if line != "report"] == [
        str(number) for number in range(1000)
    ]
    assert output.getvalue().endswith("report\n")


@pytest.mark.parametrize("background", [True, False])
def test_a_pipe_whose_reader_has_gone_ends_nobody(*, background: bool) -> None:
    sink = Sink(None, Broken(), nothing)
    if background:
        sink.in_background()
    sink.write("one\n")
    sink.write("two\n")
    sink.close(30)
    assert sink.lost() == 2


def test_lines_are_written_together_but_no_more_than_a_pipe_takes_at_once() -> None:
    written: list[str] = []

    class Listed(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    gate = Slow()
    sink: Any = Sink(None, Listed(), nothing)
    for _ in range(100):
        sink._waiting.put("x" * 99 + "\n")
    sink.in_background()
    sink.close(30)
    gate.close()
    assert sum(map(len, written)) == 100 * 100
    assert len(written) < 10
    assert max(map(len, written)) <= sinks._AT_ONCE


def test_what_went_to_standard_error_meanwhile_is_told_when_the_file_is_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "later" / "gateway.log"
    log.configure(Log(file=path))
    log.get_logger().info("event happened")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert f'error   log file not written process=supervisor file={path} error="No such file' in said[0]
    assert said[1].endswith("info    event happened")
    path.parent.mkdir()
    log.reopen()
    log.get_logger().info("event happened")
    again, event = path.read_text().splitlines()
    assert again.endswith(f"warning log file written again process=supervisor file={path} elsewhere=2")
    assert event.endswith("info    event happened")
    assert capsys.readouterr().err == ""


def test_lost_lines_are_told_and_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.configure(Log())
    sink: Any = log._sink
    sink._lose(7)
    counted: list[int] = []
    log.count_losses(counted.append)
    log.reopen()
    assert counted == [7]
    assert "error   log lines lost process=supervisor count=7" in capsys.readouterr().err


def test_a_pipe_that_nobody_reads_stops_neither_the_supervisor_nor_the_end_of_a_child() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w") as pipe:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * select.PIPE_BUF)
        os.set_blocking(writing, True)
        sink = Sink(None, pipe, nothing)
        sink.write("line\n")
        assert sink.lost() == 1
        sink.in_background()
        sink.write("line\n")
        assert not sink.close(0.01)
        os.read(reading, 2 * select.PIPE_BUF)
        assert sink.close(30)


def test_a_line_longer_than_a_pipe_has_room_for_does_not_stop_the_supervisor() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w") as pipe:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 2 * select.PIPE_BUF)
        sink = Sink(None, pipe, nothing)

        sink.line("x" * 5 * select.PIPE_BUF)

        assert sink.lost() == 1


def test_whoever_writes_without_a_thread_reports_in_the_midst_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log" / "gateway.log"
    path.parent.mkdir()
    log.configure(Log(file=path))
    path.unlink()
    path.parent.rmdir()
    sink: Any = log._sink
    sink._reported -= sinks.INTERVAL
    log.get_logger().info("event happened")
    log.get_logger().info("another happened")
    first, second = capsys.readouterr().err.splitlines()
    assert "error   log file not written" in first
    assert second.endswith("another happened")
