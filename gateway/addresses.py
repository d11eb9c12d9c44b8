"""Resolve, check, connect: every connection that a fetch makes is made here.

A URL that stands in somebody's certificate, or where a server redirects to, must not
turn the gateway into a tool against its own network (the cloud's metadata service, an
admin port on loopback).
The name is resolved once, every address it has is checked, and the connection
goes to a checked address: a name server that answers differently the second time
(DNS rebinding) is never asked a second time.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpcore
import trio

from gateway.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DENIED_BY_DEFAULT: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # unspecified: Linux connects it to this machine
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and the metadata service of most clouds
        "224.0.0.0/4",
        "255.255.255.255/32",
        "100.100.100.200/32",  # metadata, Alibaba
        "168.63.129.16/32",  # the host of a virtual machine, Azure
        "192.0.0.192/32",  # metadata, Oracle
        "::/128",
        "::1/128",
        "fe80::/10",
        "ff00::/8",
        "fd00:ec2::254/128",  # metadata, AWS
        "fd20:ce::254/128",  # metadata, Google
        "fd00:c1::a9fe:a9fe/128",  # metadata, Oracle
    )
)

# IPv6 addresses whose last four octets are an IPv4 address that the packets may end up at: NAT64 (RFC 6052,
# section 2.1, and RFC 8215), IPv4-translated (RFC 2765), IPv4-compatible (RFC 4291, section 2.5.5.1).
_EMBEDDED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96")))
# Of a name; a name server can give thousands, and each is asked about.
_MOST_ADDRESSES = 16
# How much is read at a time: between two reads others get their turn, however small the pieces are in it.
_READ = 16 << 10

# From linux/netlink.h and linux/rtnetlink.h.
_RTM_NEWROUTE, _RTM_GETROUTE, _NLM_F_REQUEST, _RTA_DST, _RTN_LOCAL = 24, 26, 1, 1, 2
_NLMSGHDR, _RTMSG, _RTATTR = struct.Struct("=IHHII"), struct.Struct("=8BI"), struct.Struct("=HH")
_RTM_TYPE = _NLMSGHDR.size + 7


def is_own_address(address: Address) -> bool:
    """Whether `address` is one of this machine's own, as the kernel would route it. Blocking, some 20 µs.

    The kernel is asked for the route rather than a socket bound to the address:
    binding succeeds for any address where net.ipv4.ip_nonlocal_bind is set, as it
    is on machines that share a virtual address.

    Raises:
        OSError: the kernel cannot be asked.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    packed = address.packed
    route = _RTMSG.pack(family, address.max_prefixlen, *(0,) * 7)
    destination = _RTATTR.pack(_RTATTR.size + len(packed), _RTA_DST) + packed
    size = _NLMSGHDR.size + len(route) + len(destination)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
        kernel.send(_NLMSGHDR.pack(size, _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + route + destination)
        answer = kernel.recv(4096)
    kind = _NLMSGHDR.unpack_from(answer)[1]
    # Any other kind is an error: there is no route there, so it is not here either.
    return kind == _RTM_NEWROUTE and answer[_RTM_TYPE] == _RTN_LOCAL


@dataclass(frozen=True)
class AddressPolicy:
    """Where a learnt URL may lead: `allow` is asked first, then `deny`, then whether it is this machine.

    An IPv4 address inside an IPv6 one is asked about as well.
    """

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = DENIED_BY_DEFAULT
    is_own: Callable[[Address], bool] = is_own_address

    def permits(self, text: str) -> bool:
        """Whether a connection to the address `text`, as getaddrinfo writes it, may be made.

        Raises:
            FetchError: it cannot be told whether the address is this machine's own.
        """
        written = ipaddress.ip_address(text)
        address = (written.version == 6 and written.ipv4_mapped) or written  # noqa: PLR2004 - IPv6
        return all(map(self._permits, (address, *_inside(address))))

    def _permits(self, address: Address) -> bool:
        if any(address in network for network in self.allow):
            return True
        if any(address in network for network in self.deny):
            return False
        try:
            return not self.is_own(address)
        except OSError as exc:
            raise FetchError(f"cannot tell whether {address} is this machine's own: {exc.strerror}") from exc


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """httpcore's connections, to addresses that `policy` permits, or of the host `exempt`.

    Over none more than `most` bytes are received. Time is bounded by the caller's
    cancel scope alone, the `timeout` arguments are not used. Raises FetchError,
    without the URL.
    """

    def __init__(self, policy: AddressPolicy, exempt: str | None, most: int) -> None:
        self._policy = policy
        self._exempt = exempt
        self._most = most
        self._tcp = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve `host`, check every address it has, connect to the first that answers."""
        addresses = await _resolve(host, port)
        if host != self._exempt:
            for address in addresses:
                if not self._policy.permits(address):
                    raise FetchError(f"{host} is {address}, where only a configured URL may lead")
        failure = "no address"
        for position, address in enumerate(addresses):
            # One address that swallows packets must not eat the time of the next.
            time_left = trio.current_effective_deadline() - trio.current_time()
            failure = f"cannot connect to {address} port {port}: no answer"
            with trio.move_on_after(time_left / (len(addresses) - position)):
                try:
                    return _Stream(
                        await self._tcp.connect_tcp(
                            address, port, local_address=local_address, socket_options=socket_options
                        ),
                        self._most,
                    )
                except httpcore.ConnectError as exc:
                    failure = f"cannot connect to {address} port {port}: {root_cause(exc)}"
        raise FetchError(failure)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection of httpcore's over which `most` bytes come at most, and little at a time.

    It is closed, too, when time is up during its TLS handshake.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream, most: int) -> None:
        self._stream = stream
        self._most = most
        self._left = most

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        data = await self._stream.read(min(max_bytes, _READ), timeout)
        self._left -= len(data)
        if self._left < 0:
            raise FetchError(f"more than {self._most} bytes, and most of them no body")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
    ) -> httpcore.AsyncNetworkStream:
        try:
            return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._most)
        except BaseException:
            # httpcore closes it for errors, not for a cancellation.
            with trio.CancelScope(shield=True):
                await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


async def _resolve(host: str, port: int) -> list[str]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise FetchError(f"cannot resolve {host}: {exc.strerror}") from exc
    except UnicodeError as exc:
        raise FetchError(f"{host} is not a host name: {exc}") from exc
    return list(dict.fromkeys(str(address[4][0]) for address in found))[:_MOST_ADDRESSES]


def _inside(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that may be meant: rules for IPv4 must hold however it is written."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = list(address.teredo or ())
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    # ::1 is no 0.0.0.1.
    if any(address in network for network in _EMBEDDED) and address.packed[:15] != bytes(15):
        found.append(ipaddress.IPv4Address(address.packed[-4:]))
    return found


def root_cause(exc: BaseException) -> str:
    """What an operator wants to read of `exc`: what the system or TLS said below it, else its own text."""
    said = str(exc) or type(exc).__name__
    # httpcore raises "from None", which leaves the context; trio puts failed connects into a group.
    cause: BaseException = exc
    deeper: BaseException | None = exc
    while deeper is not None:
        cause = deeper
        deeper = (
            cause.exceptions[0] if isinstance(cause, ExceptionGroup) else cause.__cause__ or cause.__context__
        )
    match cause:
        case ssl.SSLCertVerificationError():
            said = f"TLS: {cause.verify_message}"
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
            # OpenSSL's name for an answer that is no TLS record.
            said = "no TLS is spoken there"
        case ssl.SSLError():
            said = f"TLS: {(cause.reason or cause.strerror or said).replace('_', ' ').lower()}"
        case OSError(errno=int(number)):
            # trio puts the address into strerror; whoever calls has it already.
            said = os.strerror(number)
    return said.rstrip(".")
