"""What a tree of processes has used, read from /proc (Linux)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_TICK = 1 / os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat behind the name, counted from the state (proc(5)).
_PARENT, _CPU = 1, slice(11, 15)


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
    """User and system time of the tree, all threads and reaped children, in seconds; a tick is 10 ms."""
    return sum(sum(map(int, _stat(pid)[_CPU])) for pid in tree(root)) * _TICK


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


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
