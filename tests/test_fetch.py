"""Fetching from a server that answers whatever a script says, over loopback."""

from __future__ import annotations

import gc
import gzip
import ipaddress
import os
import socket
import ssl
import zlib
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from gateway import __version__, fetch
from gateway.addresses import AddressPolicy, is_own_address
from gateway.errors import FetchError, RefusedError
from gateway.fetch import Fetched, Fetcher, NotModified, display_url, host_and_port
from tests.fetching import ONLY_CONFIGURED, body_of, failure_of, get
from tests.http_server import KIB, Answer, Server, endless, hang, http, no_tls, raw, reset, serving, trickle
from tests.resolver import resolving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


async def test_a_body_comes_with_what_to_ask_the_next_time(server: Server) -> None:
    server.answers["/ca.crl"] = http(
        "200 OK",
        b"list",
        'ETag: "é1"',
        "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT",
        "Date: Thu, 01 Jan 2026 00:00:02 GMT",
        "Cache-Control: public, Max-Age=600",
    )
    answer = await get(f"{server.base}/ca.crl")
    assert answer == Fetched(b"list", '"é1"', "Thu, 01 Jan 2026 00:00:00 GMT", 600)
    request = server.requests[0].lower()
    assert f"user-agent: tls-gateway/{__version__}".encode() in request
    assert b"if-none-match" not in request
    assert b"if-modified-since" not in request


@pytest.mark.parametrize(
    "date",
    [
        "Date: Thu, 01 Jan 2026 00:00:00 GMT",
        "Date: Thu, 01 Jan 2026 00:00:01 GMT",
        "Date: soon",
        "X: no date",
    ],
)
async def test_last_modified_of_this_very_second_is_not_asked_with_again(server: Server, date: str) -> None:
    server.answers["/"] = http("200 OK", b"list", "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", date)
    answer = await get(f"{server.base}/")
    assert answer == Fetched(b"list", None, None, None)


async def test_validators_are_sent_back_octet_for_octet_and_304_is_not_modified(server: Server) -> None:
    server.answers["/ca.crl"] = http("304 Not Modified", length=False)
    answer = await get(f"{server.base}/ca.crl", etag='"é1"', last_modified="Thu, 01 Jan 2026 00:00:00 GMT")
    assert answer == NotModified()
    assert 'if-none-match: "é1"\r\n'.encode("latin-1") in server.requests[0].lower().replace(b"\xc9", b"\xe9")
    assert b"if-modified-since: thu, 01 jan 2026 00:00:00 gmt\r\n" in server.requests[0].lower()


async def test_304_that_nobody_asked_for_is_refused(server: Server) -> None:
    server.answers["/"] = http("304 Not Modified", length=False)
    assert await failure_of(f"{server.base}/") == f"{server.base}/: status 304 Not Modified"


async def test_a_request_is_posted_with_its_type(server: Server) -> None:
    server.answers["/ocsp"] = http("200 OK", b"answer")
    fetcher = Fetcher(AddressPolicy())
    answer = await fetcher.post(
        f"{server.base}/ocsp", b"question", "application/ocsp-request", timeout=20, max_bytes=100
    )
    assert answer.body == b"answer"
    assert server.requests[0].startswith(b"POST /ocsp HTTP/1.1\r\n")
    assert b"Content-Type: application/ocsp-request\r\n" in server.requests[0]


SENT = "Date: Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "max_age"),
    [
        ((), None),
        (("Cache-Control: no-store",), None),
        (("Cache-Control: max-age=600",), 600),
        (("Cache-Control: max-age=600", "Age: 100"), 500),
        (("Cache-Control: max-age=600", "Age: 700"), 0),
        (("Cache-Control: max-age=600", "Age: old"), 600),
        (("Cache-Control: max-age=600", SENT, "Expires: Thu, 01 Jan 2026 00:01:00 GMT"), 600),
        ((SENT, "Expires: Thu, 01 Jan 2026 00:01:00 GMT"), 60),
        ((SENT, "Expires: Thu, 01 Jan 2026 00:01:00 GMT", "Age: 20"), 40),
        ((SENT, "Expires: Wed, 31 Dec 2025 00:00:00 GMT"), 0),
        ((SENT, "Expires: 0"), None),
        (("Expires: Thu, 01 Jan 2026 00:01:00 GMT",), None),
        ((SENT, "Expires: Thu, 01 Jan 2026 00:01:00 -0000"), None),
        ((SENT, "Expires: Thu, 01 Jan 2026 00:01:00 +9999999999999999"), None),
        ((SENT, "Expires: Thu, 01 Jan 99999999999 00:01:00 GMT"), None),
        (("Cache-Control: max-age=600", "Age: " + "9" * 5000), 600),
    ],
)
async def test_how_long_a_cache_may_hand_out_the_same_is_known(
    server: Server, headers: tuple[str, ...], max_age: int | None
) -> None:
    server.answers["/"] = http("200 OK", b"body", *headers)
    answer = await get(f"{server.base}/")
    assert isinstance(answer, Fetched)
    assert answer.max_age == max_age


