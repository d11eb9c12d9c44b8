"""What a hostile server, name server or certificate makes of a fetch: a line in the log, and nothing else."""

from __future__ import annotations

import ipaddress
import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from gateway import fetch
from gateway.addresses import AddressPolicy
from gateway.errors import FetchError
from gateway.fetch import Fetched, Fetcher
from tests.fetching import LOOPBACK, ONLY_CONFIGURED, body_of, failure_of, get
from tests.http_server import KIB, Answer, Server, http, raw, serving
from tests.resolver import resolving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# Nothing is this machine's but what the list of denied networks says.
ELSEWHERE = AddressPolicy(is_own=lambda _: False)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


def redirect(location: str) -> Answer:
    return http("302 Found", b"", f"Location: {location}")


# Where a URL leads.

HARMFUL = [
    "http://127.0.0.1:9/",
    "http://127.1:9/",
    "http://2130706433:9/",
    "http://0x7f000001:9/",
    "http://017700000001:9/",
    "http://0:9/",
    "http://0.0.0.0:9/",
    "http://[::]:9/",
    "http://[::1]:9/",
    "http://[::ffff:127.0.0.1]:9/",
    "http://[::ffff:a9fe:a9fe]/latest/meta-data",
    "http://[64:ff9b::169.254.169.254]/latest/meta-data",
    "http://[2002:a9fe:a9fe::1]/latest/meta-data",
    "http://[fe80::1]:9/",
    "http://[fd00:ec2::254]/latest/meta-data",
    "http://169.254.169.254/latest/meta-data",
    "http://2852039166/latest/meta-data",
    "http://0xa9fea9fe/latest/meta-data",
    "http://crl.example@169.254.169.254/latest/meta-data",
    "//169.254.169.254/latest/meta-data",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "ftp://127.0.0.1/",
    "gopher://127.0.0.1:9/_",
    "unix:/run/control.sock",
    "data:/list",
]


@pytest.mark.parametrize("learnt", [True, False], ids=["learnt", "configured"])
@pytest.mark.parametrize("location", HARMFUL)
async def test_no_redirect_leads_to_what_is_not_for_it(server: Server, location: str, learnt: bool) -> None:
    resolving(["127.0.0.3"], ["127.0.0.1"])
    server.answers["/"] = redirect(location)
    # The first hop alone is allowed; who listens at the last one would be this very server.
    policy = AddressPolicy(allow=(ipaddress.ip_network("127.0.0.3/32"),))
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.3")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, server.handle, [listener])
        text = await failure_of(f"http://crl.example:{port}/", learnt=learnt, policy=policy)
        nursery.cancel_scope.cancel()
    assert ONLY_CONFIGURED in text or "expected http, https or file" in text or "cannot resolve" in text
    assert len(server.requests) == 1


async def test_a_configured_url_may_redirect_within_its_own_host(server: Server) -> None:
    async with serving() as second:
        server.answers["/"] = redirect(f"{second.base}/ca.crl")
        second.answers["/ca.crl"] = http("200 OK", b"list")
        assert await body_of(f"{server.base}/", policy=ELSEWHERE) == b"list"


async def test_each_hop_of_a_learnt_url_is_resolved_and_checked_anew(server: Server) -> None:
    """A name server that lets the first hop pass, and redirects the second with the name alone."""
    server.answers["/"] = redirect("http://crl.example:9/")
    resolver = resolving(["127.0.0.1"], ["169.254.169.254"])
    text = await failure_of(f"http://crl.example:{server.port}/", learnt=True)
    assert f"crl.example is 169.254.169.254, {ONLY_CONFIGURED}" in text
    assert resolver.asked == 2


@pytest.mark.parametrize(
    "address",
    [
        "2002:7f00:1::",  # 6to4
        "2002:a9fe:a9fe::1",
        "64:ff9b::7f00:1",  # NAT64
        "64:ff9b:1::a9fe:a9fe",
        "::ffff:0:7f00:1",  # IPv4-translated
        "::7f00:1",  # IPv4-compatible
        "2001:0:a9fe:a9fe::1",  # Teredo, of a server …
        "2001:0:cb00:7107::5601:5601",  # … and of a client there
        "192.0.0.192",
        "fd20:ce::254",
    ],
)
def test_an_address_in_disguise_is_denied_like_itself(address: str) -> None:
    assert not ELSEWHERE.permits(address)


def test_this_machines_address_in_disguise_is_its_own() -> None:
    policy = AddressPolicy(is_own=lambda address: str(address) == "203.0.113.7")
    assert not policy.permits("64:ff9b::203.0.113.7")
    assert policy.permits("64:ff9b::203.0.113.8")
    assert policy.permits("2002:cb00:7108::1")


