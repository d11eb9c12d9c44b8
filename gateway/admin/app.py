"""What the admin interface answers: URLs to what they do. No I/O but what it is handed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.admin import exposition
from gateway.admin.http import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from gateway.admin.access import Access, Denied
    from gateway.admin.http import Request
    from gateway.status import Status

JSON = "application/json"
# Seconds between two log lines about requests that are denied: anyone may send them.
_SAID_EVERY = 10.0


class App:
    """Answers requests: an `http.Application`. `look` tells how the gateway is."""

    def __init__(
        self, access: Access, look: Callable[[], Status], log: FilteringBoundLogger, now: Callable[[], float]
    ) -> None:
        self._access = access
        self._look = look
        self._log = log
        self._now = now
        self._denied = 0
        self._said_at = float("-inf")
        self._routes: Mapping[str, Mapping[str, Callable[[Request], Awaitable[Response]]]] = {
            "/metrics": {"GET": self._metrics},
            "/status": {"GET": self._status},
        }

    async def __call__(self, request: Request) -> Response:
        """Answer it."""
        method = "GET" if request.method == "HEAD" else request.method
        denied = self._access.denies(request)
        # For probes, which show no token; what stands between it and readiness is not for everyone.
        if request.path == "/healthz" and method == "GET":
            return Response(200, b"ok\n")
        if request.path == "/readyz" and method == "GET":
            return self._ready(told=denied is None)
        if denied is not None:
            return self._deny(request, denied)
        methods = self._routes.get(request.path)
        if methods is None:
            return Response(404, b"there is no such page\n")
        if method not in methods:
            allowed = ", ".join(methods)
            return Response(405, f"expected {allowed}\n".encode(), headers=[("Allow", allowed)])
        return await methods[method](request)

    def _deny(self, request: Request, denied: Denied) -> Response:
        self._denied += 1
        if self._now() - self._said_at >= _SAID_EVERY:
            self._log.warning(
                "admin request denied",
                peer=request.peer,
                path=request.path[:200],
                reason=denied.reason,
                denied=self._denied,
            )
            self._said_at, self._denied = self._now(), 0
        challenge = [("WWW-Authenticate", 'Basic realm="tls-gateway: the token is the password"')]
        headers = challenge if denied.status == 401 else []  # noqa: PLR2004 - RFC 9110's number
        return Response(denied.status, f"{denied.reason}\n".encode(), headers=headers)

    def _ready(self, *, told: bool) -> Response:
        status = self._look()
        if status.ready:
            return Response(200, b"ready\n")
        lines = status.reasons if told else (f"{len(status.reasons)} reasons; they are told with the token",)
        return Response(503, "".join(f"not ready: {line}\n" for line in lines).encode())

    async def _metrics(self, request: Request) -> Response:
        body, content_type = exposition.encode(self._look(), request.headers.get("accept", ""))
        return Response(200, body, content_type)

    async def _status(self, _request: Request) -> Response:
        return Response(200, msgspec.json.encode(self._look()), JSON)