_PIECES = [
    "Thu,",
    "01",
    "Jan",
    "2026",
    "00:01:00",
    "GMT",
    "-0000",
    "+9999",
    "99999999999",
    "00:00",
    "max-age=",
    "max-age=5",
    "600",
    "-1",
    ",",
    ":",
]
_VALUES = st.lists(st.sampled_from(_PIECES) | st.text(max_size=4), max_size=8).map(" ".join)


@given(
    st.dictionaries(st.sampled_from(["Cache-Control", "Age", "Expires", "Date", "Last-Modified"]), _VALUES)
)
def test_whatever_stands_in_the_headers_it_is_read_or_passed_over(values: dict[str, str]) -> None:
    pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in values.items()]
    headers = httpx.Headers(pairs, encoding="latin-1")
    max_age = fetch._max_age(headers)
    assert max_age is None or max_age >= 0
    assert fetch._strong_last_modified(headers) in (None, headers.get("Last-Modified"))


@pytest.mark.parametrize(
    ("status", "refused"),
    [
        ("400 Bad Request", True),
        ("405 Method Not Allowed", True),
        ("501 Not Implemented", True),
        ("500 Oops", False),
        ("503 Service Unavailable", False),
        ("429 Too Many Requests", False),
        ("204 No Content", False),
    ],
)
async def test_a_request_that_the_server_does_not_want_is_told_from_one_that_fails(
    server: Server, status: str, *, refused: bool
) -> None:
    server.answers["/"] = http(status, length=False)
    with pytest.raises(FetchError, match=status) as caught:
        await get(f"{server.base}/")
    assert isinstance(caught.value, RefusedError) == refused


CUT_OFF = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
CHUNKED_CUT_OFF = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"
NO_LENGTH = b"HTTP/1.1 200 OK\r\n\r\n"
BOMB = gzip.compress(bytes(64 << 20))
GZIPPED = gzip.compress(b"list")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("404 Not Found"), "status 404 Not Found"),
        (http("500 Oops"), "status 500 Oops"),
        (http("204 No Content", length=False), "status 204 No Content"),
        (http("302 Found"), "status 302 Found"),
        (raw(CUT_OFF), "(received 3 bytes, expected 10)"),
        (raw(CHUNKED_CUT_OFF), "incomplete chunked read"),
        (raw(b""), "Server disconnected without sending a response"),
        (raw(b"220 smtp.example ESMTP\r\n\r\n"), "illegal status line"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"), "Content-Length"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n"), "bad Content-Length"),
        (reset, "Connection reset by peer"),
        (http("200 OK", bytes(64 * KIB + 1)), "larger than 65536 bytes"),
        (raw(NO_LENGTH, bytes(64 * KIB + 1)), "larger than 65536 bytes"),
        (endless, "larger than 65536 bytes"),
        (http("200 OK", BOMB, "Content-Encoding: gzip"), "larger than 65536 bytes"),
        (http("200 OK", GZIPPED[:-3], "Content-Encoding: gzip"), "gzip: the compressed body is cut off"),
        (http("200 OK", GZIPPED + b"x", "Content-Encoding: gzip"), "gzip: more behind the end"),
        (http("200 OK", b"plain", "Content-Encoding: gzip"), "gzip: Error -3"),
        (
            http("200 OK", b"list", "Content-Encoding: br"),
            "expected gzip or no Content-Encoding, but found 'br'",
        ),
        (http("302 Found", b"", "Location: http://h:port/"), "Invalid"),
        (http("302 Found", b"", "Location: mailto:nobody"), ""),
    ],
)
async def test_an_answer_that_is_no_list_is_one_clear_line(server: Server, answer: Answer, said: str) -> None:
    server.answers["/ca.crl"] = answer
    text = await failure_of(f"{server.base}/ca.crl")
    assert text.startswith(f"{server.base}/ca.crl: ")
    assert said in text


