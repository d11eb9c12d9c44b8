"""Socket addresses in octets: the kernel takes what is packed, and what it gives is spelled."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest

from gateway.config.model import Address
from gateway.native import sockaddr

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address("192.0.2.1", 40000), "192.0.2.1:40000"),
        (Address("2001:db8::1", 1883), "[2001:db8::1]:1883"),
        (Address("::ffff:192.0.2.1", 1), "[::ffff:192.0.2.1]:1"),
    ],
)
def test_a_number_is_spelled_as_it_was_packed(address: Address, text: str) -> None:
    octets = sockaddr.packed(address)
    assert octets is not None
    assert sockaddr.spelled(octets) == text


def test_it_has_the_layout_that_the_kernel_knows() -> None:
    head = struct.pack("=H", socket.AF_INET) + b"\x07\x5b\x7f\0\0\x01"
    assert sockaddr.packed(Address("127.0.0.1", 1883)) == head + bytes(8)
    head = struct.pack("=H", socket.AF_INET6) + b"\x07\x5b" + bytes(4)
    assert sockaddr.packed(Address("::1", 1883)) == head + bytes(15) + b"\x01" + bytes(4)


def test_the_interface_of_a_local_address_is_kept() -> None:
    octets = sockaddr.packed(Address("fe80::1%lo", 1883))
    assert octets is not None
    assert octets[24:] == struct.pack("=I", socket.if_nametoindex("lo"))
    assert sockaddr.spelled(octets) == "[fe80::1]:1883"


def test_a_path_is_an_address_as_long_as_the_kernel_has_room_for_it(tmp_path: Path) -> None:
    longest = str(tmp_path) + "/"
    longest += "x" * (107 - len(longest))
    expected = struct.pack("=H", socket.AF_UNIX) + longest.encode() + b"\0"
    assert sockaddr.packed(Address(path=longest)) == expected
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(longest)
    assert sockaddr.packed(Address(path=longest + "x")) is None


def test_a_name_has_no_address_of_its_own() -> None:
    assert sockaddr.packed(Address("localhost", 1883)) is None


@pytest.mark.parametrize("family", [0, socket.AF_UNIX])
def test_who_has_no_number_is_not_spelled(family: int) -> None:
    assert sockaddr.spelled(struct.pack("=H", family) + bytes(26)) == ""
