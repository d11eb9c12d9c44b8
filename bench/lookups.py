"""The lookup of one serial number, alone: the gateway's table beside what a programmer would take instead.

The table and OpenSSL's X509_CRL_get0_by_serial are timed in C (bench/lookup.c),
the others in Python: what is in a CRL, sorted or hashed, as the ints that
`cryptography` gives; numpy, which has no integers of 160 bits, takes octets. All
look up the same serials, drawn at random from the list, or at random like those
in it; methods take turns. The time is the thread's processor time; from the
Python methods' the time of the empty loop is taken off.

Lookups are timed back to back. Where the processor may not begin a lookup before
the one before it is done, as between two handshakes, it takes longer: `alone_ns`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import tempfile
import time
from bisect import bisect_left
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from bench.build import HERE, RESULTS, compile_program
from bench.errors import BenchError
from bench.figures import OURS
from bench.material import SERIAL_OCTETS, Material

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

What = Literal["hit", "miss"]
WHATS: tuple[What, ...] = ("hit", "miss")

OPENSSL = "OpenSSL X509_CRL_get0_by_serial"
BISECT = "Python bisect"
FROZENSET = "Python frozenset"
SEARCHSORTED = "numpy.searchsorted"
SEARCHSORTED_AT_ONCE = "numpy.searchsorted, all at once"

_ENTRIES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_QUICK_ENTRIES = _ENTRIES[:-1]
_ROUNDS = 7
_QUICK_ROUNDS = 3

# Serials looked up in a round: in C a million, so that they do not stay in a
# cache; in Python, where a lookup takes longer than memory, as many as take a moment.
_SAMPLE = 1_000_000
_PYTHON_SAMPLE = 50_000

# What the largest list takes at the most, in all its forms, by entry.
_BYTES_AN_ENTRY = 900


@dataclass(frozen=True)
class LookupFigure:
    """Nanoseconds a lookup with one method: the median of the rounds, and how far they are apart."""

    entries: int
    what: What
    method: str
    ns: float
    spread: float
    """Half the distance from the lowest to the highest round, in ns."""
    alone_ns: float | None
    """Where no other lookup is under way meanwhile; only of methods in C."""
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class _Serials:
    """What is looked up in the rounds of one list, by `What`: as octets one after the other."""

    listed: Sequence[bytes]
    samples: dict[What, bytes]

    def part(self, what: What, turn: int) -> list[bytes]:
        """New objects, of another part of the sample in each turn."""
        size = SERIAL_OCTETS * _PYTHON_SAMPLE
        begin = turn * size % len(self.samples[what])
        flat = self.samples[what][begin : begin + size]
        return [flat[at : at + SERIAL_OCTETS] for at in range(0, len(flat), SERIAL_OCTETS)]


def measure(quick: bool) -> list[LookupFigure]:
    """Every method at every size, in rounds of turns; quick: to a million entries, in fewer rounds.

    A size that there is no memory for, and numpy where it is not installed, are
    left out: `notes` says so.

    Raises:
        BenchError: the C program cannot be compiled, or a method gave a wrong answer.
    """
    program = RESULTS / "bin" / "lookup"
    csrc = HERE.parent / "csrc"
    compile_program(program, [HERE / "lookup.c", csrc / "revoked.c"], [f"-I{csrc}", "-lcrypto"])
    figures = []
    for entries in _sizes(quick):
        with tempfile.TemporaryDirectory(prefix="bench-lookup-") as name:
            figures += _measure_list(program, Path(name), entries, _QUICK_ROUNDS if quick else _ROUNDS)
    return figures


def notes(quick: bool) -> list[str]:
    """What `measure` leaves out here, and what would change that."""
    found = []
    if not _has_numpy():
        found.append("numpy.searchsorted is left out: numpy is missing; pip install numpy")
    left_out = set(_QUICK_ENTRIES if quick else _ENTRIES) - set(_sizes(quick))
    return found + [
        f"lookups in {entries:,} entries are left out: there are less than "
        f"{entries * _BYTES_AN_ENTRY / (1 << 30):.1f} GiB of memory free"
        for entries in sorted(left_out)
    ]


def _sizes(quick: bool) -> list[int]:
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    sizes = _QUICK_ENTRIES if quick else _ENTRIES
    return [entries for entries in sizes if entries * _BYTES_AN_ENTRY < available]


def _has_numpy() -> bool:
    return importlib.util.find_spec("numpy") is not None


def _measure_list(program: Path, directory: Path, entries: int, rounds: int) -> list[LookupFigure]:
    der = Material.make(directory).crl(entries)
    serials = _draw(der, entries)
    (directory / "crl.der").write_bytes(der)
    _write_table(directory / "crl.table", der)
    for what in WHATS:
        (directory / what).write_bytes(serials.samples[what])
    del der
    methods = _python_methods(serials.listed)
    times: dict[tuple[What, str], list[float]] = {}
    alone: dict[tuple[What, str], list[float]] = {}
    with _in_c(program, directory) as c_round:
        for turn in range(rounds):
            for what, by_method in c_round().items():
                for method, (together, by_itself) in by_method.items():
                    times.setdefault((what, method), []).append(together)
                    alone.setdefault((what, method), []).append(by_itself)
            for what in WHATS:
                part = serials.part(what, turn)
                for method, time_part in methods.items():
                    nanoseconds, found = time_part(part)
                    if found != (len(part) if what == "hit" else 0):
                        raise BenchError(f"{method} found {found} of {len(part)} serials: {what}")
                    times.setdefault((what, method), []).append(nanoseconds)
    return [
        LookupFigure(
            entries=entries,
            what=what,
            method=method,
            ns=median(values),
            spread=(max(values) - min(values)) / 2,
            alone_ns=median(alone[what, method]) if (what, method) in alone else None,
            rounds=tuple(values),
        )
        for (what, method), values in times.items()
    ]


def _write_table(path: Path, der: bytes) -> None:
    # Only here: the benchmarks of other servers need no extension.
    from gateway.native import TableMeta, compile_table  # noqa: PLC0415
    from gateway.revocation.crl import parse_untrusted  # noqa: PLC0415

    crl = parse_untrusted(der)
    with path.open("w+b") as file:
        meta = TableMeta(b"", b"", crl.signature, None, 0, 0)
        compile_table(der, crl.parts.revoked, meta, file.fileno())
        os.fsync(file.fileno())


def _draw(der: bytes, entries: int) -> _Serials:
    """The serials of a list of `Material.crl`, all of one length, and what to look up in it."""
    random_source = random.Random(entries)
    head = bytes([0x30, 2 + SERIAL_OCTETS + 15, 0x02, SERIAL_OCTETS])
    begin, step = der.index(head), 4 + SERIAL_OCTETS + 15
    end = begin + entries * step
    if any(der[begin + at : end : step] != bytes([octet]) * entries for at, octet in enumerate(head)):
        raise BenchError("the list that was made for the lookups has entries of several lengths")
    listed = [der[at + 4 : at + 4 + SERIAL_OCTETS] for at in range(begin, end, step)]
    misses = bytearray(random_source.randbytes(SERIAL_OCTETS * _SAMPLE))
    # Like those in the list; that one of a million should be in it has a chance of 2^-110.
    misses[::SERIAL_OCTETS] = bytes(octet & 0x3F | 0x40 for octet in misses[::SERIAL_OCTETS])
    return _Serials(
        listed, {"hit": b"".join(random_source.choices(listed, k=_SAMPLE)), "miss": bytes(misses)}
    )


@contextmanager
def _in_c(
    program: Path, directory: Path
) -> Iterator[Callable[[], dict[What, dict[str, tuple[float, float]]]]]:
    """The C program, with the list loaded; what is yielded runs a round of it."""
    arguments = [directory / "crl.der", directory / "crl.table", *(directory / what for what in WHATS)]
    with subprocess.Popen(
        [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        reading, writing = process.stdout, process.stdin

        def one_round() -> dict[What, dict[str, tuple[float, float]]]:
            try:
                writing.write("round\n")
                writing.flush()
                line = reading.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                raise BenchError("the lookups in C failed: see above")
            found = json.loads(line)
            return {
                what: {
                    method: (found[what][name][0], found[what][name][1])
                    for method, name in ((OURS, "table"), (OPENSSL, "openssl"))
                }
                for what in WHATS
            }

        try:
            yield one_round
        finally:
            writing.close()


def _python_methods(listed: Sequence[bytes]) -> dict[str, Callable[[list[bytes]], tuple[float, int]]]:
    ordered = sorted(map(int.from_bytes, listed))
    methods = {BISECT: _bisect(ordered), FROZENSET: _frozenset(frozenset(ordered))}
    if _has_numpy():
        numpy: Any = importlib.import_module("numpy")
        octets = numpy.sort(numpy.array(listed, dtype=f"S{SERIAL_OCTETS}"))
        methods[SEARCHSORTED] = _searchsorted(octets)
        methods[SEARCHSORTED_AT_ONCE] = _searchsorted_at_once(numpy, octets)
    return methods


def _empty_loop(serials: Sequence[Any]) -> int:
    started = time.thread_time_ns()
    for _ in serials:
        pass
    return time.thread_time_ns() - started


def _bisect(ordered: list[int]) -> Callable[[list[bytes]], tuple[float, int]]:
    def time_part(part: list[bytes]) -> tuple[float, int]:
        serials = [*map(int.from_bytes, part)]
        count, found = len(ordered), 0
        started = time.thread_time_ns()
        for serial in serials:
            at = bisect_left(ordered, serial)
            if at < count and ordered[at] == serial:
                found += 1
        took = time.thread_time_ns() - started
        return (took - _empty_loop(serials)) / len(serials), found

    return time_part


def _frozenset(members: frozenset[int]) -> Callable[[list[bytes]], tuple[float, int]]:
    def time_part(part: list[bytes]) -> tuple[float, int]:
        # New ints, whose hash is to be computed like that of a certificate's.
        serials = [*map(int.from_bytes, part)]
        found = 0
        started = time.thread_time_ns()
        for serial in serials:
            if serial in members:
                found += 1
        took = time.thread_time_ns() - started
        return (took - _empty_loop(serials)) / len(serials), found

    return time_part


def _searchsorted(octets: Any) -> Callable[[list[bytes]], tuple[float, int]]:
    def time_part(part: list[bytes]) -> tuple[float, int]:
        # As numpy gives octets back: without zeros at the end. As all have one length, no two become one.
        serials = [serial.rstrip(b"\0") for serial in part]
        count, found = len(octets), 0
        started = time.thread_time_ns()
        for serial in serials:
            at = octets.searchsorted(serial)
            if at < count and octets[at] == serial:
                found += 1
        took = time.thread_time_ns() - started
        return (took - _empty_loop(serials)) / len(serials), found

    return time_part


def _searchsorted_at_once(numpy: Any, octets: Any) -> Callable[[list[bytes]], tuple[float, int]]:
    def time_part(part: list[bytes]) -> tuple[float, int]:
        serials = numpy.array(part, dtype=octets.dtype)
        started = time.thread_time_ns()
        at = octets.searchsorted(serials)
        found = int((octets[numpy.minimum(at, len(octets) - 1)] == serials).sum())
        return (time.thread_time_ns() - started) / len(part), found

    return time_part