@pytest.mark.parametrize("answer", [hang, trickle], ids=["nothing", "a byte now and then"])
async def test_the_timeout_covers_everything(server: Server, answer: Answer) -> None:
    server.answers["/"] = answer
    assert (
        await failure_of(f"{server.base}/", timeout=0.1) == f"{server.base}/: no complete answer within 0.1 s"
    )


async def test_a_body_of_exactly_the_bound_is_taken(server: Server) -> None:
    server.answers["/"] = http("200 OK", bytes(64 * KIB))
    assert await body_of(f"{server.base}/") == bytes(64 * KIB)


async def test_what_is_announced_too_large_is_not_even_read(server: Server) -> None:
    server.answers["/"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n")
    assert "larger than 65536 bytes" in await failure_of(f"{server.base}/")


async def test_html_is_a_body_like_any_other_and_for_the_verifier_to_refuse(server: Server) -> None:
    server.answers["/"] = http("200 OK", b"<html>", "Content-Type: text/html")
    assert await body_of(f"{server.base}/") == b"<html>"


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
async def test_a_compressed_body_is_inflated(server: Server, coding: str) -> None:
    server.answers["/"] = http("200 OK", gzip.compress(b"list" * 1000), f"Content-Encoding: {coding}")
    assert await body_of(f"{server.base}/") == b"list" * 1000


async def test_the_bound_holds_for_what_was_sent_as_well_as_for_what_came_out(server: Server) -> None:
    # Empty stored blocks: octets that inflate to nothing, without end.
    head = zlib.compressobj(wbits=31).flush(zlib.Z_FULL_FLUSH)
    body = head + b"\x00\x00\x00\xff\xff" * 20_000
    server.answers["/"] = raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + body)
    assert "larger than 65536 bytes" in await failure_of(f"{server.base}/")


async def test_redirects_are_followed_up_to_a_bound(server: Server) -> None:
    for hop in range(7):
        server.answers[f"/{hop}"] = http("301 Moved Permanently", b"", f"Location: /{hop + 1}")
    server.answers["/7"] = http("200 OK", b"list")
    assert await body_of(f"{server.base}/2") == b"list"
    assert await failure_of(f"{server.base}/1") == f"{server.base}/1: more than 5 redirects"


async def test_a_redirect_to_a_file_is_refused(server: Server) -> None:
    server.answers["/"] = http("302 Found", b"", "Location: file:///etc/passwd")
    assert "expected http, https or file, but found file" in await failure_of(f"{server.base}/")


async def test_the_password_of_a_url_is_used_and_not_shown(server: Server) -> None:
    server.answers["/ca.crl"] = http("403 Forbidden")
    url = server.base.replace("//", "//user:secret@") + "/ca.crl"
    assert await failure_of(url) == f"{server.base}/ca.crl: status 403 Forbidden"
    assert b"Authorization: Basic dXNlcjpzZWNyZXQ=" in server.requests[0]


async def test_proxies_in_the_environment_are_not_trusted(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    server.answers["/"] = http("200 OK", b"list")
    assert await body_of(f"{server.base}/") == b"list"


async def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as taken:
        # Bound and not listening: nobody else gets the port while the test runs.
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        said = f"cannot connect to 127.0.0.1 port {port}: Connection refused"
        assert await failure_of(f"http://127.0.0.1:{port}/") == f"http://127.0.0.1:{port}/: {said}"


async def test_a_name_that_does_not_exist() -> None:
    resolving([])
    said = "cannot resolve crl.example: Name or service not known"
    assert await failure_of("http://crl.example/") == f"http://crl.example/: {said}"


async def test_a_name_longer_than_any_name() -> None:
    text = await failure_of(f"http://{'a' * 70}.example/")
    assert "is not a host name" in text or "Invalid" in text


async def test_each_address_of_a_name_is_tried(server: Server) -> None:
    port = server.base.rpartition(":")[2]
    server.answers["/"] = http("200 OK", b"list")
    # Nobody listens on the second loopback address.
    resolving(["127.0.0.2", "127.0.0.1"])
    assert await body_of(f"http://crl.example:{port}/", learnt=True) == b"list"


DENIED = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "169.254.169.254",
    "224.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "ff02::1",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
]


