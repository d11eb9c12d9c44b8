"""What of a client matters to a broker: the PROXY protocol's header, and which broker is its own."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from gateway import proxy_protocol
from gateway.names import load_untrusted
from gateway.proxy_protocol import Tls
from gateway.tls import openssl
from gateway.tls.handshake import examine
from gateway.upstream.balance import identity

if TYPE_CHECKING:
    from gateway.native import Conn

Version = Literal["off", "v1", "v2"]

_UNIQUE_ID_OCTETS = 16


def preface(conn: Conn, version: Version, *, certificate: bool) -> bytes:
    """The header for a client whose handshake is over; nothing where `version` is off.

    `certificate`: version 2 has the client's certificate in it, whole.
    """
    if version == "off":
        return b""
    client, gateway = conn.endpoints()
    if version == "v1":
        return proxy_protocol.encode_v1(client, gateway)
    return proxy_protocol.encode_v2(
        client, gateway, _tls(conn, certificate=certificate), os.urandom(_UNIQUE_ID_OCTETS)
    )


def preface_of_our_own(version: Version) -> bytes:
    """The header for a connection without a client: a health check."""
    if version == "off":
        return b""
    return proxy_protocol.encode_v1_local() if version == "v1" else proxy_protocol.encode_v2_local()


def known_by(conn: Conn) -> bytes:
    """What a client that has come in is known by: `balance.identity`, without a certificate its address."""
    leaf = examine(conn).leaf
    if leaf:
        return identity(leaf)
    client, _gateway = conn.endpoints()
    return client.address if client else b""


def known_by_nothing(_conn: Conn) -> bytes:
    """Where it does not matter who it is."""
    return b""


def _tls(conn: Conn, *, certificate: bool) -> Tls:
    info, established = examine(conn), openssl.established(conn.ssl)
    signature, key = _algorithms(established.own_certificate)
    return Tls(
        version=info.version,
        cipher=established.cipher,
        server_name=_host_name(established.server_name),
        alpn=established.alpn,
        has_certificate=bool(info.leaf),
        resumed=info.resumed,
        verify=info.verdict.error_code,
        common_name=common_name(info.leaf),
        certificate=info.leaf if certificate else b"",
        signature_algorithm=signature,
        key_algorithm=key,
    )


def _host_name(octets: bytes) -> str:
    """The server name; empty where it is none: a host's is ASCII (RFC 6066, section 3)."""
    return octets.decode() if octets.isascii() else ""


def common_name(certificate: bytes) -> str:
    """The first common name of a certificate's subject; empty where there is none that can be read."""
    if not certificate:
        return ""
    try:
        subject = load_untrusted(certificate).subject
        found = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except (ValueError, TypeError):
        return ""  # OpenSSL reads more than cryptography does
    value = found[0].value if found else ""
    return value if isinstance(value, str) else ""


# A worker has a few contexts for as long as it lives: an address is always the same certificate's.
@lru_cache(maxsize=256)
def _algorithms(address: int) -> tuple[str, str]:
    """What our own certificate is signed with, and its key, named as HAProxy names them."""
    certificate = openssl.certificate_at(address)
    return _signature_name(certificate), _key_name(certificate)


def _signature_name(certificate: x509.Certificate) -> str:
    digest = certificate.signature_hash_algorithm
    if digest is None:
        return ""
    match certificate.signature_algorithm_parameters:
        case padding.PKCS1v15():
            return f"RSA-{digest.name.upper()}"
        case padding.PSS():
            return "RSASSA-PSS"
        case _:
            return f"ecdsa-with-{digest.name.upper()}"


def _key_name(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case rsa.RSAPublicKey(key_size=bits):
            return f"RSA{bits}"
        case ec.EllipticCurvePublicKey(key_size=bits):
            return f"EC{bits}"
        case _:
            return ""
