"""A gateway before an echoing broker: its configuration, processes, reload, and a storm of its clients."""

from __future__ import annotations

import json
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.end_to_end.clients import echoes, tls_context
from tests.end_to_end.parts import TIMEOUT, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.authority import Authority
    from tests.end_to_end.parts import Gateway, OpensslCa, Web

CONFIG = """\
workers = {workers}
state_dir = "{directory}/state"
drain_timeout = "{drain}"
{extra}

[[listeners]]
name = "front"
bind = ["127.0.0.1:{port}"]
upstreams = ["127.0.0.1:{broker}"]
certificates = [{{ cert = "{ca.directory}/server.pem", key = "{ca.directory}/server.key" }}]
client_ca = "{ca.directory}/ca.pem"
{listener}

[listeners.revocation]
crl_urls = ["{web}/ca.crl"]
{revocation}

[crl_cache]
refresh_interval = "1s"
"""


def configure(
    directory: Path, ca: OpensslCa, web: Web, broker: int, *, workers: int = 2, drain: str = "1s",
    extra: str = "", listener: str = "", revocation: str = "",
) -> tuple[Path, int]:  # fmt: skip
    port = free_port()
    path = directory / "gateway.toml"
    path.write_text(
        CONFIG.format(
            workers=workers, directory=directory, drain=drain, extra=extra, port=port, broker=broker, ca=ca,
            listener=listener, web=web.url, revocation=revocation,
        )
    )  # fmt: skip
    return path, port


_LISTS = """\
workers = {workers}
state_dir = "{directory}/state"

[[listeners]]
name = "front"
bind = ["127.0.0.1:{port}"]
upstreams = ["127.0.0.1:{broker}"]
certificates = [{{ cert = "server.pem", key = "server.key" }}]
client_ca = "ca.pem"

[listeners.revocation]
crl_urls = {urls}

[crl_cache]
refresh_interval = "1s"
{cache}
"""


def furnish(
    directory: Path, root: Authority, broker: int, urls: Sequence[str], *, workers: int = 2, cache: str = ""
) -> tuple[Path, int]:
    """The configuration and port of a gateway whose certificate and clients are of `root`."""
    root.issue("localhost").write(directory, "server")
    (directory / "ca.pem").write_bytes(root.pem)
    port, path = free_port(), directory / "gateway.toml"
    path.write_text(
        _LISTS.format(
            workers=workers, directory=directory, port=port, broker=broker, urls=json.dumps(urls), cache=cache
        )
    )
    return path, port


def workers_of(gateway: Gateway) -> dict[str, int]:
    return {name: pid for name, pid in gateway.children().items() if name.startswith("gw-worker")}


def has_ended(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def edit(config: Path, before: str, after: str) -> None:
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))


def reload(gateway: Gateway) -> None:
    """Have it reload, and wait until the workers of the new generation accept alone."""
    count = len(gateway.lines(" reloaded "))
    gateway.process.send_signal(signal.SIGHUP)
    gateway.wait_for(" reloaded ", count=count + 1)


class Manager:
    """The end of NOTIFY_SOCKET that systemd has."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(TIMEOUT)

    def hears(self, first: str) -> list[str]:
        """Wait for the message that begins with `first`, and return its other lines."""
        while True:
            lines = self._socket.recv(4096).decode().split("\n")
            if lines[0] == first:
                return lines[1:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()


class Storm:
    """Clients that come one after the other, each with a handshake and an echo, from several threads."""

    def __init__(self, port: int, ca: OpensslCa, threads: int = 4) -> None:
        self._port = port
        self._context = tls_context(ca)
        self._over = threading.Event()
        self.served = 0
        self.faults: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with (
                    socket.create_connection(("127.0.0.1", self._port), TIMEOUT) as plain,
                    self._context.wrap_socket(plain, server_hostname="localhost") as connection,
                ):
                    assert echoes(connection)
                self.served += 1
            except (OSError, AssertionError) as exc:
                self.faults.append(repr(exc))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(TIMEOUT)
