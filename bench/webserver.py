"""The web server that a CRL comes from: one document with an ETag, exchanged at will.

A client that asks again with a document's ETag has accepted it: the gateway
remembers one only for a list that is verified, in force and stored. That is what
`wait_until_accepted` waits for, without a look into the gateway.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from bench.errors import BenchError


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # A server whose scenario is over is ended in the midst of a list: no fault of anybody's.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class CrlServer:
    """Serves on a free port of 127.0.0.1, in threads on one processor; a context manager."""

    def __init__(self, cpu: int) -> None:
        self._cpu = cpu
        self._document = b""
        self._version = 0
        self._sent: dict[int, float] = {}
        self._accepted = 0
        self._changed = threading.Condition()
        self._silent = False
        self._ended = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._serve, name="crl-server", daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/ca.crl"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def publish(self, document: bytes) -> None:
        """Serve this from now on."""
        with self._changed:
            self._document = document
            self._version += 1

    def fall_silent(self) -> None:
        """From now on accept connections and requests, and answer none."""
        self._silent = True

    def wait_until_sent(self, timeout: float) -> float:
        """When the last byte of the current document was first handed to a client, on the monotonic clock.

        Raises:
            BenchError: nobody asked in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._version in self._sent, timeout):
                raise BenchError(f"nobody fetched the list within {timeout:.0f} s")
            return self._sent[self._version]

    def wait_until_accepted(self, timeout: float) -> None:
        """Return when a client has the current document and has accepted it.

        Raises:
            BenchError: none did in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._accepted == self._version, timeout):
                raise BenchError(f"the list was not accepted within {timeout:.0f} s")

    def _serve(self) -> None:
        # Of this thread alone, and of those that it starts (sched_setaffinity(2)).
        os.sched_setaffinity(0, {self._cpu})
        self._server.serve_forever()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if server._silent:
                    server._ended.wait()
                    self.close_connection = True
                    return
                with server._changed:
                    document, version = server._document, server._version
                known = self.headers["If-None-Match"] == f'"{version}"'
                self.send_response(HTTPStatus.NOT_MODIFIED if known else HTTPStatus.OK)
                self.send_header("ETag", f'"{version}"')
                if not known:
                    self.send_header("Content-Type", "application/pkix-crl")
                    self.send_header("Content-Length", str(len(document)))
                self.end_headers()
                if not known:
                    self.wfile.write(document)
                server._answered(version, accepted=known)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing: the terminal is the report's."""

        return Handler

    def _answered(self, version: int, *, accepted: bool) -> None:
        with self._changed:
            if accepted:
                self._accepted = version
            else:
                self._sent.setdefault(version, time.monotonic())
            self._changed.notify_all()
