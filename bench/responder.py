"""An OCSP responder that says "good" of every certificate of the CA, and signs each answer on the spot."""

from __future__ import annotations

import base64
import datetime as dt
import os
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.material import Material

_LIFE = dt.timedelta(days=1)


class Responder:
    """Serves on a free port of 127.0.0.1, in threads on one processor; a context manager."""

    def __init__(self, material: Material, cpu: int) -> None:
        self._material = material
        self._cpu = cpu
        self.answers = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), answering(self._answer))
        self._thread = threading.Thread(target=self._serve, name="responder", daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self) -> None:
        # Of this thread alone, and of those that it starts (sched_setaffinity(2)).
        os.sched_setaffinity(0, {self._cpu})
        self._server.serve_forever()

    def _answer(self, request: bytes) -> bytes:
        self.answers += 1
        asked, now = ocsp.load_der_ocsp_request(request), dt.datetime.now(dt.UTC)
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            asked.issuer_name_hash,
            asked.issuer_key_hash,
            asked.serial_number,
            asked.hash_algorithm,
            ocsp.OCSPCertStatus.GOOD,
            now,
            now + _LIFE,
            None,
            None,
        )
        signer = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self._material.authority)
        response = signer.sign(self._material.authority_key, hashes.SHA256())
        return response.public_bytes(serialization.Encoding.DER)


def answering(answer: Callable[[bytes], bytes]) -> type[BaseHTTPRequestHandler]:
    """Responds with what `answer` makes of a request, both DER, by GET and by POST (RFC 6960, appendix A)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(base64.b64decode(urllib.parse.unquote(self.path[1:])))

        def do_POST(self) -> None:
            self._send(self.rfile.read(int(self.headers["Content-Length"])))

        def _send(self, request: bytes) -> None:
            body = answer(request)
            self.send_response(200)
            self.send_header("Content-Type", "application/ocsp-response")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing: the terminal is the report's."""

    return Handler
