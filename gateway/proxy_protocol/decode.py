"""A header that a load balancer sends before the client's first byte: bytes in, the client's address out.

`wanted` says how many octets may be read without reading past its end, `parse_untrusted`
what it says. Both raise ProxyHeaderError and nothing else, whatever the bytes.
"""

from __future__ import annotations

import re
import socket
import struct
from typing import NamedTuple

import google_crc32c

from gateway.errors import ProxyHeaderError
from gateway.proxy_protocol.encode import CRC32C, LOCAL, PROXY, SIGNATURE, TCP4, TCP6, UNSPEC, Endpoint

LONGEST = 4096
"""Octets of a header of version 2 that is read; TLVs, which nobody reads here, may fill it."""

# Section 2.1: "worst case … 107 chars"
_LONGEST_V1 = 107
_PREFIX_V1 = b"PROXY "
_SHORTEST_V1 = len(b"PROXY UNKNOWN\r\n")
_V1 = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})\r\n"
)
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_FIXED = 16
_UNIX_STREAM = 0x31
_ADDRESSES = {UNSPEC: 0, TCP4: 12, TCP6: 36, _UNIX_STREAM: 216}
_HIGHEST_PORT = 0xFFFF


class Header(NamedTuple):
    """What a header says: None where it tells no IP address, and the connection's own counts."""

    client: Endpoint | None
    gateway: Endpoint | None


def wanted(read: bytes) -> int:
    """How many octets more belong to the header for sure; 0: it is whole. Raises ProxyHeaderError."""
    if read.startswith(SIGNATURE[: len(read)] if len(read) < len(SIGNATURE) else SIGNATURE):
        return _wanted_v2(read)
    if not read.startswith(_PREFIX_V1[: len(read)]):
        raise ProxyHeaderError("no PROXY protocol header")
    if read.endswith(b"\r\n"):
        return 0
    if b"\n" in read or len(read) >= _LONGEST_V1:
        raise ProxyHeaderError(f"a line of more than {_LONGEST_V1} octets, or not ended by CR LF")
    return max(1 if read.endswith(b"\r") else 2, _SHORTEST_V1 - len(read))


def parse_untrusted(header: bytes) -> Header:
    """Read a header of which nothing is wanted any more. Raises ProxyHeaderError."""
    if wanted(header):
        raise ProxyHeaderError("a header that is not whole")
    return _parse_v2(header) if header.startswith(SIGNATURE) else _parse_v1(header)


def _parse_v1(line: bytes) -> Header:
    if _V1_UNKNOWN.fullmatch(line):
        return Header(None, None)
    found = _V1.fullmatch(line)
    if found is None:
        raise ProxyHeaderError("a line that is none of PROXY TCP4, TCP6 or UNKNOWN")
    family = socket.AF_INET if found[1] == b"TCP4" else socket.AF_INET6
    try:
        source, target = (socket.inet_pton(family, found[number].decode()) for number in (2, 3))
    except OSError as exc:
        raise ProxyHeaderError(f"an address that is none of {found[1].decode()}") from exc
    ports = int(found[4]), int(found[5])
    if max(ports) > _HIGHEST_PORT:
        raise ProxyHeaderError(f"a port above {_HIGHEST_PORT}")
    return Header(Endpoint(source, ports[0]), Endpoint(target, ports[1]))


def _wanted_v2(read: bytes) -> int:
    # The shortest that it can be, where it may still be a line of version 1.
    if len(read) < _FIXED:
        return (_FIXED if len(read) >= len(SIGNATURE) else len(SIGNATURE)) - len(read)
    command, family, length = struct.unpack_from("!BBH", read, len(SIGNATURE))
    if command not in (LOCAL, PROXY):
        raise ProxyHeaderError(f"version and command {command:#04x}, expected 0x20 or 0x21")
    if _FIXED + length > LONGEST:
        raise ProxyHeaderError(f"a header of {_FIXED + length} octets, more than {LONGEST}")
    if command == PROXY and length < _ADDRESSES.get(family, length):
        raise ProxyHeaderError(f"a header of {_FIXED + length} octets, too short for its addresses")
    return _FIXED + int(length) - len(read)


def _parse_v2(header: bytes) -> Header:
    command, family = header[12], header[13]
    if command == LOCAL:
        return Header(None, None)
    if family not in _ADDRESSES:
        raise ProxyHeaderError(f"family and protocol {family:#04x}, expected a stream")
    if family not in (TCP4, TCP6):
        return Header(None, None)
    end = _FIXED + _ADDRESSES[family]
    _check(header, end)
    octets = 4 if family == TCP4 else 16
    source, target = header[_FIXED : _FIXED + octets], header[_FIXED + octets : _FIXED + 2 * octets]
    ports = struct.unpack("!HH", header[end - 4 : end])
    return Header(Endpoint(source, ports[0]), Endpoint(target, ports[1]))


def _check(header: bytes, at: int) -> None:
    """Walk the TLVs: their lengths add up, and the checksum is right if there is one (section 2.2.3)."""
    while at < len(header):
        if at + 3 > len(header):
            raise ProxyHeaderError("a TLV that is cut off")
        kind, length = struct.unpack_from("!BH", header, at)
        value, at = at + 3, at + 3 + length
        if at > len(header):
            raise ProxyHeaderError("a TLV that is cut off")
        if kind == CRC32C:
            expected = header[value:at]
            zeroed = header[:value] + bytes(length) + header[at:]
            if struct.pack("!I", google_crc32c.value(zeroed)) != expected:
                raise ProxyHeaderError("a wrong checksum")
