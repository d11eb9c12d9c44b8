"""What the admin interface answers: URLs to what they do. No I/O but what it is handed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import trio

from gateway import commands
from gateway.admin import actions, assets, exposition
from gateway.admin.http import Response
from gateway.errors import GatewayError
from gateway.names import serial_hex
from gateway.revocation import inquiry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from structlog.typing import FilteringBoundLogger

    from gateway.admin.access import Access, Denied
    from gateway.admin.history import History
    from gateway.admin.http import Request
    from gateway.publish import Refusal
    from gateway.revocation.coverage import Coverage
    from gateway.status import Status

JSON = "application/json"
_UNAUTHORIZED = 401
# Seconds between two log lines about requests that are denied: anyone may send them.
_SAID_EVERY = 10.0


class Done(msgspec.Struct, frozen=True):
    """The answer to a POST: whether it was done, and the lines that the command of that name prints."""

    ok: bool
    lines: tuple[str, ...]


class Looked(msgspec.Struct, frozen=True):
    """The answer of `/lookup`: the serial in hexadecimal, whether a list revokes it, what each says."""

    serial: str
    revoked: bool
    findings: list[inquiry.Finding]


class Past(msgspec.Struct, frozen=True):
    """The answer of `/history`: samples of the last hour by what they are of, and the last refusals."""

    samples: dict[str, list[float]]
    refusals: list[Refusal]


@dataclass(frozen=True)
class Desk:
    """All that the application asks: how the gateway is, what is in force, and who does what is asked for."""

    look: Callable[[], Status]
    handler: commands.Handler
    issuers: Callable[[], Iterable[bytes]]
    """The Names (DER) of all known CAs."""
    coverages: Callable[[], Iterable[Coverage]]
    refusals: Callable[[], Iterable[Refusal]]
    history: History


class App:
    """Answers requests: an `http.Application`."""

    def __init__(
        self, access: Access, desk: Desk, log: FilteringBoundLogger, now: Callable[[], float]
    ) -> None:
        self._access = access
        self._desk = desk
        self._log = log
        self._now = now
        self._page = assets.responses(access.csrf_token)
        self._denied = 0
        self._said_at = float("-inf")
        self._routes: Mapping[str, Mapping[str, Callable[[Request], Awaitable[Response]]]] = {
            **{path: {"GET": self._asset} for path in self._page},
            "/metrics": {"GET": self._metrics},
            "/status": {"GET": self._status},
            "/history": {"GET": self._history},
            "/lookup": {"GET": self._lookup},
            "/revoked": {"GET": self._revoked},
            "/refresh": {"POST": self._act},
            "/reload": {"POST": self._act},
            "/drain": {"POST": self._act},
            "/revoke": {"POST": self._act},
            "/unrevoke": {"POST": self._act},
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
        if denied.status == _UNAUTHORIZED and "authorization" not in request.headers:
            # How a browser begins: it asks for the password only then.
            return _challenge(denied)
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
        return _challenge(denied)

    def _ready(self, *, told: bool) -> Response:
        status = self._desk.look()
        if status.ready:
            return Response(200, b"ready\n")
        lines = status.reasons if told else (f"{len(status.reasons)} reasons; they are told with the token",)
        return Response(503, "".join(f"not ready: {line}\n" for line in lines).encode())

    async def _asset(self, request: Request) -> Response:
        return self._page[request.path]

    async def _act(self, request: Request) -> Response:
        """Do it; 400 where it makes no sense, 409 where it cannot be done, 502 where a source failed."""
        try:
            command = actions.command(request.path, request.body, self._desk.issuers())
        except GatewayError as exc:
            return _answer(400, Done(ok=False, lines=(str(exc),)))
        try:
            answer = await self._desk.handler.handle(command, f"admin interface, {request.peer}")
        except GatewayError as exc:
            return _answer(409, Done(ok=False, lines=(str(exc),)))
        return _answer(200 if answer.ok else 502, Done(answer.ok, answer.lines))

    async def _lookup(self, request: Request) -> Response:
        try:
            asked = actions.meant(request.query, self._desk.issuers())
        except GatewayError as exc:
            return _answer(400, Done(ok=False, lines=(str(exc),)))
        found = inquiry.ask(self._desk.coverages(), asked.serial, asked.issuer)
        return _answer(200, Looked(serial_hex(asked.serial), any(each.revoked for each in found), found))

    async def _revoked(self, _request: Request) -> Response:
        answer = await self._desk.handler.handle(commands.ListRevoked(), "")
        return Response(200, answer.data, JSON)

    async def _history(self, _request: Request) -> Response:
        last = sorted(self._desk.refusals(), key=lambda each: each.at, reverse=True)
        return _answer(200, Past(self._desk.history.columns(), last))

    async def _metrics(self, request: Request) -> Response:
        # Of thousands of lists it takes some 0.2 s.
        body, content_type = await trio.to_thread.run_sync(
            exposition.encode, self._desk.look(), request.headers.get("accept", "")
        )
        return Response(200, body, content_type)

    async def _status(self, _request: Request) -> Response:
        return _answer(200, self._desk.look())


def _challenge(denied: Denied) -> Response:
    """Whoever shows no token, or a wrong one, is asked for it."""
    challenge = [("WWW-Authenticate", 'Basic realm="tls-gateway: the token is the password"')]
    headers = challenge if denied.status == _UNAUTHORIZED else []
    return Response(denied.status, f"{denied.reason}\n".encode(), headers=headers)


def _answer(status: int, body: msgspec.Struct) -> Response:
    return Response(status, msgspec.json.encode(body), JSON)
