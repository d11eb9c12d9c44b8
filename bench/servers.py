"""Starts the servers that are measured; bench/peers says which they are and how each is configured.

A server is started with a CRL or none, is up when a whole round trip through it has
succeeded, and is ended by SIGTERM. With one worker it has one processor; with more it
has all that this process may use.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError
from bench.loadgen import pinned
from bench.peers import Kind, fill, kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.material import Material

__all__ = ["Kind", "Server", "Site", "Source", "kinds", "running"]

# Long enough for a peer to parse ten million entries, and for a handshake that reads as many.
START_TIMEOUT = 300.0
_PROBE_TIMEOUT = 60.0
_RETRY = 0.01
_STOP_TIMEOUT = 15.0
# Linux gives outgoing connections ports from 32768 on (ip_local_port_range).
_PORTS = (10_000, 32_000)
# The kernel chooses which of several workers is probed: so many in a row, for each, find all of them.
_PROBES_PER_WORKER = 8

# Enough for 10,000 connections and the broker's side of them. Not more than that is allowed to a
# server: some allocate a place for each descriptor they may have.
_MOST_CONNECTIONS = 10_000
_MOST_DESCRIPTORS = 24_000
_DESCRIPTORS_FOR_THE_REST = 500


@dataclass(frozen=True)
class Site:
    """Where servers are started: their files, the service behind them, their processor and the load's."""

    material: Material
    load: Path
    broker_port: int
    server_cpu: int
    load_cpu: int


@dataclass(frozen=True)
class Source:
    """Where a server that fetches its list does so, and where it keeps it.

    Without `url` that is the CRL's file; without `state` a new directory. One that is given is
    made if need be and stays: the next server finds in it what this one has fetched. With
    `responder` it demands the word of an OCSP responder besides.
    """

    url: str = ""
    refresh_interval: str = "15m"
    state: Path | None = None
    responder: str = ""


@dataclass(frozen=True)
class Server:
    """A server that is up; `start_seconds` are from its start until the first client was served."""

    kind: str
    entries: int | None
    pid: int
    port: int
    start_seconds: float


@contextmanager
def running(
    kind: Kind,
    site: Site,
    directory: Path,
    *,
    crl: Path | None,
    entries: int | None,
    workers: int = 1,
    source: Source | None = None,
    timeout: float = START_TIMEOUT,
) -> Iterator[Server]:
    """Start a server in `directory`, which is made; wait at most `timeout` seconds until it serves; stop it.

    Raises:
        BenchError: it cannot do what is asked, or does not serve; the end of its log is in the message.
    """
    wanted = source or Source()
    has_crl = crl is not None or wanted.url != ""
    if has_crl and not kind.crl:
        raise BenchError(f"{kind.name} cannot check a CRL")
    if source is not None and not kind.fetches:
        raise BenchError(f"{kind.name} cannot fetch a CRL")
    if kind.most_entries is not None and (entries or 0) > kind.most_entries:
        raise BenchError(f"{kind.name} is left out above {kind.most_entries:,} entries: {kind.note}")
    directory.mkdir(parents=True)
    port = _free_port()
    values = _values(site, directory, port, workers) | _list_values(wanted, crl, directory)
    command, environment = fill(kind, directory, values, crl=has_crl)
    log = directory / "log"
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            _placed(command, site.server_cpu, workers),
            cwd=Path(__file__).resolve().parent.parent,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        served = _wait_until_serving(process, site.material, port, log, workers, started + timeout)
        yield Server(kind.name, entries, process.pid, port, served - started)
    finally:
        _stop(process)


def _values(site: Site, directory: Path, port: int, workers: int) -> dict[str, str]:
    material = site.material
    descriptors = _descriptors()
    values: dict[str, str | int | Path] = {
        "directory": directory,
        "port": port,
        "broker_port": site.broker_port,
        "workers": workers,
        "descriptors": descriptors,
        "connections": min(_MOST_CONNECTIONS, (descriptors - _DESCRIPTORS_FOR_THE_REST) // 2),
        "ca": material.ca,
        "server_cert": material.server_cert,
        "server_key": material.server_key,
        "user": "nobody",
    }
    return {name: str(value) for name, value in values.items()}


def _list_values(source: Source, crl: Path | None, directory: Path) -> dict[str, str]:
    state = source.state or directory / "state"
    state.mkdir(parents=True, exist_ok=True)
    return {
        "crl": str(crl or ""),
        "crl_url": source.url or (crl.as_uri() if crl is not None else ""),
        "refresh_interval": source.refresh_interval,
        "ocsp": f'ocsp = "require"\nocsp_responder_url = "{source.responder}"' if source.responder else "",
        "state": str(state),
    }


def _descriptors() -> int:
    return min(_MOST_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _placed(command: list[str], cpu: int, workers: int) -> list[str]:
    """`command` where it is to run.

    With all the descriptors it is to have, for not every server raises its own limit; and ended when this
    process is killed, which cannot stop it then.
    """
    for tool in ("prlimit", "setpriv"):
        if shutil.which(tool) is None:
            raise BenchError(f"{tool} is missing; on Debian: apt-get install util-linux")
    limits = ["prlimit", f"--nofile={_descriptors()}:{_descriptors()}", "setpriv", "--pdeathsig", "TERM"]
    return pinned(cpu, [*limits, *command]) if workers == 1 else [*limits, *command]


def _wait_until_serving(
    process: subprocess.Popen[bytes], material: Material, port: int, log: Path, workers: int, give_up: float
) -> float:
    """Return when the first client was served, after every worker has served one."""
    wanted = 1 if workers == 1 else _PROBES_PER_WORKER * workers
    context = ssl.create_default_context(cafile=material.ca)
    context.load_cert_chain(material.client_cert, material.client_key)
    first, in_a_row, why = 0.0, 0, "no connection was tried"
    while in_a_row < wanted:
        if process.poll() is not None:
            raise BenchError(f"{log.parent.name} ended with {process.returncode}:\n{_tail(log)}")
        if time.monotonic() > give_up:
            raise BenchError(f"{log.parent.name} does not serve ({why}):\n{_tail(log)}")
        try:
            _probe(context, port)
        except (OSError, EOFError) as exc:
            in_a_row, why = 0, str(exc)
            time.sleep(_RETRY)
        else:
            first = first or time.monotonic()
            in_a_row += 1
    return first


def _probe(context: ssl.SSLContext, port: int) -> None:
    """One client with one byte that comes back.

    Raises:
        OSError: it could not connect, or was refused.
        EOFError: it was not answered.
    """
    with socket.create_connection(("127.0.0.1", port), _PROBE_TIMEOUT) as plain:
        # Ours must not wait for an acknowledgement, which some servers send with their first bytes only.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"?")
            if client.recv(1) != b"?":
                raise EOFError("closed without an answer")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server, and what it may leave behind in its process group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_TIMEOUT)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    """A port that no outgoing connection takes while the server reads its CRL before it listens."""
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
