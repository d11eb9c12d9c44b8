"""The story that the demonstration tells, step by step; every step is checked, not only shown."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.demo import client
from gateway.demo.authority import Authority, WebServer
from gateway.demo.client import Device

if TYPE_CHECKING:
    from collections.abc import Callable

_REFRESH = 2
_STOP_TIMEOUT = 10.0

_CONFIG = """\
workers = 2
state_dir = "{directory}/state"
drain_timeout = "1s"

[[listeners]]
name = "demo"
bind = ["127.0.0.1:{port}"]
upstreams = ["127.0.0.1:{broker}"]
certificates = [{{ cert = "{directory}/server.pem", key = "{directory}/server.key" }}]
client_ca = "{directory}/ca.pem"

[listeners.revocation]
crl_urls = ["{web}/ca.crl"]

[listeners.stapling]
enabled = true
responder_url = "{web}/ocsp"
issuer = "{directory}/ca.pem"

[crl_cache]
refresh_interval = "{refresh}s"
"""


class _Story:
    """Tells steps and remembers whether each did what it should."""

    def __init__(self) -> None:
        self.good = True

    def tell(self, line: str) -> None:
        click.echo(f"      {line}")

    def step(self, line: str, outcome: bool, detail: str = "") -> None:
        self.good = self.good and outcome
        mark = click.style("  ok  ", fg="green") if outcome else click.style("FAILED", fg="red")
        click.echo(f"{mark}{line}" + (f" ({detail})" if detail else ""))


def run(*, once: bool, port: int) -> int:
    """Tell the story, then, unless `once`, stay until Ctrl-C; the exit code is 0 if every step was right."""
    # Whoever ends us by SIGTERM wants no gateway left behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    story = _Story()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tls-gateway-demo-")))
        port = port or _free_port()
        try:
            _play(story, stack, directory, port)
        except KeyboardInterrupt:
            return 130
        if once or not story.good:
            return 0 if story.good else 1
        click.echo("\nThe gateway stays up; Ctrl-C ends it.")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            click.echo("")
    return 0


def _play(story: _Story, stack: ExitStack, directory: Path, port: int) -> None:
    authority = Authority()
    web = WebServer(authority)
    stack.callback(web.close)
    authority.write(directory / "ca.pem")
    authority.issue(directory, "server", "localhost", "127.0.0.1")
    device_1 = authority.issue(directory, "device-1", "device-1.example")
    authority.issue(directory, "device-2", "device-2.example")
    story.tell(f"a CA, its CRL on {web.url}/ca.crl, its OCSP responder, three certificates: in {directory}")

    broker = _free_port()
    _start(stack, directory / "broker.log", "-m", "gateway.demo.broker", str(broker))
    story.step(f"an MQTT broker on plain port {broker}", _until(lambda: _accepts(broker)))

    config = directory / "gateway.toml"
    config.write_text(
        _CONFIG.format(directory=directory, port=port, broker=broker, web=web.url, refresh=_REFRESH)
    )
    log = directory / "gateway.log"
    _start(stack, log, "-m", "gateway", "serve", "--config", str(config))
    story.step(
        f"the gateway in front of it on TLS port {port}",
        _until(lambda: " ready " in log.read_text()),
        str(log),
    )
    if not story.good:
        click.echo(log.read_text(), err=True)
        return

    ca, first, second = directory / "ca.pem", directory / "device-1", directory / "device-2"
    listener = Device("listener", broker)
    stack.callback(listener.close)
    story.step("a subscriber at the broker itself", listener.connect() and listener.subscribe("demo/#"))
    device = Device("device-1", port, ca=ca, credential=first)
    stack.callback(device.close)
    story.step("device-1 connects through the gateway with its certificate", device.connect())
    device.publish("demo/device-1", b"hello")
    topic, payload = listener.messages.get(timeout=client.TIMEOUT)
    story.step(
        "device-1 publishes, the broker has the message", payload == b"hello", f"{topic}: {payload.decode()}"
    )

    status, alert = client.look(port, ca, second)
    story.step(
        "the handshake carries an OCSP response for the server", status == "GOOD", f"Cert Status: {status}"
    )

    authority.revoke(device_1)
    story.tell(f"the CA revokes device-1; the gateway fetches the CRL every {_REFRESH} s …")
    story.step("device-1's live connection is closed", device.disconnected.wait(_REFRESH + client.TIMEOUT))
    status, alert = client.look(port, ca, first)
    story.step("device-1 is refused when it comes again", "revoked" in alert, alert or "no alert")
    status, alert = client.look(port, ca, second)
    story.step("device-2 comes in as before", alert == "" and status == "GOOD")
    refusal = next((line for line in log.read_text().splitlines() if "client refused" in line), "")
    story.step("the log says why", "certificate_revoked" in refusal)
    story.tell(refusal)

    click.echo("\nTo try it yourself:")
    connect = f"openssl s_client -connect localhost:{port} -CAfile {ca}"
    publish = f"mosquitto_pub -h localhost -p {port} --cafile {ca}"
    for command in (
        f"{connect} -cert {second}.pem -key {second}.key -status",
        f"{connect} -cert {first}.pem -key {first}.key",
        f"{publish} --cert {second}.pem --key {second}.key -t demo/x -m hi",
        f"curl -s {web.url}/ca.crl | openssl crl -inform der -noout -text",
        f"tail -f {log}",
    ):
        click.echo(f"  {command}")


def _start(stack: ExitStack, log: Path, *arguments: str) -> None:
    """Run a Python module beside us; it ends when the story does."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=output, start_new_session=True
        )

    def stop() -> None:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)


def _until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
