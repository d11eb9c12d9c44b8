"""The real parts: an `openssl ca`, a web server, `openssl ocsp`, mosquitto, and the gateway itself.

Each is a context manager that ends what it started. Waiting is always for an
event that can be seen (a log line, a port, an exit), bounded by TIMEOUT.
"""

from __future__ import annotations

import functools
import getpass
import http.server
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TIMEOUT = 30.0
_STEP = 0.02

_PACKAGES = {
    "openssl": "openssl",
    "mosquitto": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
    "mosquitto_sub": "mosquitto-clients",
    "haproxy": "haproxy",
    "nginx": "nginx",
    "stunnel": "stunnel4",
    "systemd-analyze": "systemd",
    "logrotate": "logrotate",
    "promtool": "prometheus",
}


def program(name: str) -> str:
    """The path of a program; without it the test is skipped with a hint, and fails where CI=true."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        missing(_PACKAGES[name])
    return path


def missing(package: str) -> NoReturn:
    """Skip the test with what to install, or fail it where CI=true."""
    message = f"a program is missing: apt-get install {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def run(*command: str | Path, said: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with `said` on its standard input; its output is text."""
    found = [program(str(command[0])), *map(str, command[1:])]
    done = subprocess.run(
        found, input=said, capture_output=True, text=True, timeout=TIMEOUT, check=False, errors="replace"
    )
    assert not check or done.returncode == 0, f"{found}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until `condition` holds; a failure names `what` was waited for."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"waited {TIMEOUT:.0f} s for {what}"
        time.sleep(_STEP)


# Below the ports that the kernel hands out for connections, and apart for each process of
# a parallel run: nobody takes a port between its choice and its use.
_PORTS = itertools.count(20_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))


def free_port() -> int:
    """A loopback port that nobody listens on."""
    for port in _PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError


def accepts(port: int) -> bool:
    """Whether somebody listens on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


_CA_CONFIG = """\
[ca]
default_ca = default
[default]
dir = {directory}
database = $dir/index.txt
new_certs_dir = $dir/issued
certificate = $dir/ca.pem
private_key = $dir/ca.key
serial = $dir/serial
crlnumber = $dir/crlnumber
default_md = sha256
default_days = 30
default_crl_days = 1
policy = anything
unique_subject = no
[anything]
commonName = supplied
[server]
basicConstraints = CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
extendedKeyUsage = serverAuth
[client]
basicConstraints = CA:FALSE
extendedKeyUsage = clientAuth
[ocsp]
basicConstraints = CA:FALSE
extendedKeyUsage = OCSPSigning
noCheck = ignored
[req]
distinguished_name = name
prompt = no
[name]
commonName = unused
"""


class OpensslCa:
    """A CA as EMQX's page makes it: `openssl ca` with index.txt, `-gencrl`, `-revoke`."""

    def __init__(self, directory: Path, name: str = "Test Fleet CA") -> None:
        self.directory = directory
        (directory / "issued").mkdir(parents=True)
        (directory / "web").mkdir()
        (directory / "index.txt").touch()
        (directory / "serial").write_text("1000\n")
        (directory / "crlnumber").write_text("01\n")
        config = _CA_CONFIG.format(directory=directory)
        (directory / "openssl.cnf").write_text(config)
        self._key("ca")
        run(
            "openssl", "req", "-x509", "-key", self.key("ca"), "-subj", f"/CN={name}", "-days", "30",
            "-out", self.cert("ca"), "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        self.publish()

    def cert(self, stem: str) -> Path:
        """Where a certificate is."""
        return self.directory / f"{stem}.pem"

    def key(self, stem: str) -> Path:
        """Where its private key is."""
        return self.directory / f"{stem}.key"

    @property
    def web(self) -> Path:
        """What the web server serves: ca.crl and whatever a test puts there."""
        return self.directory / "web"

    def issue(self, stem: str, section: str = "client") -> str:
        """Issue a certificate; returns its serial as openssl prints it."""
        request = self.directory / f"{stem}.csr"
        self._key(stem)
        run("openssl", "req", "-new", "-key", self.key(stem), "-subj", f"/CN={stem}", "-out", request)
        self._ca("-in", request, "-out", self.cert(stem), "-extensions", section, "-notext")
        return (
            run("openssl", "x509", "-in", self.cert(stem), "-noout", "-serial")
            .stdout.strip()
            .partition("=")[2]
        )

    def revoke(self, stem: str, reason: str = "keyCompromise") -> None:
        """Revoke a certificate; clients learn of it from the next `publish`."""
        self._ca("-revoke", self.cert(stem), "-crl_reason", reason)

    def publish(self) -> None:
        """Generate the CRL and put it on the web, in DER, in one step."""
        pem, der = self.directory / "new.pem", self.directory / "new.crl"
        self._ca("-gencrl", "-out", pem)
        run("openssl", "crl", "-in", pem, "-outform", "DER", "-out", der)
        der.rename(self.web / "ca.crl")

    def _key(self, stem: str) -> None:
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key(stem))

    def _ca(self, *arguments: str | Path) -> None:
        run("openssl", "ca", "-config", self.directory / "openssl.cnf", "-batch", *arguments)


