"""Socket addresses as the kernel has them, for the calls in C that take or give them (sys/socket.h)."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

from gateway.proxy_protocol import Endpoint

if TYPE_CHECKING:
    from gateway.config.model import Address

_IPV4_OCTETS = 4
_PATH_SIZE = 108
"""Of sun_path, which ends with a zero octet."""


def numeric(address: Address) -> tuple[int, tuple[Any, ...]] | None:
    """Family and address of a host and port, as Python's sockets have them; None for a name."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        return None
    return found[0][0], found[0][4]


def packed(address: Address) -> bytes | None:
    """What connect(2) takes; None for a name, which has to be resolved, and for a path that is too long."""
    if address.path:
        path = address.path.encode() + b"\0"
        return struct.pack("=H", socket.AF_UNIX) + path if len(path) <= _PATH_SIZE else None
    found = numeric(address)
    if found is None:
        return None
    family, (host, port, *scope) = found
    head = struct.pack("=H", family) + struct.pack("!H", port)
    octets = socket.inet_pton(family, str(host).partition("%")[0])
    if family == socket.AF_INET:
        return head + octets + bytes(8)
    flow_info, scope_id = scope
    return head + struct.pack("!I", flow_info) + octets + struct.pack("=I", scope_id)


def endpoint(octets: bytes) -> Endpoint | None:
    """The address and port in a sockaddr; None where there is none."""
    (family,) = struct.unpack_from("=H", octets)
    (port,) = struct.unpack_from("!H", octets, 2)
    if family == socket.AF_INET:
        return Endpoint(octets[4:8], port)
    if family == socket.AF_INET6:
        return Endpoint(octets[8:24], port)
    return None


def from_endpoint(endpoint: Endpoint) -> bytes:
    """The sockaddr of an address and port."""
    port = struct.pack("!H", endpoint.port)
    if len(endpoint.address) == _IPV4_OCTETS:
        return struct.pack("=H", socket.AF_INET) + port + endpoint.address
    return struct.pack("=H", socket.AF_INET6) + port + bytes(4) + endpoint.address + bytes(4)


def own_end(fd: int) -> Endpoint | None:
    """Our own address and port of the socket `fd`, which stays open; None where it is not of IP."""
    borrowed = socket.socket(fileno=fd)
    try:
        host, port, *_ = borrowed.getsockname()
        return Endpoint(socket.inet_pton(borrowed.family, host.partition("%")[0]), port)
    except (OSError, ValueError):
        return None
    finally:
        borrowed.detach()


def spelled(octets: bytes) -> str:
    """The address in a sockaddr: "192.0.2.1:40000", "[2001:db8::1]:40000"; "" where there is none."""
    found = endpoint(octets)
    if found is None:
        return ""
    if len(found.address) == _IPV4_OCTETS:
        return f"{socket.inet_ntop(socket.AF_INET, found.address)}:{found.port}"
    return f"[{socket.inet_ntop(socket.AF_INET6, found.address)}]:{found.port}"
