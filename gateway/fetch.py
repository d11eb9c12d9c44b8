"""Fetch a URL within bounds of time, size and redirects, or raise FetchError with one line that says why.

http and https go through httpx on trio, file through a thread. Nothing is trusted
that a server says about itself: not its Content-Length, not its compression
ratio, not where it redirects to. A connection lives for one fetch: fetches are
minutes apart, and a name is then resolved and checked anew each time.

`learnt` marks a URL that was found in a certificate: its connections obey the
`AddressPolicy`, and it cannot be a file. One that an operator configured may lead
anywhere; where it redirects to another host, that one was learnt as well.
"""

from __future__ import annotations

import io
import os
import re
import ssl
import stat
import urllib.parse
import urllib.request
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpcore
import httpx
import msgspec
import trio

from gateway import __version__
from gateway.addresses import AddressPolicy, CheckedBackend, root_cause
from gateway.errors import FetchError, RefusedError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

MAX_REDIRECTS = 5

_PORTS = {"http": 80, "https": 443}
_INFLATE_STEP = 1 << 20
_SHOWN = 300
_MOST_TOLD = 600
# Beside a body of the size that is allowed, twice: heads, and how it is cut into chunks.
_FRAMING = 256 << 10
_SECOND = timedelta(seconds=1)
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,9})", re.ASCII | re.IGNORECASE)
# An ETag or a date that can be sent back: servers refuse longer ones, httpcore control characters.
_VALIDATOR = re.compile(r"[\x20-\x7e\x80-\xff]{1,1000}", re.ASCII)
_AGE = re.compile(r"\d{1,9}", re.ASCII)
_USERINFO = re.compile(r"(?<=//)[^/?#]*@")


class Fetched(msgspec.Struct, frozen=True):
    """A body, and what to ask with the next time (RFC 9110, section 8.8).

    `max_age` is for how many seconds more a cache may hand out the same (RFC 9111,
    section 4.2), None where nothing is said of that.
    """

    body: bytes
    etag: str | None
    last_modified: str | None
    max_age: int | None


class NotModified(msgspec.Struct, frozen=True):
    """What was fetched before is still what the URL has (RFC 9110, section 15.4.5)."""


Answer = Fetched | NotModified


class Fetcher:
    """Fetches URLs; holds no connection between fetches, so there is nothing to close.

    `tls` replaces the system's certificate authorities.
    """

    def __init__(self, policy: AddressPolicy, tls: ssl.SSLContext | None = None) -> None:
        self._policy = policy
        self._tls = tls or ssl.create_default_context()
        self._being_read: set[str] = set()
        """Files of which a thread waits for the file system."""

    async def get(
        self,
        url: str,
        *,
        timeout: float,  # noqa: ASYNC109 - the bound is part of what is asked for
        max_bytes: int,
        etag: str | None = None,
        last_modified: str | None = None,
        learnt: bool = False,
    ) -> Answer:
        """Get `url` within `timeout` seconds in all and `max_bytes` of decoded body.

        With the validators of an earlier `Fetched` the answer may be `NotModified`.

        Raises:
            TooLargeError: the body is longer than that.
            RefusedError: the server wants no such request.
            FetchError: it could not be had, in one line that names the URL.
        """
        if url[:5].lower() == "file:":
            return await _bounded(url, timeout, self._get_file(url, max_bytes, etag, learnt))
        # As bytes, because a server may have put any octet into its ETag.
        conditions = ((b"If-None-Match", etag), (b"If-Modified-Since", last_modified))
        headers = [(name, value.encode("latin-1")) for name, value in conditions if value and _usable(value)]
        return await _bounded(url, timeout, self._exchange("GET", url, headers, None, max_bytes, learnt))

    async def post(
        self,
        url: str,
        body: bytes,
        content_type: str,
        *,
        timeout: float,  # noqa: ASYNC109 - the bound is part of what is asked for
        max_bytes: int,
        learnt: bool = False,
    ) -> Fetched:
        """Post `body` to `url`, with the bounds of `get`.

        Raises:
            FetchError: there is no answer, in one line that names the URL.
        """
        headers = [(b"Content-Type", content_type.encode())]
        exchange = self._exchange("POST", url, headers, body, max_bytes, learnt)
        answer = await _bounded(url, timeout, exchange)
        # Without a condition in the request `_read` takes nothing but a whole answer.
        assert isinstance(answer, Fetched)
        return answer

    async def _get_file(self, url: str, max_bytes: int, etag: str | None, learnt: bool) -> Answer:
        if learnt:
            raise FetchError("a certificate must not name a file")
        parts = urllib.parse.urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise FetchError('expected "file:///path"')
        path = urllib.request.url2pathname(parts.path)
        if path in self._being_read:
            # Each thread that hangs in a dead network file system is one less for everything else.
            raise FetchError("an earlier read of it has not ended")

        def read() -> Answer:
            self._being_read.add(path)
            try:
                return _read_file(path, max_bytes, etag)
            finally:
                self._being_read.discard(path)

        return await trio.to_thread.run_sync(read, abandon_on_cancel=True)

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: list[tuple[bytes, bytes]],
        content: bytes | None,
        max_bytes: int,
        learnt: bool,
    ) -> Answer:
        first = httpx.URL(url)
        _check_target(first)
        exempt = None if learnt else first.raw_host.decode("ascii")
        transport = _Transport(self._tls, CheckedBackend(self._policy, exempt, 2 * max_bytes + _FRAMING))
        own = {"User-Agent": f"tls-gateway/{__version__}", "Accept-Encoding": "gzip"}
        async with httpx.AsyncClient(transport=transport, trust_env=False, headers=own) as client:
            request = client.build_request(method, first, headers=headers, content=content)
            for _ in range(MAX_REDIRECTS + 1):
                response = await client.send(request, stream=True)
                try:
                    if response.next_request is None:
                        return await _read(response, max_bytes, conditional=content is None and bool(headers))
                finally:
                    await response.aclose()
                _check_target(response.next_request.url, request.url)
                request = response.next_request
        raise FetchError(f"more than {MAX_REDIRECTS} redirects")


