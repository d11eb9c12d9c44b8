"""HTTP/1.1 for the admin interface: h11 on trio, within bounds of time, size and number. Knows no URL.

One request after the other on a connection: request in, response out. A client that is
slow or sends too much is cut off: control has other things to do. When there are too many,
whoever has been silent the longest makes room, so that nobody keeps a probe out by saying
nothing. The application is a function of a `Request`; it may take its time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl

import h11
import trio

from gateway import __version__

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

MAX_BODY = 64 << 10
_MAX_HEADER = 16 << 10
# Seconds for a request to come, for a response to go, and that a connection may be idle.
PATIENCE = 10.0
MOST_AT_ONCE = 32
_CHUNK = 1 << 14
# Whatever is answered: nothing is kept, guessed, framed or read from elsewhere.
_ALWAYS = (
    ("Server", f"tls-gateway/{__version__}"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class Request:
    """What was asked. Header names are in lower case; one that came twice has both values, with a comma."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = ""


@dataclass(frozen=True)
class Response:
    """What is answered; `policy` is its Content-Security-Policy."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: Sequence[tuple[str, str]] = ()
    policy: str = _NOTHING


Application: TypeAlias = Callable[[Request], Awaitable[Response]]
Silent: TypeAlias = dict[trio.CancelScope, None]
"""Those whose request is waited for, whoever waits longest first."""


async def serve(listening: socket.socket, application: Application, log: FilteringBoundLogger) -> None:
    """Answer until cancelled; `listening` is bound and non-blocking."""
    limiter = trio.CapacityLimiter(MOST_AT_ONCE)
    silent: Silent = {}

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            if not limiter.available_tokens:
                longest = next(iter(silent), None)
                if longest is None:
                    return
                del silent[longest]
                longest.cancel()
            async with limiter:
                await converse(stream, application, _peer(stream), log, silent)

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    await trio.serve_listeners(answer, [listener])


async def converse(
    stream: trio.abc.Stream, application: Application, peer: str, log: FilteringBoundLogger, silent: Silent
) -> None:
    """Answer one client until it leaves, errs, says nothing for a while, or is cut off by way of `silent`."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEADER)
    try:
        while True:
            request: Request | Response | None = None
            with _listening(silent):
                request = await _receive(stream, connection, peer)
            if request is None:
                return
            response = request if isinstance(request, Response) else await _answer(application, request, log)
            sent = False
            with trio.move_on_after(PATIENCE):
                await _send(stream, connection, response, body=not _is_head(request))
                sent = True
            if not sent or connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


@contextmanager
def _listening(silent: Silent) -> Iterator[None]:
    with trio.move_on_after(PATIENCE) as scope:
        silent[scope] = None
        try:
            yield
        finally:
            silent.pop(scope, None)


async def _answer(application: Application, request: Request, log: FilteringBoundLogger) -> Response:
    try:
        return await application(request)
    except Exception:
        # A defect in a page must not take fetching and publishing down with it.
        log.exception("admin request failed", method=request.method, path=request.path[:200])
        return Response(500, b"a defect; the log has its traceback\n")


async def _receive(
    stream: trio.abc.Stream, connection: h11.Connection, peer: str
) -> Request | Response | None:
    """The next request; the Response to one that is none; None when there is no more."""
    head: h11.Request | None = None
    body = bytearray()
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(_CHUNK)))
            elif isinstance(event, h11.Request):
                head = event
                if head.method == b"CONNECT":
                    return _refusal(405, "there is no tunnel\n", head)
                if {b"content-length", b"transfer-encoding"} <= {name for name, _value in head.headers}:
                    # A proxy in front may have gone by the other one (RFC 9112, section 6.1).
                    return _refusal(400, "expected one length of the body, not two\n", head)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    return _refusal(413, f"expected at most {MAX_BODY} bytes\n", head)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, bytes(body), peer)
            else:
                return None
    except h11.RemoteProtocolError as exc:
        return _refusal(exc.error_status_hint, "expected a request of HTTP/1.1\n", head)


def _refusal(status: int, line: str, head: h11.Request | None) -> Response:
    """The answer to what is no request, or too much of one; HEAD may have none with a body."""
    has_body = head is None or head.method != b"HEAD"
    return Response(status, line.encode() if has_body else b"", headers=(("Connection", "close"),))


def _request(head: h11.Request, body: bytes, peer: str) -> Request:
    headers: dict[str, str] = {}
    for name, value in head.headers:
        key, text = name.decode("ascii"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    path, _, query = head.target.decode("ascii").partition("?")
    # Not more fields than any of our pages has: a longer query is nobody's.
    fields = dict(parse_qsl(query, keep_blank_values=True, errors="replace")) if len(query) < _CHUNK else {}
    return Request(head.method.decode("ascii"), path, fields, headers, body, peer)


def _is_head(request: Request | Response) -> bool:
    return isinstance(request, Request) and request.method == "HEAD"


async def _send(
    stream: trio.abc.Stream, connection: h11.Connection, response: Response, *, body: bool
) -> None:
    if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("Content-Security-Policy", response.policy),
        *_ALWAYS,
        *response.headers,
    ]
    data = connection.send(h11.Response(status_code=response.status, headers=headers)) or b""
    if body:
        data += connection.send(h11.Data(data=response.body)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    await stream.send_all(data)


def _peer(stream: trio.SocketStream) -> str:
    try:
        name = stream.socket.getpeername()
    except OSError:
        # A port scanner's: it was reset before it was accepted.
        return "a client that has gone"
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "the Unix socket"