def test_what_is_allowed_is_allowed_however_it_is_written() -> None:
    assert LOOPBACK.permits("127.0.0.1")
    assert LOOPBACK.permits("::ffff:127.0.0.1")
    assert AddressPolicy(allow=(ipaddress.ip_network("::1/128"),)).permits("::1")


async def test_of_a_name_with_thousands_of_addresses_few_are_looked_at() -> None:
    asked = []

    def is_own(address: object) -> bool:
        asked.append(address)
        return len(asked) == 16

    resolving([f"203.0.{number // 250}.{number % 250}" for number in range(4000)])
    text = await failure_of("http://crl.example/", learnt=True, policy=AddressPolicy(is_own=is_own))
    assert ONLY_CONFIGURED in text
    assert len(asked) == 16


async def test_a_password_goes_to_no_other_server(server: Server) -> None:
    async with serving() as second:
        server.answers["/"] = redirect(f"{second.base}/ca.crl")
        second.answers["/ca.crl"] = http("200 OK", b"list")
        await body_of(server.base.replace("//", "//user:secret@") + "/")
        assert b"Authorization" in server.requests[0]
        assert b"Authorization" not in second.requests[0]


async def test_neither_proxies_nor_passwords_come_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.answers["/"] = http("200 OK", b"list")
    assert await body_of(f"{server.base}/") == b"list"
    assert b"uthorization" not in server.requests[0]


# What comes back.

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HEAD_TOO_LONG = "Receive buffer too long"
NO_BODY = "and most of them no body"


def without_end(head: bytes, piece: bytes) -> Answer:
    async def send(stream: trio.abc.Stream) -> None:
        await stream.send_all(head)
        block = piece * (64 * KIB // len(piece) + 1)
        while True:
            await stream.send_all(block)

    return send


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(without_end(OK, b"X-Flood: y\r\n"), HEAD_TOO_LONG, id="headers without end"),
        pytest.param(without_end(OK + b"X: ", b"y"), HEAD_TOO_LONG, id="a header without end"),
        pytest.param(without_end(b"", b"y"), HEAD_TOO_LONG, id="a status line without end"),
        pytest.param(without_end(b"", b"HTTP/1.1 100 C\r\n\r\n"), NO_BODY, id="100 without end"),
        pytest.param(without_end(CHUNKED, b"1\r\nx\r\n"), NO_BODY, id="crumbs"),
        pytest.param(without_end(CHUNKED, b"1;" + b"e" * 1000 + b"\r\nx\r\n"), NO_BODY, id="extensions"),
        pytest.param(without_end(CHUNKED + b"1;", b"e"), HEAD_TOO_LONG, id="a chunk extension without end"),
        pytest.param(
            without_end(CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n"), HEAD_TOO_LONG, id="trailers without end"
        ),
        pytest.param(raw(CHUNKED + b"-1\r\nx\r\n"), "illegal chunk header", id="a negative chunk"),
        pytest.param(raw(CHUNKED + b"0x1\r\nx\r\n"), "illegal chunk header", id="0x"),
        pytest.param(raw(CHUNKED + b"f" * 21 + b"\r\nx"), "illegal chunk header", id="an immense chunk"),
        pytest.param(raw(CHUNKED + b"f" * 15 + b"\r\nx"), "peer closed connection", id="a chunk too large"),
        pytest.param(
            raw(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            "Transfer-Encoding",
            id="two codings",
        ),
        pytest.param(raw(OK + b"Content-Length: -1\r\n\r\n"), "bad Content-Length", id="negative"),
        pytest.param(raw(OK + b"Content-Length: 1_0\r\n\r\n"), "bad Content-Length", id="Python's digits"),
        pytest.param(raw(OK + b"Name : value\r\n\r\n"), "illegal header", id="space before a colon"),
        pytest.param(raw(OK + b"No colon\r\n\r\n"), "illegal header", id="no colon"),
        pytest.param(raw(b"list\r\n\r\n"), "illegal status line", id="HTTP/0.9"),
        pytest.param(
            http("101 Switching Protocols", length=False), "without a pending proposal", id="another protocol"
        ),
        pytest.param(http("203 Non-Authoritative Information", b"list"), "status 203", id="of a proxy"),
        pytest.param(http("206 Partial Content", b"li"), "status 206", id="a part"),
        pytest.param(http("300 Multiple Choices", b"list"), "status 300", id="a choice"),
        pytest.param(redirect("http://" + "a" * 70_000), "", id="a URL too long"),
        pytest.param(redirect("http://h\x00/"), "", id="a NUL in a URL"),
        pytest.param(redirect("http://[::1/"), "", id="half a bracket"),
    ],
)
async def test_a_malformed_or_endless_answer_is_one_line_and_little_is_read(
    server: Server, answer: Answer, said: str
) -> None:
    server.answers["/"] = answer
    assert said in await failure_of(f"{server.base}/")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http(f"500 {'x' * 50_000}"), id="a reason of 50 KB"),
        pytest.param(http("500 \x1b[2J\x1b]0;owned\x07 oops"), id="what a terminal obeys"),
        pytest.param(raw(b"220 \x1b[2J" + b"y" * 50_000 + b"\r\n\r\n"), id="another protocol"),
        pytest.param(http("200 OK", b"", "Content-Encoding: \x1b[2J"), id="a coding"),
        pytest.param(redirect("ftp://h/\x1b[2J" + "z" * 50_000), id="a redirect"),
    ],
)
async def test_what_a_server_says_is_told_in_a_line_that_is_printable_and_short(
    server: Server, answer: Answer
) -> None:
    server.answers["/"] = answer
    # `failure_of` looks at the line.
    assert "/: " in await failure_of(f"{server.base}/")