@pytest.mark.parametrize("address", DENIED)
async def test_a_learnt_url_does_not_reach_what_is_not_for_it(address: str) -> None:
    resolving(["203.0.113.7", address])
    text = await failure_of("http://crl.example/", learnt=True, policy=AddressPolicy(is_own=lambda _: False))
    assert f"crl.example is {address}, {ONLY_CONFIGURED}" in text


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "localhost"]
)
async def test_no_spelling_of_loopback_goes_through(host: str) -> None:
    text = await failure_of(f"http://{host}:9/", learnt=True, policy=AddressPolicy())
    assert ONLY_CONFIGURED in text or "cannot resolve" in text


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.0.9", "203.0.113.7", "2001:db8::7", "fd12::7"])
def test_private_and_public_networks_are_open_to_learnt_urls(address: str) -> None:
    assert AddressPolicy(is_own=lambda _: False).permits(address)


def test_this_machines_own_addresses_are_denied_and_can_be_allowed() -> None:
    own = ipaddress.ip_address("203.0.113.7")
    policy = AddressPolicy(is_own=lambda address: address == own)
    assert not policy.permits("203.0.113.7")
    assert not policy.permits("::ffff:203.0.113.7")
    assert policy.permits("203.0.113.8")
    assert AddressPolicy(allow=(ipaddress.ip_network("203.0.113.7/32"),), is_own=policy.is_own).permits(
        "203.0.113.7"
    )


def test_the_kernel_knows_which_addresses_are_its_own() -> None:
    assert is_own_address(ipaddress.ip_address("127.0.0.1"))
    assert is_own_address(ipaddress.ip_address("127.200.0.1"))
    assert not is_own_address(ipaddress.ip_address("198.51.100.1"))


def test_when_the_kernel_cannot_be_asked_nothing_is_permitted() -> None:
    def fail(_address: object) -> bool:
        raise OSError(97, os.strerror(97))

    with pytest.raises(FetchError, match="cannot tell whether"):
        AddressPolicy(is_own=fail).permits("203.0.113.7")


async def test_a_name_server_that_changes_its_answer_is_not_asked_twice(server: Server) -> None:
    """DNS rebinding: harmless when checked, loopback when connected."""
    server.answers["/"] = http("200 OK", b"secret")
    port = server.base.rpartition(":")[2]
    resolver = resolving(["203.0.113.7"], ["127.0.0.1"])
    policy = AddressPolicy(is_own=lambda _: False)
    await failure_of(f"http://crl.example:{port}/", learnt=True, policy=policy, timeout=0.1)
    assert resolver.asked == 1
    assert server.requests == []


async def test_a_redirect_of_a_learnt_url_stays_under_the_policy(server: Server) -> None:
    server.answers["/"] = http("302 Found", b"", "Location: http://169.254.169.254/latest/meta-data")
    assert f"169.254.169.254, {ONLY_CONFIGURED}" in await failure_of(f"{server.base}/", learnt=True)


async def test_a_configured_url_may_lead_to_loopback(server: Server) -> None:
    server.answers["/"] = http("200 OK", b"list")
    assert await body_of(f"{server.base}/", policy=AddressPolicy()) == b"list"
    assert ONLY_CONFIGURED in await failure_of(f"{server.base}/", policy=AddressPolicy(), learnt=True)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_https_from_an_authority_that_is_trusted(authority: trustme.CA) -> None:
    async with serving(server_tls(authority, "127.0.0.1")) as server:
        server.answers["/"] = http("200 OK", b"list")
        assert await body_of(f"{server.base}/", tls=client_tls(authority)) == b"list"


async def test_https_is_verified_against_the_systems_authorities(authority: trustme.CA) -> None:
    async with serving(server_tls(authority, "127.0.0.1")) as server:
        text = await failure_of(f"{server.base}/", tls=None)
        assert text == f"{server.base}/: TLS: unable to get local issuer certificate"


