"""As much of DER (X.690) as is needed to cut and join: bytes in, offsets and bytes out.

What is read here has been parsed by cryptography or by the extension before, so
that every length is known to be good; `ValueError` on anything else.
"""

from __future__ import annotations

from typing import NamedTuple

SEQUENCE = 0x30
INTEGER = 0x02
CONTEXT_0 = 0xA0

# The bit of a length's first octet that says: the others count the octets of the length.
_LONG_FORM = 0x80


class Element(NamedTuple):
    """Where one element stands: its first byte, its content, the byte behind it."""

    at: int
    content_at: int
    end: int


def encode(tag: int, *contents: bytes | memoryview) -> bytes:
    """One element of `tag` around the joined contents."""
    length = sum(len(content) for content in contents)
    if length < _LONG_FORM:
        header = bytes([tag, length])
    else:
        octets = (length.bit_length() + 7) // 8
        header = bytes([tag, _LONG_FORM | octets]) + length.to_bytes(octets, "big")
    return b"".join((header, *contents))


def read(data: bytes, at: int = 0) -> Element:
    """The element that begins at `at`.

    Raises:
        ValueError: there is none that fits.
    """
    if at + 2 > len(data):
        raise ValueError(f"byte {at}: no DER element")
    length, content_at = data[at + 1], at + 2
    if length & _LONG_FORM:
        content_at += length - _LONG_FORM
        length = int.from_bytes(data[at + 2 : content_at], "big")
    if content_at + length > len(data):
        raise ValueError(f"byte {at}: a DER element longer than what is left")
    return Element(at, content_at, content_at + length)


def children(data: bytes, parent: Element, count: int) -> list[Element]:
    """The first `count` elements inside `parent`.

    Raises:
        ValueError: there are fewer.
    """
    found: list[Element] = []
    at = parent.content_at
    while len(found) < count:
        if at >= parent.end:
            raise ValueError(f"byte {at}: {count} DER elements expected, there are {len(found)}")
        found.append(read(data, at))
        at = found[-1].end
    return found