async def test_a_head_that_comes_octet_by_octet_is_bounded_by_the_time(server: Server) -> None:
    async def drip(stream: trio.abc.Stream) -> None:
        for octet in itertools.cycle(OK):
            await stream.send_all(bytes([octet]))
            await trio.sleep(0.005)

    server.answers["/"] = drip
    assert "no complete answer within 0.1 s" in await failure_of(f"{server.base}/", timeout=0.1)


async def test_http_1_0_and_a_length_beside_chunks_are_understood(server: Server) -> None:
    server.answers["/old"] = raw(b"HTTP/1.0 200 OK\r\n\r\nlist")
    server.answers["/both"] = raw(
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlist\r\n0\r\n\r\n"
    )
    assert await body_of(f"{server.base}/old") == b"list"
    assert await body_of(f"{server.base}/both") == b"list"


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_an_honest_body_may_come_in_small_chunks(server: Server, size: int) -> None:
    body = bytes(range(256)) * 40
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    server.answers["/"] = raw(
        CHUNKED, *(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces), b"0\r\n\r\n"
    )
    assert await body_of(f"{server.base}/") == body


# What is sent back the next time.


@pytest.mark.parametrize("etag", ['"a\x01b"', '"a\x7fb"', f'"{"e" * 5000}"'], ids=["control", "DEL", "long"])
async def test_a_validator_that_could_not_be_sent_back_is_forgotten(server: Server, etag: str) -> None:
    server.answers["/"] = http("200 OK", b"list", f"ETag: {etag}")
    assert await get(f"{server.base}/") == Fetched(b"list", None, None, None)


@pytest.mark.parametrize("kept", ['"a"\r\nX-Evil: 1', "\x00", "€", "e" * 5000])
async def test_a_kept_validator_that_cannot_be_sent_spoils_no_request(server: Server, kept: str) -> None:
    server.answers["/"] = http("200 OK", b"list")
    assert await body_of(f"{server.base}/", etag=kept, last_modified=kept) == b"list"
    assert b"X-Evil" not in server.requests[0]
    assert b"if-none-match" not in server.requests[0].lower()


# What hangs.


async def test_a_file_system_that_hangs_holds_one_thread_however_often_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "ca.crl"
    path.write_bytes(b"list")
    good, begun, comes_back, asked = fetch._read_file, threading.Event(), threading.Event(), []

    def hangs(path: str, max_bytes: int, etag: str | None) -> fetch.Answer:
        asked.append(path)
        begun.set()
        comes_back.wait()
        return good(path, max_bytes, etag)

    monkeypatch.setattr(fetch, "_read_file", hangs)
    fetcher = Fetcher(LOOPBACK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(fetcher.get, path.as_uri(), timeout=60, max_bytes=100))
        await trio.to_thread.run_sync(begun.wait)
        nursery.cancel_scope.cancel()
    for _ in range(5):
        with pytest.raises(FetchError, match="an earlier read of it has not ended"):
            await fetcher.get(path.as_uri(), timeout=60, max_bytes=100)
    assert asked == [str(path)]
    comes_back.set()
    with trio.fail_after(20):
        while fetcher._being_read:  # noqa: ASYNC110 - a thread ends, which sets no trio.Event
            await trio.sleep(0.001)
    answer = await fetcher.get(path.as_uri(), timeout=20, max_bytes=100)
    assert isinstance(answer, Fetched)
    assert answer.body == b"list"