async def test_https_from_a_server_of_another_name(authority: trustme.CA) -> None:
    async with serving(server_tls(authority, "crl.example")) as server:
        text = await failure_of(f"{server.base}/", tls=client_tls(authority))
        assert "TLS: IP address mismatch, certificate is not valid for '127.0.0.1'" in text


async def test_https_where_no_tls_is_spoken(server: Server) -> None:
    server.bare = no_tls
    url = f"https://127.0.0.1:{server.port}/"
    assert await failure_of(url) == f"{url}: no TLS is spoken there"


async def test_when_time_is_up_in_the_handshake_the_connection_is_closed(server: Server) -> None:
    closed = trio.Event()

    async def listen_only(stream: trio.abc.Stream) -> None:
        while await stream.receive_some():
            pass
        closed.set()

    server.bare = listen_only
    gc.disable()
    try:
        assert "no complete answer" in await failure_of(f"https://127.0.0.1:{server.port}/", timeout=0.1)
        with trio.fail_after(5):
            await closed.wait()
    finally:
        gc.enable()


async def test_a_redirect_from_https_to_http_is_refused(authority: trustme.CA, server: Server) -> None:
    async with serving(server_tls(authority, "127.0.0.1")) as secure:
        secure.answers["/"] = http("302 Found", b"", f"Location: {server.base}/ca.crl")
        text = await failure_of(f"{secure.base}/", tls=client_tls(authority))
    where = f"redirected to {server.base}/ca.crl"
    assert text == f"{secure.base}/: {where}: refused, because it leads from https to http"
    assert server.requests == []


async def test_a_file_is_read_and_known_again(tmp_path: Path) -> None:
    path = tmp_path / "a list.crl"
    path.write_bytes(b"list")
    url = path.as_uri()
    first = await get(url)
    assert isinstance(first, Fetched)
    assert first.body == b"list"
    assert await get(url, etag=first.etag) == NotModified()
    path.write_bytes(b"another")
    assert await body_of(url, etag=first.etag) == b"another"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "No such file or directory"),
        ("directory", "Is a directory"),
        ("fifo", "not a regular file"),
        ("large", "larger than 65536 bytes"),
    ],
)
async def test_a_file_that_is_no_list_is_one_clear_line(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(bytes(64 * KIB + 1))
    url = (tmp_path / name).as_uri()
    assert await failure_of(url) == f"{url}: {said}"


@pytest.mark.parametrize("url", ["file:ca.crl", "file://host/ca.crl", "file:", "file:///a%00b"])
async def test_a_file_url_that_names_no_file_here(url: str) -> None:
    assert await failure_of(url)


async def test_a_certificate_cannot_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "ca.crl").write_bytes(b"list")
    assert "must not name a file" in await failure_of((tmp_path / "ca.crl").as_uri(), learnt=True)


@given(
    rest=st.text(max_size=40),
    scheme=st.sampled_from(["", "http://", "http:", "ftp://", "//", "ldap:///", "https://["]),
)
def test_no_text_as_url_raises_anything_but_fetch_error(scheme: str, rest: str) -> None:
    async def fetch() -> None:
        resolving([])
        with pytest.raises(FetchError) as caught:
            await get(
                scheme + rest,
                learnt=True,
                policy=AddressPolicy(deny=(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))),
            )
        assert str(caught.value).isprintable()

    trio.run(fetch)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://user@CA.example/a", "ca.example:80"),
        ("https://ca.example/", "ca.example:443"),
        ("HTTP://ca.example:81", "ca.example:81"),
        ("http://[::1]/", "::1:80"),
        ("file:///a", ""),
        ("http://[", ""),
        ("http://ca:port/", ""),
        ("", ""),
    ],
)
def test_a_host_is_its_name_and_its_port(url: str, expected: str) -> None:
    assert host_and_port(url) == expected


@given(st.text())
def test_any_text_has_a_host_or_none(url: str) -> None:
    assert isinstance(host_and_port(url), str)


def test_what_is_shown_of_a_url_is_printable_and_bounded() -> None:
    assert display_url("http://u:p@h/a?b=@c") == "http://h/a?b=@c"
    assert display_url("http://h/\n\x1b[31m x") == "http://h/??[31m?x"
    assert len(display_url("http://h/" + "a" * 5000)) == 301
