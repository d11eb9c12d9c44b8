"""From a CRL's bytes to a published table: time and memory, as the control process does it.

Each round is a fresh process that imports what control imports, then verifies
the list, compiles it, and puts the table in force under a state directory.
`python -m bench.compile_figures DIRECTORY` is that process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.build import HERE
from bench.errors import BenchError
from bench.material import Material

ENTRIES = 1_000_000


@dataclass(frozen=True)
class Round:
    """One list made into a table: seconds, and bytes of resident memory."""

    der_bytes: int
    entries: int
    verify_seconds: float
    publish_seconds: float
    idle_bytes: int
    peak_bytes: int


def measure(rounds: int, entries: int = ENTRIES) -> list[Round]:
    """So many fresh processes, one after the other.

    Raises:
        BenchError: the gateway cannot be imported, or refuses the list.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        material = Material.make(Path(name))
        (material.directory / "crl.der").write_bytes(material.crl(entries))
        return [_one_process(material.directory) for _ in range(rounds)]


def _one_process(directory: Path) -> Round:
    command = [sys.executable, "-m", "bench.compile_figures", str(directory)]
    result = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        why = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise BenchError(f"the table could not be made: {why}")
    return Round(**json.loads(result.stdout))


def _status(field: str) -> int:
    """A size of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"/proc/self/status has no {field}")


class _Nobody:
    """Is told of lists and does nothing with it: `gateway.revocation.table.Observer`."""

    def published(self, _coverages: object) -> None:
        """Nobody to tell."""

    def in_force(self, _one: object, _before: object, _succession: object) -> None:
        """Nobody to tell."""

    def left_out(self, _stream: object, _reason: str) -> None:
        """Nobody to tell."""


def _measure_here(directory: Path) -> Round:
    # Only in the measured process: the benchmarks of other servers need no extension.
    import trio  # noqa: PLC0415
    from cryptography import x509  # noqa: PLC0415

    from gateway.revocation.authorities import Authorities  # noqa: PLC0415
    from gateway.revocation.crl import verify_crl  # noqa: PLC0415
    from gateway.revocation.table import Tables  # noqa: PLC0415
    from gateway.store import StateStore  # noqa: PLC0415

    authorities = Authorities([x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())])
    with tempfile.TemporaryDirectory(prefix="bench-state-") as state:
        store = StateStore(Path(state))
        store.prepare()
        tables = Tables(store, authorities, _Nobody())
        # 5 resets the high-water mark (proc(5)): what importing needed is not the list's.
        Path("/proc/self/clear_refs").write_text("5")
        idle = _status("VmRSS")
        der = (directory / "crl.der").read_bytes()
        started = time.perf_counter()
        verified = verify_crl(der, authorities, now=int(time.time()))
        verified_at = time.perf_counter()
        entries = trio.run(tables.install, verified)
        published_at = time.perf_counter()
        return Round(
            der_bytes=len(der),
            entries=entries,
            verify_seconds=verified_at - started,
            publish_seconds=published_at - verified_at,
            idle_bytes=idle,
            peak_bytes=_status("VmHWM"),
        )


if __name__ == "__main__":
    print(json.dumps(_measure_here(Path(sys.argv[1])).__dict__))
