"""One gateway with a listener for each way to set the TLS options, and what `openssl s_client` says of it."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.authority import DAY, NOW, Authority, Revoked
from tests.end_to_end.clients import Echo
from tests.end_to_end.parts import Gateway, free_port, program, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Of the CA below the root, and no list of the root itself.
SUB_LIST = '\nrevocation = {{ crl_urls = ["file://{here}/sub.crl"], follow_distribution_points = false }}'

# A usage of our own.
FLEET = "1.3.6.1.4.1.55555.1"

# Listeners by name: the keys that make each differ from the defaults.
LISTENERS = {
    "default": "",
    "rsa": 'certificates = [{{ cert = "rsa.pem", key = "rsa.key" }}]',
    "only_1.2": 'tls_versions = ["1.2"]',
    "only_1.3": 'tls_versions = ["1.3"]',
    "weak": 'ciphers = ["ECDHE-ECDSA-AES128-SHA256"]',
    "one_cipher": 'ciphers = ["ECDHE-ECDSA-AES256-GCM-SHA384"]\nciphersuites = ["TLS_AES_256_GCM_SHA384"]',
    "one_group": 'groups = ["P-384"]',
    "alpn": 'alpn = ["mqtt", "x-amzn-mqtt-ca"]',
    "no_tickets": "session_tickets = false",
    "short_sessions": 'session_lifetime = "90s"',
    "no_names": "client_ca_names = false",
    "depth_0": "verify_depth = 0",
    "depth_1": "verify_depth = 1",
    "needs_client_auth": 'client_extended_key_usage = ["clientAuth"]',
    "needs_both": f'client_extended_key_usage = ["{FLEET}", "clientAuth"]',
    "needs_it_with_list": (
        'client_extended_key_usage = ["clientAuth"]\nclient_ca = "sub.pem"\ntrust = "intermediate"' + SUB_LIST
    ),
    "rootless": 'client_ca = "sub.pem"',
    "partial": 'client_ca = "sub.pem"\ntrust = "intermediate"',
    "partial_with_list": 'client_ca = "sub.pem"\ntrust = "intermediate"' + SUB_LIST,
    "partial_with_root": 'client_ca = "both.pem"\ntrust = "intermediate"' + SUB_LIST,
    "revoked_anchor": (
        'client_ca = "doomed.pem"\ntrust = "intermediate"\n'
        'revocation = {{ crl_urls = ["file://{here}/doomed.crl", "file://{here}/other.crl"] }}'
    ),
    "full_with_root": 'client_ca = "both.pem"' + SUB_LIST,
}

LISTENER = """
[[listeners]]
name = "{name}"
bind = ["127.0.0.1:{port}"]
upstreams = ["127.0.0.1:{broker}"]
{keys}
"""
ECHOED = "let in, and heard"
# What a listener has that says nothing else of it.
BASE = {
    "certificates": 'certificates = [{ cert = "server.pem", key = "server.key" }]',
    "client_ca": 'client_ca = "ca.pem"',
    "revocation": 'revocation = { check = "off" }',
}


@dataclass
class House:
    """The gateway, where its listeners are, and the files of those who come."""

    directory: Path
    ports: dict[str, int]

    def command(self, listener: str, *options: str, client: str | None = "device") -> list[str]:
        credential = []
        if client is not None:
            pem, key = self.directory / f"{client}.pem", self.directory / f"{client}.key"
            credential = ["-cert", str(pem), "-key", str(key), "-cert_chain", str(pem)]
        return [
            program("openssl"), "s_client", "-connect", f"127.0.0.1:{self.ports[listener]}",
            "-servername", "localhost", "-CAfile", str(self.directory / "ca.pem"), *credential, *options,
        ]  # fmt: skip

    def ask(self, listener: str, *options: str, client: str | None = "device") -> str:
        """What s_client says of a handshake; it leaves at once."""
        done = run(*self.command(listener, *options, client=client), said="Q\n", check=False)
        return done.stdout + done.stderr

    def stay(self, listener: str, *options: str, client: str | None = "device", until: str) -> str:
        """What s_client says until it has said `until`, or until the gateway ends the connection.

        It sends a line, which comes back from the broker.
        """
        said = ""
        with subprocess.Popen(
            # Line by line: to a pipe it would keep its lines to itself.
            ["stdbuf", "-oL", *self.command(listener, *options, client=client)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{ECHOED}\n")
            process.stdin.flush()
            for line in process.stdout:
                said += line
                if until in line:
                    break
            process.kill()
        return said


@contextmanager
def open_house(directory: Path) -> Iterator[House]:
    """Make everybody's files in `directory` and start the gateway."""
    root = Authority.root("Root")
    sub = root.intermediate("Sub")
    low = sub.intermediate("Low")
    (directory / "ca.pem").write_bytes(root.pem)
    (directory / "sub.pem").write_bytes(sub.pem)
    (directory / "both.pem").write_bytes(sub.pem + root.pem)
    revoked = sub.issue("revoked")
    revoked.write(directory, "revoked")
    # Lists count for all listeners: what revokes a CA is of another root.
    other = Authority.root("Other")
    doomed = other.intermediate("Doomed")
    doomed.issue("below-doomed").write(directory, "below-doomed")
    (directory / "doomed.pem").write_bytes(doomed.pem + other.pem)
    (directory / "doomed.crl").write_bytes(doomed.crl())
    (directory / "other.crl").write_bytes(other.crl([Revoked(doomed.serial, reason=2)]))
    (directory / "sub.crl").write_bytes(sub.crl([Revoked(revoked.serial, reason=1)]))
    # Mozilla's modern configuration wants at most 90 days.
    root.issue("server", not_after=NOW + 60 * DAY).write(directory, "server")
    root.issue("server", kind="rsa").write(directory, "rsa")
    root.issue("device").write(directory, "device")
    sub.issue("below-sub").write(directory, "below-sub")
    low.issue("below-low").write(directory, "below-low")
    root.issue("no-usage", usages=()).write(directory, "no-usage")
    sub.issue("no-usage", usages=()).write(directory, "sub-no-usage")
    usages = {
        "of-fleet": [ExtendedKeyUsageOID.CLIENT_AUTH, x509.ObjectIdentifier(FLEET)],
        "nearly-of-fleet": [ExtendedKeyUsageOID.CLIENT_AUTH, x509.ObjectIdentifier(f"{FLEET}.1")],
        "any-usage": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE],
        "server-alone": [ExtendedKeyUsageOID.SERVER_AUTH],
    }
    for name, listed in usages.items():
        root.issue(name, usages=listed).write(directory, name)
    ports = {name: free_port() for name in LISTENERS}
    echo = Echo()
    config = directory / "gateway.toml"
    config.write_text(
        f'workers = 1\nstate_dir = "{directory}/state"\ndrain_timeout = "1s"\n'
        + "".join(
            LISTENER.format(
                name=name,
                port=ports[name],
                broker=echo.port,
                keys="\n".join(
                    [
                        *(line for key, line in BASE.items() if f"{key} = " not in keys),
                        keys.format(here=directory),
                    ]
                ),
            )
            for name, keys in LISTENERS.items()
        )
    )
    try:
        with Gateway(config, ports["default"]):
            yield House(directory, ports)
    finally:
        echo.close()
