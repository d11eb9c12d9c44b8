"""PKITS as handshakes: one gateway with all lists of the suite, each case's path presented by a client."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.authority import Authority
from tests.end_to_end.clients import Echo, echoes
from tests.end_to_end.parts import TIMEOUT, Gateway, free_port
from tests.pkits import material
from tests.pkits.cases import CASES, TRUST_ANCHOR, Case

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The alert that a client gets for each kind of refusal (RFC 8446, section 6.2).
ALERTS = {
    "revoked": "CERTIFICATE_REVOKED",
    "no usable list": "UNKNOWN_CA",
    "expired list": "CERTIFICATE_EXPIRED",
    "not trusted": "",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Lists of all cases, from files; the CAs and signers of all cases beside the trust anchor."""
    directory = tmp_path_factory.mktemp("pkits")
    server = Authority.root("Server CA").issue("localhost")
    server.write(directory, "server")
    cas = dict.fromkeys(
        [TRUST_ANCHOR, *(name for case in CASES for name in (*case.path[:-1], *case.signers))]
    )
    (directory / "ca.pem").write_bytes(
        b"".join(material.certificate(name).public_bytes(Encoding.PEM) for name in cas)
    )
    lists = dict.fromkeys(name for case in CASES for name in case.crls)
    urls = ", ".join(f'"file://{material.directory()}/crls/{name}.crl"' for name in lists)
    broker, port = Echo(), free_port()
    config = directory / "gateway.toml"
    config.write_text(f"""\
workers = 1
state_dir = "{directory}/state"

[[listeners]]
name = "external"
bind = ["127.0.0.1:{port}"]
upstreams = ["127.0.0.1:{broker.port}"]
certificates = [{{ cert = "server.pem", key = "server.key" }}]
client_ca = "ca.pem"

[listeners.revocation]
crl_urls = [{urls}]
follow_distribution_points = false
""")
    with Gateway(config, port) as running:
        yield running
    broker.close()


def outcome(case: Case, port: int, directory: Path) -> str:
    """What a client with the case's path gets: "" when its bytes come back, else how it was refused."""
    files = directory / "chain.pem", directory / "key.pem"
    chain = reversed([material.certificate(name) for name in case.path])
    files[0].write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain))
    key = material.key(case.end_entity)
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(*files)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
            context.wrap_socket(plain) as connection,
        ):
            return "" if echoes(connection) else "closed"
    except ssl.SSLError as exc:
        return exc.reason or str(exc)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
def test_a_client_gets_in_where_the_suite_accepts_its_path(
    case: Case, gateway: Gateway, tmp_path: Path
) -> None:
    found = outcome(case, gateway.port, tmp_path)
    if case.valid:
        assert found == "", case.title
    else:
        assert "ALERT" in found, f"{case.title}: {case.refused}"
        assert ALERTS[case.kind] in found, f"{case.title}: {case.refused}"
