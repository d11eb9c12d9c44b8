"""The demonstration leaves nothing behind, however it is ended."""

from __future__ import annotations

import sys
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

import pytest

from tests.end_to_end.parts import Process, until


@pytest.mark.parametrize("stop", [SIGINT, SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_what_the_demonstration_started_ends_with_it(stop: Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gateway", "demo", "--port", "0"]
    with Process(command, tmp_path / "demo.log", stop) as demo:
        demo.wait_for("Ctrl-C ends it")
        (line,) = demo.lines("three certificates: in ")
        directory = Path(line.rpartition(" ")[2])
        assert directory.is_dir()
        children = Path(f"/proc/{demo.process.pid}/task/{demo.process.pid}/children").read_text().split()
        assert len(children) >= 2
    assert demo.process.returncode == 0
    until(
        lambda: not any((Path("/proc") / child).exists() for child in children), "broker and gateway to end"
    )
    assert not directory.exists()
