"""The header, versions 1 and 2, as it goes to a broker: values in, bytes out.

What a client chose itself, or its CA, is told only where it is plain text: a name with a
control character in it is left out, never altered, because a broker may take it for who the
client is.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

import google_crc32c

if TYPE_CHECKING:
    from collections.abc import Iterable

# Section 2.2: the signature, then version 2 with LOCAL or PROXY, and family with STREAM.
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, TCP6 = 0x00, 0x11, 0x21
_LONGEST = 0xFFFF
_TLV_HEAD = 3
_CHECKSUM = _TLV_HEAD + 4

# Sections 2.2.1 to 2.2.6.
_ALPN, _AUTHORITY, CRC32C, _UNIQUE_ID, _SSL = 0x01, 0x02, 0x03, 0x05, 0x20
_VERSION, _CN, _CIPHER, _SIG_ALG, _KEY_ALG, _CLIENT_CERT = 0x21, 0x22, 0x23, 0x24, 0x25, 0x28
_CLIENT_SSL, _CLIENT_CERT_CONN, _CLIENT_CERT_SESS = 0x01, 0x02, 0x04

# X.520 allows 64 characters in a common name, DNS 255 in a host's.
_LONGEST_TEXT = 256
_IPV4_OCTETS, _IPV6_OCTETS = 4, 16
_V4_MAPPED = bytes(10) + b"\xff\xff"


class Endpoint(NamedTuple):
    """An IP address, 4 or 16 octets in network order, and a port."""

    address: bytes
    port: int


class Tls(NamedTuple):
    """What a broker is told of a client's TLS."""

    version: str
    """ "TLSv1.3" """
    cipher: str
    """OpenSSL's name of the cipher suite."""
    server_name: str
    """That the client asked for (RFC 6066, section 3); empty where it did not."""
    alpn: bytes
    """The application protocol that was agreed on (RFC 7301); empty without one."""
    has_certificate: bool
    """Whether the client showed one, in this connection or in the one whose session it resumes."""
    resumed: bool
    verify: int
    """0: its certificate is good; else OpenSSL's code of what is wrong with it, or with its lists."""
    common_name: str
    """Of its certificate's subject; empty without one."""
    certificate: bytes
    """It (DER) where the broker is to have it, else empty."""
    signature_algorithm: str
    """What the gateway's own certificate is signed with: "RSA-SHA256"; empty: not told."""
    key_algorithm: str
    """What its key is: "EC256"; empty: not told."""


def encode_v1(client: Endpoint | None, gateway: Endpoint | None) -> bytes:
    """The line of version 1 (section 2.1) about a client that connected to `gateway`; None: not known."""
    if client is None or gateway is None:
        return b"PROXY UNKNOWN\r\n"
    source, target = _one_family(client, gateway)
    kind, family = ("TCP4", socket.AF_INET) if len(source) == _IPV4_OCTETS else ("TCP6", socket.AF_INET6)
    addresses = f"{socket.inet_ntop(family, source)} {socket.inet_ntop(family, target)}"
    return f"PROXY {kind} {addresses} {client.port} {gateway.port}\r\n".encode()


def encode_v2(client: Endpoint | None, gateway: Endpoint | None, tls: Tls, unique_id: bytes) -> bytes:
    """The header of version 2 (section 2.2) about a client that connected to `gateway`; None: not known.

    `unique_id` has at most 128 octets. A certificate that would make it longer than a
    header may be is left out.
    """
    if client is None or gateway is None:
        family, addresses = UNSPEC, b""
    else:
        source, target = _one_family(client, gateway)
        family = TCP4 if len(source) == _IPV4_OCTETS else TCP6
        addresses = source + target + struct.pack("!HH", client.port, gateway.port)
    before = addresses + _tlvs([(_ALPN, tls.alpn), (_AUTHORITY, _plain(tls.server_name))])
    behind, ssl = _tlvs([(_UNIQUE_ID, unique_id)]), _ssl(tls)
    if len(before) + _CHECKSUM + len(behind) + _TLV_HEAD + len(ssl) > _LONGEST:
        ssl = _ssl(tls._replace(certificate=b""))
    return _checked(PROXY, family, before, behind + _tlvs([(_SSL, ssl)]))


def encode_v1_local() -> bytes:
    """What version 1 has for a connection of the gateway's own: a health check."""
    return encode_v1(None, None)


def encode_v2_local() -> bytes:
    """LOCAL (section 2.2): the gateway connects for itself, there is no client."""
    return _checked(LOCAL, UNSPEC, b"", b"")


def _one_family(client: Endpoint, gateway: Endpoint) -> tuple[bytes, bytes]:
    """Both addresses in the one family that the header has room for: IPv4 where both are, mapped or not.

    They differ behind a load balancer that is reached over IPv6 and reaches us over IPv4.
    """
    source, target = _short(client.address), _short(gateway.address)
    if len(source) != len(target):
        return _long(source), _long(target)
    return source, target


def _short(address: bytes) -> bytes:
    return address.removeprefix(_V4_MAPPED)


def _long(address: bytes) -> bytes:
    return address if len(address) == _IPV6_OCTETS else _V4_MAPPED + address


def _ssl(tls: Tls) -> bytes:
    """PP2_TYPE_SSL (section 2.2.6): what the client has done, whether it is good, and TLVs of its own."""
    client = _CLIENT_SSL
    if tls.has_certificate:
        client |= _CLIENT_CERT_SESS if tls.resumed else _CLIENT_CERT_SESS | _CLIENT_CERT_CONN
    # "zero if the client presented a certificate and it was successfully verified, and non-zero otherwise"
    verify = tls.verify if tls.has_certificate else 1
    return struct.pack("!BI", client, verify) + _tlvs(
        [
            (_VERSION, tls.version.encode()),
            (_CN, _plain(tls.common_name)),
            (_CIPHER, tls.cipher.encode()),
            (_SIG_ALG, tls.signature_algorithm.encode()),
            (_KEY_ALG, tls.key_algorithm.encode()),
            (_CLIENT_CERT, tls.certificate),
        ]
    )


def _plain(text: str) -> bytes:
    """The text where a broker may read it as it stands, else nothing."""
    octets = text.encode(errors="ignore")
    return octets if text.isprintable() and len(octets) <= _LONGEST_TEXT else b""


def _tlvs(values: Iterable[tuple[int, bytes]]) -> bytes:
    """Those that are not empty; one that is too long for its length is left out."""
    return b"".join(
        struct.pack("!BH", kind, len(value)) + value for kind, value in values if 0 < len(value) <= _LONGEST
    )


def _checked(command: int, family: int, before: bytes, behind: bytes) -> bytes:
    """The header with its checksum between what stands before and behind it.

    It is taken with zeros in its own place (section 2.2.3). TLVs are in the order of their
    types: there are readers that take it over those so sorted.
    """
    length = len(before) + _CHECKSUM + len(behind)
    head = SIGNATURE + struct.pack("!BBH", command, family, length) + before + struct.pack("!BH", CRC32C, 4)
    return head + struct.pack("!I", google_crc32c.value(head + bytes(4) + behind)) + behind
