"""Which certificate, chain and staple a running gateway gives, by name and by what the client can verify."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509 import ocsp

from bench.responder import answering
from tests.authority import Authority, Credential
from tests.end_to_end.clients import Echo, echoes
from tests.end_to_end.parts import TIMEOUT, Gateway, Served, free_port, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.authority import KeyKind

RSA_ALONE = ("-sigalgs", "RSA-PSS+SHA256:RSA+SHA256")
ECDSA_ALONE = ("-sigalgs", "ECDSA+SHA256")
VERSIONS = {"-tls1_2": ssl.TLSVersion.TLSv1_2, "-tls1_3": ssl.TLSVersion.TLSv1_3}


class Responder(Served):
    """Answers for what it knows."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Authority, Credential]] = {}
        super().__init__(answering(self._answer))

    def _answer(self, request: bytes) -> bytes:
        ca, credential = self.known[ocsp.load_der_ocsp_request(request).serial_number]
        return ca.ocsp(credential.cert)


class Fleet:
    """A gateway with four certificates, each of an intermediate CA of its own, at a door for everybody.

    At `inner`, another of its doors, a client certificate is required.
    """

    def __init__(self, directory: Path, broker: int, responder: Responder) -> None:
        self.directory = directory
        self.root = Authority.root("Fleet Root")
        self.port, self.inner = free_port(), free_port()
        self.credentials = {
            "first": self.issue(responder, "first", "ec", "first.example"),
            "twin": self.issue(responder, "twin", "ec", "twin.example"),
            "twin-rsa": self.issue(responder, "twin-rsa", "rsa", "twin.example"),
            "wild": self.issue(responder, "wild", "ec", "*.wild.example"),
        }
        (directory / "root.pem").write_bytes(self.root.pem)
        pairs = ", ".join(f'{{ cert = "{stem}.pem", key = "{stem}.key" }}' for stem in self.credentials)
        listeners = [
            f"""
[[listeners]]
name = "{name}"
bind = ["127.0.0.1:{port}"]
upstreams = ["127.0.0.1:{broker}"]
certificates = [{pairs}]
client_ca = "root.pem"
verify = "{verify}"

[listeners.revocation]
check = "off"

[listeners.stapling]
enabled = true
"""
            for name, port, verify in (("outer", self.port, "optional"), ("inner", self.inner, "required"))
        ]
        self.config = directory / "gateway.toml"
        self.config.write_text(f'workers = 2\nstate_dir = "{directory}/state"\n' + "".join(listeners))

    def issue(self, responder: Responder, stem: str, kind: KeyKind, host: str) -> Credential:
        ca = self.root.intermediate(f"Sub of {stem}")
        made = ca.issue(stem, kind=kind, hosts=[host], ocsp_urls=[responder.url])
        made.write(self.directory, stem)
        responder.known[made.serial] = (ca, made)
        return made

    def gateway(self) -> Gateway:
        return Gateway(self.config, self.port)

    def seen(self, host: str | None, *options: str) -> tuple[list[x509.Certificate], int | None]:
        """The certificates that s_client was sent, and whose staple (serial number) came with them."""
        name = ["-noservername"] if host is None else ["-servername", host]
        said = run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", *name, "-status", "-showcerts",
            "-CAfile", self.directory / "root.pem", "-verify_return_error", *options, said="Q\n", check=False,
        ).stdout  # fmt: skip
        staple = re.search(r"OCSP Response Data:.*?Serial Number: ([0-9A-F]+)", said, re.DOTALL)
        if "BEGIN CERTIFICATE" not in said:
            return [], None
        chain = said[said.index("Certificate chain") :]
        return x509.load_pem_x509_certificates(chain.encode()), int(staple[1], 16) if staple else None

    def whole(self, stem: str) -> tuple[list[x509.Certificate], int]:
        """What a client is to see of a certificate."""
        credential = self.credentials[stem]
        return [credential.cert, *credential.chain], credential.serial


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Started once without a store, and again without a responder: each certificate's staple is kept."""
    directory = tmp_path_factory.mktemp("fleet")
    broker = Echo()
    with Responder() as responder:
        fleet = Fleet(directory, broker.port, responder)
        with fleet.gateway() as gateway:
            gateway.wait_for("staple in force", count=4)
    with fleet.gateway():
        yield fleet
    broker.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("host", "options", "stem"),
    [
        ("first.example", (), "first"),
        ("FIRST.Example", (), "first"),
        ("twin.example", (), "twin"),
        ("twin.example", ECDSA_ALONE, "twin"),
        ("twin.example", RSA_ALONE, "twin-rsa"),
        ("a.wild.example", (), "wild"),
        ("a.b.wild.example", (), "first"),
        ("wild.example", (), "first"),
        ("unknown.example", (), "first"),
        (None, (), "first"),
    ],
)
def test_the_certificate_of_the_name_comes_with_its_chain_and_its_staple(
    version: str, host: str | None, options: tuple[str, ...], stem: str, fleet: Fleet
) -> None:
    """From the store, since the responder is gone."""
    assert fleet.seen(host, version, *options) == fleet.whole(stem)


def test_a_client_that_can_verify_no_certificate_of_the_name_is_shown_none(fleet: Fleet) -> None:
    assert fleet.seen("a.wild.example", *RSA_ALONE) == ([], None)


class Visit:
    """A connection that has echoed once, and what became of it."""

    def __init__(
        self, fleet: Fleet, context: ssl.SSLContext, host: str, session: ssl.SSLSession | None, port: int
    ) -> None:
        with (
            socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host, session=session) as connection,
        ):
            assert echoes(connection)
            self.session = connection.session
            self.resumed = connection.session_reused
            der = connection.getpeercert(binary_form=True)
            assert der is not None
            self.certificate = x509.load_der_x509_certificate(der)


def client(fleet: Fleet, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(fleet.directory / "root.pem"))
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", VERSIONS.values())
@pytest.mark.parametrize(("host", "stem"), [("twin.example", "twin"), ("a.wild.example", "wild")])
def test_a_session_resumes_under_its_name_on_either_worker(
    version: ssl.TLSVersion, host: str, stem: str, fleet: Fleet
) -> None:
    context = client(fleet, version)
    first = Visit(fleet, context, host, None, fleet.port)
    for _ in range(8):
        again = Visit(fleet, context, host, first.session, fleet.port)
        assert (first.resumed, again.resumed) == (False, True)
        assert first.certificate == again.certificate == fleet.credentials[stem].cert


@pytest.mark.parametrize("version", VERSIONS.values())
def test_a_session_of_any_name_opens_no_other_listener(version: ssl.TLSVersion, fleet: Fleet) -> None:
    """At the outer door nobody was asked for a certificate that would have to be good for the inner one."""
    context = client(fleet, version)
    for host in ("first.example", "a.wild.example"):
        session = Visit(fleet, context, host, None, fleet.port).session
        for asked in ("first.example", "a.wild.example"):
            with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
                Visit(fleet, context, asked, session, fleet.inner)
    context.load_cert_chain(*fleet.root.issue("device").write(fleet.directory, "device"))
    for asked in ("first.example", "a.wild.example"):
        assert not Visit(fleet, context, asked, session, fleet.inner).resumed