class Served:
    """An HTTP server on a free loopback port."""

    def __init__(self, handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        """Without a path."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Web(Served):
    """A plain web server for a directory."""

    def __init__(self, directory: Path) -> None:
        web = self
        self.requests = 0

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                web.requests += 1

        super().__init__(functools.partial(Quiet, directory=str(directory)))


class Process:
    """A program of ours, its output in a file; it is ended on leaving, and killed if it does not end."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, stop: signal.Signals = signal.SIGTERM
    ) -> None:
        self._command = [str(part) for part in command]
        self.log_file = log
        self._stop = stop
        self._pass_fds: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        with self.log_file.open("wb") as output:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=self._pass_fds,
            )
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(self._stop)
            try:
                self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def log(self) -> str:
        """All that it has said."""
        return self.log_file.read_text(errors="replace")

    def lines(self, *parts: str) -> list[str]:
        """The lines of its log that contain all `parts`."""
        return [line for line in self.log.splitlines() if all(part in line for part in parts)]

    def wait_for(self, *parts: str, count: int = 1) -> list[str]:
        """Wait for `count` lines with all `parts`; returns them."""
        try:
            until(
                lambda: len(self.lines(*parts)) >= count or self.process.poll() is not None,
                f"{count} lines with {parts}",
            )
        except AssertionError as exc:
            raise AssertionError(f"{exc}; the log is:\n{self.log}") from exc
        found = self.lines(*parts)
        assert len(found) >= count, f"it ended without {count} lines with {parts}:\n{self.log}"
        return found


class Mosquitto(Process):
    """mosquitto on a loopback port, in plain TCP unless `options` say otherwise."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        config = directory / "mosquitto.conf"
        lines = (f"listener {self.port} 127.0.0.1", "allow_anonymous true", f"user {_user()}", *options)
        config.write_text("".join(f"{line}\n" for line in lines))
        super().__init__([program("mosquitto"), "-c", config], directory / "mosquitto.log")

    def __enter__(self) -> Self:
        super().__enter__()
        until(lambda: accepts(self.port), "mosquitto to listen")
        return self


class OcspResponder(Process):
    """`openssl ocsp` answering for a CA, signed with the certificate `signer`."""

    def __init__(self, ca: OpensslCa, *, signer: str = "ocsp", port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command: list[str | Path] = [
            program("openssl"), "ocsp", "-index", ca.directory / "index.txt", "-port", str(self.port),
            "-CA", ca.cert("ca"), "-rsigner", ca.cert(signer), "-rkey", ca.key(signer), "-nmin", "10",
        ]  # fmt: skip
        super().__init__(command, ca.directory / "ocsp.log")

    def __enter__(self) -> Self:
        super().__enter__()
        # No probing: it would wait for the probe's request.
        self.wait_for("waiting for OCSP client connections")
        return self


class Gateway(Process):
    """`tls-gateway serve` on a configuration file, in a process group of its own."""

    def __init__(self, config: Path, port: int) -> None:
        self.port = port
        self.config = config
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
        super().__init__(command, config.with_suffix(".log"))

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.wait_for(" ready ")
        except BaseException:
            self.__exit__()
            raise
        return self

    def children(self) -> dict[str, int]:
        """Process ids by the name that the kernel shows: gw-control, gw-worker-N."""
        roles = {}
        for pid in self.pids():
            # Some may end while they are counted.
            with suppress(FileNotFoundError, ProcessLookupError):
                roles[(Path("/proc") / str(pid) / "comm").read_text().strip()] = pid
        return roles

    def pids(self) -> list[int]:
        """Those of all generations, whose workers have the same names."""
        return list(_children(self.process.pid))


def s_client(port: int, ca: OpensslCa, stem: str | None, *options: str | Path) -> str:
    """What `openssl s_client` says of a handshake, with the client certificate `stem`; it leaves at once."""
    return run(*_s_client(port, ca, stem), *options, said="Q\n", check=False).stdout


def refused(port: int, ca: OpensslCa, stem: str | None, *options: str | Path) -> str:
    """What `openssl s_client` says when it stays until the gateway ends the connection.

    In TLS 1.3 the verdict on a client's certificate comes after the client's handshake is over.
    """
    command = [program("openssl"), *map(str, (*_s_client(port, ca, stem)[1:], *options))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as client:
        try:
            client.wait(TIMEOUT)
        finally:
            client.kill()
        assert client.stdout is not None
        return client.stdout.read()


def until_revoked(port: int, ca: OpensslCa, stem: str, *options: str | Path) -> None:
    """Wait until the client is told that it is revoked: each worker hears of a list in its own time."""
    until(
        lambda: all("alert certificate revoked" in refused(port, ca, stem, *options) for _ in range(4)),
        f"all workers to refuse {stem}",
    )


def _s_client(port: int, ca: OpensslCa, stem: str | None) -> list[str | Path]:
    credential: list[str | Path] = ["-cert", ca.cert(stem), "-key", ca.key(stem)] if stem else []
    return [
        "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost",
        "-CAfile", ca.cert("ca"), *credential,
    ]  # fmt: skip


def publish(
    port: int, ca: OpensslCa, stem: str, topic: str, message: str, *options: str, trust: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`mosquitto_pub` through the gateway, whose certificate is of `trust`, or of `ca`."""
    return run(
        "mosquitto_pub", "-h", "localhost", "-p", str(port), "--cafile", trust or ca.cert("ca"),
        "--cert", ca.cert(stem), "--key", ca.key(stem), "-t", topic, "-m", message,
        "-q", "1", "-i", f"{stem}-pub", *options, check=False,
    )  # fmt: skip


def subscriber(port: int, topic: str, log: Path) -> Process:
    """`mosquitto_sub` on the broker's plain port, its output in `log`."""
    # Line by line: to a file it would keep its lines to itself until it ends.
    return Process(["stdbuf", "-oL", program("mosquitto_sub"), "-p", str(port), "-t", topic, "-v", "-d"], log)


def _children(pid: int) -> Iterator[int]:
    for task in (Path("/proc") / str(pid) / "task").iterdir():
        yield from map(int, (task / "children").read_text().split())


def _user() -> str:
    return getpass.getuser()