def display_url(url: str) -> str:
    """`url` as it may stand in a log line: no user name, no password, printable, of bounded length."""
    shown = _USERINFO.sub("", url)
    shown = "".join(char if char.isprintable() and char != " " else "?" for char in shown)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def host_and_port(url: str) -> str:
    """Where a fetch of `url` connects to first, as a key: "" for a file and for what is no URL."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return ""
    return f"{parts.hostname}:{port}" if parts.hostname else ""


class _Transport(httpx.AsyncBaseTransport):
    """httpx on a pool of httpcore whose connections are made by `CheckedBackend`.

    httpx's own transport has no public way to be given a backend. The timeouts
    that httpx attaches to a request are left out: one cancel scope bounds it all.
    """

    def __init__(self, tls: ssl.SSLContext, backend: CheckedBackend) -> None:
        self._pool = httpcore.AsyncConnectionPool(ssl_context=tls, network_backend=backend)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        answer = await self._pool.handle_async_request(
            httpcore.Request(request.method, target, headers=request.headers.raw, content=request.stream)
        )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of an httpcore response as httpx takes it."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_stream():
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


async def _bounded(url: str, seconds: float, answer: Awaitable[Answer]) -> Answer:
    """Await `answer` for `seconds`; whatever goes wrong is one line that begins with the URL."""
    try:
        with trio.fail_after(seconds):
            return await answer
    except trio.TooSlowError:
        raise FetchError(f"{display_url(url)}: no complete answer within {seconds:g} s") from None
    except FetchError as exc:
        raise type(exc)(_told(url, str(exc)), retry_after=exc.retry_after) from exc
    except (
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpx.HTTPError,
        httpx.InvalidURL,
        # A URL that no library likes: a file name with a NUL, a host that cannot be encoded.
        ValueError,
    ) as exc:
        raise FetchError(_told(url, root_cause(exc))) from exc


def _told(url: str, problem: str) -> str:
    """One line of bounded length, whatever a server has put into `problem`."""
    shown = "".join(char if char.isprintable() else "?" for char in problem)
    return f"{display_url(url)}: {shown if len(shown) <= _MOST_TOLD else f'{shown[:_MOST_TOLD]}…'}"


def _check_target(url: httpx.URL, redirected_from: httpx.URL | None = None) -> None:
    where = "" if redirected_from is None else f"redirected to {display_url(str(url))}: "
    if url.scheme not in ("http", "https"):
        raise FetchError(f"{where}expected http, https or file, but found {url.scheme or 'no scheme'}")
    if redirected_from is not None and redirected_from.scheme == "https" and url.scheme == "http":
        raise FetchError(f"{where}refused, because it leads from https to http")
    if not url.host or not 0 < (url.port or 80) < 1 << 16:
        raise FetchError(f"{where}expected a host and a port from 1 to 65535")


async def _read(response: httpx.Response, max_bytes: int, *, conditional: bool) -> Answer:
    if response.status_code == httpx.codes.NOT_MODIFIED and conditional:
        return NotModified()
    if response.status_code != httpx.codes.OK:
        busy = response.status_code in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
        refused = response.is_client_error or response.status_code == httpx.codes.NOT_IMPLEMENTED
        kind = RefusedError if refused and not busy else FetchError
        raise kind(
            f"status {response.status_code} {response.reason_phrase}".rstrip(),
            retry_after=_retry_after(response.headers) if busy else 0.0,
        )
    headers = response.headers
    headers.encoding = "latin-1"
    if int(headers.get("Content-Length", "0")) > max_bytes:
        raise TooLargeError(f"larger than {max_bytes} bytes")
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("gzip", "x-gzip", "identity", ""):
        raise FetchError(f"expected gzip or no Content-Encoding, but found {encoding[:40]!r}")
    return Fetched(
        body=await _collect(response, _Gunzip() if encoding.endswith("gzip") else None, max_bytes),
        etag=_usable(headers.get("ETag")),
        last_modified=_strong_last_modified(headers),
        max_age=_max_age(headers),
    )


def _max_age(headers: httpx.Headers) -> int | None:
    """max-age, or else Expires, less the time that caches on the way have had it (RFC 9111, 4.2)."""
    directive = _MAX_AGE.search(headers.get("Cache-Control", ""))
    expires, date = _date(headers, "Expires"), _date(headers, "Date")
    if directive:
        lifetime = int(directive[1])
    elif expires and date:
        lifetime = (expires - date) // _SECOND
    else:
        return None
    age = _AGE.fullmatch(headers.get("Age", ""))
    return max(0, lifetime - (int(age[0]) if age else 0))


def _retry_after(headers: httpx.Headers) -> float:
    """Seconds that the server wants to be left alone, 0 where it says nothing of use (RFC 9110, 10.2.3)."""
    seconds = _AGE.fullmatch(headers.get("Retry-After", "").strip())
    if seconds:
        return float(seconds[0])
    # By the server's own clock, where it tells the time.
    then, now = _date(headers, "Retry-After"), _date(headers, "Date") or datetime.now(UTC)
    return max(0.0, (then - now).total_seconds()) if then else 0.0


def _usable(validator: str | None) -> str | None:
    return validator if validator and _VALIDATOR.fullmatch(validator) else None


def _strong_last_modified(headers: httpx.Headers) -> str | None:
    """Last-Modified where it tells two versions apart.

    It counts in seconds: of a list that was replaced within the second in which it
    was fetched, the server would say "not modified" until the next one. So it is
    used only where the server's own clock says that the second was over
    (RFC 9110, section 8.8.2.2).
    """
    then, now = _date(headers, "Last-Modified"), _date(headers, "Date")
    return _usable(headers["Last-Modified"]) if then and now and now - then > _SECOND else None


def _date(headers: httpx.Headers, name: str) -> datetime | None:
    """What a header says, if it is a time at all (RFC 9110, section 5.6.7)."""
    try:
        date = parsedate_to_datetime(headers.get(name, ""))
    except (ValueError, OverflowError):
        return None
    # One that does not tell its zone cannot be held against one that does.
    return date if date.tzinfo else None


async def _collect(response: httpx.Response, gunzip: _Gunzip | None, max_bytes: int) -> bytes:
    refused: FetchError | None = None
    # BytesIO hands out its own buffer: a list of 39 MB is in memory once; joined chunks would be there twice.
    # It is closed because an exception keeps this frame, and so the buffer, for as long as it lives.
    with io.BytesIO() as body:
        # A chain of async generators is unwound from its far end or not at all, so nothing in this loop
        # raises or waits: what is refused cancels the next read.
        with trio.CancelScope() as reading:
            async for chunk in response.aiter_raw():
                if refused is None:
                    try:
                        _append(body, chunk, response.num_bytes_downloaded, gunzip, max_bytes)
                    except FetchError as exc:
                        refused = exc
                        reading.cancel()
        if refused is not None:
            raise refused
        if gunzip:
            gunzip.finish()
        return body.getvalue()


def _append(body: io.BytesIO, chunk: bytes, received: int, gunzip: _Gunzip | None, max_bytes: int) -> None:
    for piece in gunzip.inflate(chunk) if gunzip else (chunk,):
        # What was received is bounded, too: deflate has blocks that inflate to nothing.
        if max(received, body.tell() + len(piece)) > max_bytes:
            raise TooLargeError(f"larger than {max_bytes} bytes")
        body.write(piece)


class _Gunzip:
    """Inflates in small steps, so that a bomb is found out before it has grown (RFC 9110, 8.4.1.3)."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    def inflate(self, chunk: bytes) -> Iterator[bytes]:
        """What comes out of the next `chunk`, piece by piece; raises FetchError."""
        while chunk:
            try:
                yield self._inflater.decompress(chunk, _INFLATE_STEP)
            except zlib.error as exc:
                raise FetchError(f"gzip: {exc}") from exc
            chunk = self._inflater.unconsumed_tail
        if self._inflater.unused_data:
            raise FetchError("gzip: more behind the end of the compressed body")

    def finish(self) -> None:
        """Raises FetchError when the end has not come."""
        if not self._inflater.eof:
            raise FetchError("gzip: the compressed body is cut off")


def _read_file(path: str, max_bytes: int, etag: str | None) -> Answer:
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise FetchError("not a regular file")
            if before.st_size > max_bytes:
                raise TooLargeError(f"larger than {max_bytes} bytes")
            validator = _file_validator(before)
            if validator == etag:
                return NotModified()
            body = file.read(before.st_size + 1)
            if len(body) != before.st_size or _file_validator(os.fstat(file.fileno())) != validator:
                raise FetchError("changed while it was read")
    except OSError as exc:
        raise FetchError(exc.strerror or str(exc)) from exc
    return Fetched(body=body, etag=validator, last_modified=None, max_age=None)


def _file_validator(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}"
