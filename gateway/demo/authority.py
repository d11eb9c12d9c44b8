"""The demonstration's own CA, with a web server for its CRL and an OCSP responder.

trustme makes the certificates; the CRL and the OCSP responses, which it does not
make, are signed here with its key. Nothing here is fit for more than a demonstration.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.x509 import ocsp

if TYPE_CHECKING:
    from pathlib import Path

_LIFETIME = timedelta(hours=1)


class Authority:
    """A CA that issues, revokes, and publishes both ways."""

    def __init__(self) -> None:
        self._ca = trustme.CA(organization_name="tls-gateway demo", key_type=trustme.KeyType.ECDSA)
        self.certificate = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        key = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise TypeError("trustme made another kind of key than asked for")
        self._key = key
        self._revoked: dict[int, datetime] = {}
        self._number = 0
        self._lock = threading.Lock()

    def issue(self, directory: Path, stem: str, *names: str) -> x509.Certificate:
        """Write `stem`.pem and `stem`.key for `names`; the private key is its owner's alone."""
        leaf = self._ca.issue_cert(*names, common_name=stem, key_type=trustme.KeyType.ECDSA)
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        (directory / f"{stem}.pem").write_bytes(chain)
        key = directory / f"{stem}.key"
        key.touch(mode=0o600)
        key.write_bytes(leaf.private_key_pem.bytes())
        return x509.load_pem_x509_certificate(chain)

    def write(self, path: Path) -> None:
        """Write the CA's certificate."""
        self._ca.cert_pem.write_to_path(str(path))

    def revoke(self, certificate: x509.Certificate) -> None:
        """Put a certificate into every list from now on."""
        with self._lock:
            self._revoked[certificate.serial_number] = datetime.now(UTC)

    def crl(self) -> bytes:
        """The CRL of this moment, in DER."""
        now = datetime.now(UTC)
        with self._lock:
            self._number += 1
            builder = (
                x509.CertificateRevocationListBuilder()
                .issuer_name(self.certificate.subject)
                .last_update(now)
                .next_update(now + _LIFETIME)
                .add_extension(x509.CRLNumber(self._number), critical=False)
            )
            for serial, when in self._revoked.items():
                builder = builder.add_revoked_certificate(
                    x509.RevokedCertificateBuilder()
                    .serial_number(serial)
                    .revocation_date(when)
                    .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
                    .build()
                )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def answer(self, request: bytes) -> bytes:
        """The response to an OCSP request (RFC 6960) for a certificate of this CA, in DER."""
        asked = ocsp.load_der_ocsp_request(request)
        now = datetime.now(UTC)
        with self._lock:
            when = self._revoked.get(asked.serial_number)
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            asked.issuer_name_hash,
            asked.issuer_key_hash,
            asked.serial_number,
            asked.hash_algorithm,
            ocsp.OCSPCertStatus.REVOKED if when else ocsp.OCSPCertStatus.GOOD,
            now,
            now + _LIFETIME,
            when,
            x509.ReasonFlags.key_compromise if when else None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


class WebServer:
    """Serves `/ca.crl` and answers OCSP requests, on a free loopback port, until closed."""

    def __init__(self, authority: Authority) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Send the CRL of this moment."""
                self._send(authority.crl(), "application/pkix-crl")

            def do_POST(self) -> None:
                """Answer an OCSP request."""
                request = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                try:
                    self._send(authority.answer(request), "application/ocsp-response")
                except ValueError:
                    self.send_error(400, "not an OCSP request")

            def _send(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                """Say nothing: the story is told elsewhere."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
