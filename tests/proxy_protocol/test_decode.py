"""A load balancer's header is read to its end and not an octet further, or refused."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxyprotocol.result import ProxyResultIPv4, ProxyResultIPv6, ProxyResultLocal, ProxyResultUnknown
from proxyprotocol.tlv import ProxyProtocolTLV
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from gateway.errors import ProxyHeaderError
from gateway.proxy_protocol import (
    LONGEST,
    Endpoint,
    Header,
    encode_v1,
    encode_v1_local,
    encode_v2,
    encode_v2_local,
    parse_untrusted,
    wanted,
)
from tests.proxy_protocol.test_encode import HERE, ID, PLAIN, V4, V6

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PORTS = st.integers(0, 65535)
V4_PAIRS = st.tuples(st.tuples(st.ip_addresses(v=4), PORTS), st.tuples(st.ip_addresses(v=4), PORTS))
V6_PAIRS = st.tuples(st.tuples(st.ip_addresses(v=6), PORTS), st.tuples(st.ip_addresses(v=6), PORTS))
TLVS = st.dictionaries(
    st.integers(0x04, 0xF0).filter(lambda kind: kind != 0x20), st.binary(max_size=60), max_size=5
)
GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(lambda rest: b"PROXY " + rest),
    st.binary(max_size=300).map(lambda rest: SIGNATURE + rest),
    st.text("TCP46 UNKOW.:0123456789abcdef\r\n", max_size=110).map(lambda rest: f"PROXY {rest}".encode()),
)
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def read_from(stream: bytes) -> tuple[bytes, bytes]:
    """The header as a reader takes it, and what is left."""
    read = b""
    while missing := wanted(read):
        if len(read) == len(stream):
            raise EOFError
        assert missing > 0
        read += stream[len(read) : len(read) + missing]
    return read, stream[len(read) :]


def told(pair: tuple[tuple[object, int], tuple[object, int]]) -> Header:
    (client, client_port), (gateway, gateway_port) = pair
    return Header(
        Endpoint(ip_address(str(client)).packed, client_port),
        Endpoint(ip_address(str(gateway)).packed, gateway_port),
    )


@given(V4_PAIRS | V6_PAIRS, TLVS, st.binary(max_size=40))
def test_what_another_implementation_sends_is_read(
    pair: tuple[tuple[object, int], tuple[object, int]], tlvs: dict[int, bytes], rest: bytes
) -> None:
    kind: Any = ProxyResultIPv4 if ip_address(str(pair[0][0])).version == 4 else ProxyResultIPv6
    result = kind(*pair, protocol=socket.SOCK_STREAM, tlv=ProxyProtocolTLV(init=tlvs))
    for header in ProxyProtocolV1().pack(result), ProxyProtocolV2().pack(result):
        assert read_from(header + rest) == (header, rest)
        assert parse_untrusted(header) == told(pair)


@pytest.mark.parametrize("kind", [ProxyResultLocal(), ProxyResultUnknown()])
def test_what_tells_no_address_is_read_too(kind: ProxyResultLocal | ProxyResultUnknown) -> None:
    for header in ProxyProtocolV1().pack(ProxyResultUnknown()), ProxyProtocolV2().pack(kind):
        assert read_from(header + CLIENT_HELLO) == (header, CLIENT_HELLO)
        assert parse_untrusted(header) == Header(None, None)


OURS = [
    encode_v1(V4, HERE),
    encode_v1(V6, V6),
    encode_v2(V4, HERE, PLAIN, ID),
    encode_v2(V6, HERE, PLAIN._replace(certificate=bytes(1000)), ID),
    encode_v2(None, HERE, PLAIN, ID),
    encode_v1_local(),
    encode_v2_local(),
]


@pytest.mark.parametrize("header", OURS)
def test_our_own_headers_are_read_whatever_comes_behind(header: bytes) -> None:
    assert read_from(header + CLIENT_HELLO) == (header, CLIENT_HELLO)
    assert isinstance(parse_untrusted(header), Header)


@pytest.mark.parametrize("header", OURS)
def test_a_header_that_is_cut_off_is_never_taken_for_whole(header: bytes) -> None:
    for end in range(len(header)):
        assert wanted(header[:end]) > 0
        with pytest.raises(ProxyHeaderError):
            parse_untrusted(header[:end])


@given(st.sampled_from(OURS), st.data())
def test_a_bit_that_fell_over_makes_another_header_or_none(header: bytes, data: st.DataObject) -> None:
    at, bit = data.draw(st.integers(0, len(header) - 1)), data.draw(st.integers(0, 7))
    changed = header[:at] + bytes([header[at] ^ 1 << bit]) + header[at + 1 :]
    with contextlib.suppress(ProxyHeaderError, EOFError):
        read, _rest = read_from(changed)
        found = parse_untrusted(read)
        if header.startswith(SIGNATURE) and found.client is not None:
            # The checksum sees it, unless it is its own TLV that is none any more.
            assert b"\x03\x00\x04" not in read


@given(GARBAGE)
def test_garbage_is_refused_and_nothing_worse(garbage: bytes) -> None:
    with contextlib.suppress(ProxyHeaderError, EOFError):
        header, _rest = read_from(garbage)
        assert len(header) <= LONGEST
        client = parse_untrusted(header).client
        assert client is None or len(client.address) in (4, 16)


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2) + body


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (CLIENT_HELLO, "no PROXY protocol header"),
        (b"GET / HTTP/1.1\r\n", "no PROXY protocol header"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", "a port above 65535"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n", "a line that is none of"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n", "a line that is none of"),
        (b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n", "a line that is none of"),
        (b"PROXY TCP4 1.2.3.400 5.6.7.8 1 2\r\n", "an address that is none of TCP4"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "an address that is none of TCP4"),
        (b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", "an address that is none of TCP6"),
        (b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n", "a line that is none of"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "not ended by CR LF"),
        (b"PROXY UNKNOWN " + b"x" * 93, "more than 107 octets"),
        (b"PROXY UNKNOWN a\rb\r\n", "a line that is none of"),
        (v2(0x22, 0x11, bytes(12)), "version and command 0x22"),
        (v2(0x11, 0x11, bytes(12)), "version and command 0x11"),
        (v2(0x21, 0x12, bytes(12)), "family and protocol 0x12"),
        (v2(0x21, 0x11, bytes(11)), "too short for its addresses"),
        (v2(0x21, 0x21, bytes(35)), "too short for its addresses"),
        (v2(0x21, 0x31, bytes(215)), "too short for its addresses"),
        (v2(0x21, 0x11, bytes(12) + b"\x01\0"), "a TLV that is cut off"),
        (v2(0x21, 0x11, bytes(12) + b"\x01\0\x02a"), "a TLV that is cut off"),
        (v2(0x21, 0x11, bytes(12) + b"\x03\0\x04aaaa"), "a wrong checksum"),
        (v2(0x21, 0x11, bytes(12) + b"\x03\0\x00"), "a wrong checksum"),
        (v2(0x21, 0x11, bytes(LONGEST - 15)), "more than 4096"),
        (v2(0x20, 0x00, bytes(65535)), "more than 4096"),
    ],
)
def test_what_is_no_header_is_refused_with_a_reason(header: bytes, error: str) -> None:
    with pytest.raises(ProxyHeaderError, match=error):
        parse_untrusted(read_from(header)[0])


def test_the_longest_header_is_read() -> None:
    header = v2(0x21, 0x11, bytes(12) + b"\x04" + (LONGEST - 31).to_bytes(2) + bytes(LONGEST - 31))
    assert len(header) == LONGEST
    assert parse_untrusted(read_from(header)[0]).client == Endpoint(bytes(4), 0)


def test_a_unix_socket_is_no_address() -> None:
    assert parse_untrusted(v2(0x21, 0x31, bytes(216))) == Header(None, None)
