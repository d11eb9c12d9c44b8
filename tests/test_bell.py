"""Who rings wakes the supervisor, and never ends it."""

from __future__ import annotations

import subprocess
import sys

_RING = """
import resource, signal
from gateway.bell import ACCEPTING, SIGNALS, Bell
resource.setrlimit(resource.RLIMIT_SIGPENDING, ({most}, {most}))
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
bell = Bell()
bell.ring(ACCEPTING)
assert signal.sigtimedwait(SIGNALS, 10) is not None
assert bell.answer() == ACCEPTING
"""


def ring(most: int) -> None:
    """In a process of its own, for which so many signals may wait."""
    subprocess.run([sys.executable, "-c", _RING.format(most=most)], check=True, timeout=60)


def test_who_rings_wakes_the_supervisor() -> None:
    ring(most=100)


def test_where_no_more_signals_may_wait_it_is_woken_all_the_same() -> None:
    ring(most=0)
