"""The servers that are measured, each with one worker on one processor.

A server is started with a CRL or none, is up when a whole round trip through it
has succeeded, and is ended by SIGTERM.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.build import HERE
from bench.errors import BenchError
from bench.loadgen import Load, pinned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.material import Material

# Long enough for a peer to parse a million entries; each connection to it is tried for less.
_START_TIMEOUT = 60.0
_RETRY = 0.2
_STOP_TIMEOUT = 15.0


@dataclass(frozen=True)
class Site:
    """Where servers are started: their files, the service behind them, their processor and the load's."""

    material: Material
    load: Path
    broker_port: int
    server_cpu: int
    load_cpu: int


@dataclass(frozen=True)
class Job:
    """One server to start: where it listens, and the CRL (PEM) that it has to enforce."""

    directory: Path
    port: int
    crl: Path | None


@dataclass(frozen=True)
class Kind:
    """A program that can stand in front of a broker.

    `missing` says how to get it, empty where it is there; `command` writes what
    it needs into the job's directory and returns what to run, and in which environment.
    """

    name: str
    missing: str
    command: Callable[[Site, Job], tuple[list[str], dict[str, str]]]


@dataclass(frozen=True)
class Server:
    """A server that is up."""

    kind: str
    entries: int | None
    pid: int
    port: int


def _haproxy(site: Site, job: Job) -> tuple[list[str], dict[str, str]]:
    environment = {
        "PORT": str(job.port),
        "BROKER_PORT": str(site.broker_port),
        "MATERIAL": str(site.material.directory),
    }
    if job.crl is not None:
        environment["CRL_FILE"] = str(job.crl)
    return ["haproxy", "-db", "-f", str(HERE / "peers" / "haproxy.cfg")], environment


_GATEWAY_TOML = """\
workers = 1
state_dir = "{state}"

[log]
level = "warning"

[[listeners]]
name = "bench"
bind = ["127.0.0.1:{port}"]
upstreams = ["127.0.0.1:{broker_port}"]
certificates = [{{ cert = "{cert}", key = "{key}" }}]
client_ca = "{ca}"
verify = "required"

[listeners.revocation]
{revocation}
follow_distribution_points = false
"""


def _gateway(site: Site, job: Job) -> tuple[list[str], dict[str, str]]:
    material = site.material
    text = _GATEWAY_TOML.format(
        state=job.directory / "state",
        port=job.port,
        broker_port=site.broker_port,
        cert=material.server_cert,
        key=material.server_key,
        ca=material.ca,
        revocation='check = "off"' if job.crl is None else f'crl_urls = ["{job.crl.as_uri()}"]',
    )
    (job.directory / "state").mkdir()
    config = job.directory / "gateway.toml"
    config.write_text(text)
    return [sys.executable, "-m", "gateway", "serve", "--config", str(config)], {}


def kinds() -> list[Kind]:
    """Every program that is compared, ours first."""
    missing = "" if shutil.which("haproxy") else "apt-get install haproxy"
    return [Kind("gateway", _gateway_missing(), _gateway), Kind("haproxy", missing, _haproxy)]


def _gateway_missing() -> str:
    command = [sys.executable, "-c", "import gateway.supervisor"]
    probe = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    if probe.returncode == 0:
        return ""
    last = (probe.stderr.strip().splitlines() or ["no message"])[-1]
    return f"build the extension and install the requirements (pip install -e .): {last}"


@contextmanager
def running(
    kind: Kind, site: Site, directory: Path, *, crl: Path | None, entries: int | None
) -> Iterator[Server]:
    """Start a server, wait until it serves, and stop it at the end.

    Raises:
        BenchError: it does not serve; its log is named.
    """
    directory.mkdir(parents=True)
    job = Job(directory, _free_port(), crl)
    command, environment = kind.command(site, job)
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned(site.server_cpu, command),
            cwd=HERE.parent,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_serving(process, site, job.port, log)
            yield Server(kind.name, entries, process.pid, job.port)
        finally:
            _stop(process)


def _wait_until_serving(process: subprocess.Popen[bytes], site: Site, port: int, log: Path) -> None:
    give_up = time.monotonic() + _START_TIMEOUT
    why = "no connection was tried"
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise BenchError(f"{log.parent.name} ended with {process.returncode}:\n{_tail(log)}")
        with Load(site.load, site.material, site.load_cpu, port, "handshakes", connections=1) as load:
            result = load.run()
        if result.done == 1:
            return
        why = ", ".join(result.failed)
        time.sleep(_RETRY)
    raise BenchError(f"{log.parent.name} does not serve ({why}):\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
