"""What a tree of processes has used (Linux).

CPU time is that of each process's own clock, which counts all its threads, those that
ended too, in nanoseconds; /proc has it in ticks of 10 ms.
"""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

_TICK = 1 / os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat behind the name, counted from the state (proc(5)).
_PARENT, _CPU_OF_REAPED_CHILDREN = 1, slice(13, 15)


class Memory(NamedTuple):
    """Bytes of a whole tree; `pss` divides what processes share, `rss` counts it once each."""

    rss: int
    pss: int


def tree(root: int) -> list[int]:
    """The process ids of `root` and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                children.setdefault(int(_stat(int(entry.name))[_PARENT]), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children.get(pid, ()))
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of the tree in seconds.

    All threads are in it, and children that ended and were waited for, these in ticks.
    """
    return sum(_own_cpu_seconds(pid) + _reaped_cpu_seconds(pid) for pid in tree(root))


def memory(root: int) -> Memory:
    """Resident memory of the tree in bytes."""
    rss = pss = 0
    for pid in tree(root):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Rss":
                rss += int(value.split()[0]) * 1024
            elif name == "Pss":
                pss += int(value.split()[0]) * 1024
    return Memory(rss, pss)


def _own_cpu_seconds(pid: int) -> float:
    clock = ctypes.c_int()
    number = _libc().clock_getcpuclockid(pid, ctypes.byref(clock))
    if number != 0:
        raise ProcessLookupError(number, os.strerror(number), str(pid))
    return time.clock_gettime(clock.value)


def _reaped_cpu_seconds(pid: int) -> float:
    return sum(map(int, _stat(pid)[_CPU_OF_REAPED_CHILDREN])) * _TICK


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
