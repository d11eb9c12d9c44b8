"""A system without a process to give ends nobody, and how one ended is told in words, whatever ended it."""

from __future__ import annotations

import errno
import os
import signal
import time

import pytest
from structlog.testing import capture_logs

from gateway.children import Child, describe


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, "exit code 0"),
        (3 << 8, "exit code 3"),
        (int(signal.SIGKILL), "killed by SIGKILL"),
        (int(signal.SIGSEGV) | 0x80, "killed by SIGSEGV"),  # with a core
        (int(signal.SIGRTMIN) + 6, "killed by signal 40"),
    ],
)
def test_a_status_is_told_in_words_even_of_a_signal_without_a_name(status: int, said: str) -> None:
    assert describe(status) == said


def test_a_child_that_cannot_be_forked_is_due_again_and_the_supervisor_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", refuse)
    child = Child("worker-0", lambda: None, worker=0)
    before = time.monotonic()

    with capture_logs() as captured:
        child.fork((), None)

    assert (child.pid, child.due > before) == (0, True)
    assert [(line["event"], line["child"]) for line in captured] == [("cannot fork", "worker-0")]
