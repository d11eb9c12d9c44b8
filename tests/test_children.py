"""How a process ended is told in words, whatever ended it."""

from __future__ import annotations

import signal

import pytest

from gateway.children import describe


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
