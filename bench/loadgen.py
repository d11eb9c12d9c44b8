"""Runs the load generator and the echo service, on the processor that is not the servers'.

`Load` is one run of bench/load: it prepares when it is entered, runs when told,
and gives its result. See load_options.c for what each argument means.
"""

from __future__ import annotations

import json
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

Mode = Literal["handshakes", "echo", "idle"]


@dataclass(frozen=True)
class Result:
    """The generator's result line; latencies in µs."""

    done: int
    resumed: int
    failed: dict[str, int]
    seconds: float
    load_was_limit: bool
    latency_us: dict[str, float]

    @classmethod
    def from_line(cls, line: str) -> Result:
        """Decode one line of JSON."""
        raw: dict[str, Any] = json.loads(line)
        return cls(**{name: raw[name] for name in cls.__dataclass_fields__})


def pinned(cpu: int, command: list[str]) -> list[str]:
    """`command`, bound to one processor."""
    return ["taskset", "--cpu-list", str(cpu), *command]


class Load:
    """One run against `port` of this machine: ready once entered; `run` starts it and waits for the end."""

    def __init__(
        self,
        program: Path,
        material: Material,
        cpu: int,
        port: int,
        mode: Mode,
        *,
        connections: int,
        count: int = 1,
        size: int = 1,
    ) -> None:
        command = [str(program), mode, "--connect", f"127.0.0.1:{port}", "--ca", str(material.ca)]
        command += ["--cert", str(material.client_cert), "--key", str(material.client_key), "--tls", "1.3"]
        command += ["--connections", str(connections), "--count", str(count), "--bytes", str(size)]
        self._wanted = 0 if mode == "handshakes" else connections
        self._process = subprocess.Popen(
            pinned(cpu, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        """Wait until the connections that stay are up.

        Raises:
            BenchError: some are not.
        """
        try:
            ready = json.loads(self._line())
        except BaseException:
            self.__exit__()
            raise
        if ready["ready"] != self._wanted:
            self.__exit__()
            raise BenchError(f"{ready['ready']} of {self._wanted} connections came up: {ready['failed']}")
        return self

    def run(self) -> Result:
        """Start, and wait for the result; for idle connections this ends them.

        Raises:
            BenchError: the generator died.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        return Result.from_line(self._line())

    def __exit__(self, *_exc: object) -> None:
        _end(self._process)

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the load generator ended with {self._process.wait()}; its message is above")
        return line


@contextmanager
def echo_service(programs: Programs, cpu: int) -> Iterator[int]:
    """The broker's stand-in on a free port, which is the value."""
    command = pinned(cpu, [str(programs.echo), "0"])
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait()
    streams: tuple[IO[str] | None, ...] = (process.stdin, process.stdout)
    for stream in streams:
        if stream is not None and not stream.closed:
            stream.close()
