"""Runs the load generator and the echo service, on the processor that is not the servers'.

A `Plan` says what one run of bench/load does; `Load` prepares it when it is
entered, starts it when told, and gives its `Result`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.build import Programs
    from bench.material import Material

Mode = Literal["handshakes", "echo", "idle", "storm"]

# A generator that was told to end closes its connections first.
_END_TIMEOUT = 15.0


@dataclass(frozen=True)
class Plan:
    """One run of the generator; load_options.c says what may go with what.

    handshakes: connect, handshake, one round trip, close, and again. echo: round
    trips over connections that stay. idle: connections that stay, until `wait`.
    storm: all connections at once, one round trip each; over when all are served.
    """

    mode: Mode
    connections: int = 1
    """At the same time; in an open loop the most that may be in use."""
    count: int = 0
    """Stop after so many (0: no bound)."""
    seconds: float = 0.0
    """Stop after so long (0: no bound); in an open loop, when all that were due by then have ended."""
    rate: float = 0.0
    """Arrivals a second, latency from when each was due; 0: closed loop."""
    size: int = 1
    """Octets in a round trip."""
    tls: Literal["1.2", "1.3"] = "1.3"
    resume: bool = False
    clients: int = 1
    """So many distinct client certificates, taken in turn."""
    revoked_share: float = 0.0
    """This share of the arrivals is a revoked client, and must be refused with alert 44."""
    revoked: bool = False
    """All are clients of the revoked set, in turn; nothing is expected of that."""
    until_closed: bool = False
    """idle: run until the server has closed every connection; latencies are those of the closings."""
    timeout: float = 10.0
    """One handshake or round trip, or all of `until_closed`, fails after so many seconds."""

    @property
    def prepared(self) -> int:
        """How many connections have to be up, or sessions to be there, before the run."""
        stays = self.mode in ("echo", "idle") or (self.mode == "handshakes" and self.resume)
        return self.connections if stays else 0


@dataclass(frozen=True)
class LoadSite:
    """Where load comes from: the program, its keys, its processor."""

    program: Path
    material: Material
    cpu: int


@dataclass(frozen=True)
class Result:
    """The generator's result line; latencies in µs, p50, p90, p99, p99.9 and max."""

    done: int
    resumed: int
    refused: int
    failed: dict[str, int]
    seconds: float
    cpu_seconds: float
    load_was_limit: bool
    """The generator had no CPU or port left: latencies and rate are its own, not the server's."""
    late: int
    """Arrivals of an open loop that began more than 1 ms after they were due."""
    late_no_slot: int
    """Of those, how many because every connection was in use."""
    latency_us: dict[str, float]
    refused_latency_us: dict[str, float]

    @classmethod
    def from_line(cls, line: str) -> Result:
        """Decode one line of JSON."""
        raw: dict[str, Any] = json.loads(line)
        return cls(**{name: raw[name] for name in cls.__dataclass_fields__})


def pinned(cpu: int, command: list[str]) -> list[str]:
    """`command`, bound to one processor.

    Raises:
        BenchError: there is no taskset.
    """
    if shutil.which("taskset") is None:
        raise BenchError("taskset is missing; on Debian: apt-get install util-linux")
    return ["taskset", "--cpu-list", str(cpu), *command]


class Load:
    """One run against `port` of this machine."""

    def __init__(self, site: LoadSite, port: int, plan: Plan) -> None:
        self._plan = plan
        self._process = subprocess.Popen(
            pinned(site.cpu, _command(site, port, plan)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        """Wait until the connections that stay are up, and sessions to resume are there.

        Raises:
            BenchError: some are not.
        """
        try:
            self._insist(json.loads(self._line()))
        except BaseException:
            self.__exit__()
            raise
        return self

    @property
    def pid(self) -> int:
        """The generator's process."""
        return self._process.pid

    def start(self) -> None:
        """Start the run; idle connections, unless they are held until the server closes them, end with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> Result:
        """The result, when the run has ended.

        Raises:
            BenchError: the generator died.
        """
        return Result.from_line(self._line())

    def run(self) -> Result:
        """Start, and wait for the result.

        Raises:
            BenchError: as `wait`.
        """
        self.start()
        return self.wait()

    def __exit__(self, *_exc: object) -> None:
        _end(self._process)

    def _insist(self, ready: dict[str, Any]) -> None:
        wanted = self._plan.prepared
        if ready["ready"] != wanted:
            raise BenchError(f"{ready['ready']} of {wanted} connections came up: {ready['failed']}")

    def _line(self) -> str:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.readline().strip()
            raise BenchError(f"the load generator ended with {self._process.wait()}: {said or 'no message'}")
        return line


def _command(site: LoadSite, port: int, plan: Plan) -> list[str]:
    material = site.material
    values = {
        "connect": f"127.0.0.1:{port}",
        "ca": material.ca,
        "tls": plan.tls,
        "connections": plan.connections,
        "bytes": plan.size,
        "timeout": plan.timeout,
        # 0 is "not given" for these; the generator takes it for a mistake.
        "count": plan.count or None,
        "seconds": plan.seconds or None,
        "rate": plan.rate or None,
    }
    if plan.revoked:
        values["clients"] = material.revoked
    elif plan.clients > 1:
        values["clients"] = material.many_clients(plan.clients)
    else:
        values |= {"cert": material.client_cert, "key": material.client_key}
    if plan.revoked_share:
        values |= {"revoked-clients": material.revoked, "revoked-share": plan.revoked_share}
    flags = {"resume": plan.resume, "until-closed": plan.until_closed}
    return [
        str(site.program),
        plan.mode,
        *(part for name, value in values.items() if value is not None for part in (f"--{name}", str(value))),
        *(f"--{name}" for name, given in flags.items() if given),
    ]


@contextmanager
def echo_service(programs: Programs, cpu: int) -> Iterator[int]:
    """The broker's stand-in on a free port, which is the value.

    Raises:
        BenchError: it does not start.
    """
    command = pinned(cpu, [str(programs.echo), "0"])
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        port = process.stdout.readline()
        if not port:
            raise BenchError(f"the echo service ended: {process.stderr.readline().strip()}")
        yield int(port)
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    streams: tuple[IO[str] | None, ...] = (process.stdin, process.stdout, process.stderr)
    for stream in streams:
        if stream is not None and not stream.closed:
            stream.close()
