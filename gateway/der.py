"""As much of DER (X.690) as is needed to cut and join: bytes in, offsets and bytes out.

Strict, whoever wrote the bytes: lengths are definite, minimal and no longer than
what is around; `ValueError` on anything else, with the byte and what was expected.
"""

from __future__ import annotations

from typing import NamedTuple

INTEGER = 0x02
BIT_STRING = 0x03
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
CONTEXT_0 = 0xA0

# The bit of a length's first octet that says: the others count the octets of the length.
_LONG_FORM = 0x80
_MOST_OCTETS_OF_A_LENGTH = 4
# Of the first octet: the number of the tag is in the octets behind it. Nothing here needs one so high.
_HIGH_TAG = 0x1F


class Element(NamedTuple):
    """Where one element stands: its first byte, its content, the byte behind it."""

    at: int
    content_at: int
    end: int

    @property
    def whole(self) -> slice:
        """All of it."""
        return slice(self.at, self.end)

    @property
    def content(self) -> slice:
        """What is inside."""
        return slice(self.content_at, self.end)


class Field(NamedTuple):
    """What may stand at one place of a SEQUENCE: an element with one of these tags."""

    name: str
    tags: tuple[int, ...]
    optional: bool = False


def encode(tag: int, *contents: bytes | memoryview) -> bytes:
    """One element of `tag` around the joined contents."""
    length = sum(len(content) for content in contents)
    if length < _LONG_FORM:
        header = bytes([tag, length])
    else:
        octets = (length.bit_length() + 7) // 8
        header = bytes([tag, _LONG_FORM | octets]) + length.to_bytes(octets, "big")
    return b"".join((header, *contents))


def read(data: bytes, at: int = 0, end: int | None = None) -> Element:
    """The element that begins at `at` and ends at `end`, which is that of the data, or before.

    Raises:
        ValueError: there is none that fits.
    """
    end = len(data) if end is None else end
    if at + 2 > end or data[at] & _HIGH_TAG == _HIGH_TAG:
        raise ValueError(f"byte {at}: no DER element")
    length, content_at = data[at + 1], at + 2
    if length >= _LONG_FORM:
        octets = data[content_at : min(content_at + length - _LONG_FORM, end)]
        content_at += length - _LONG_FORM
        length = int.from_bytes(octets)
        if length < _LONG_FORM or octets[0] == 0 or len(octets) > _MOST_OCTETS_OF_A_LENGTH:
            raise ValueError(f"byte {at}: an element whose length is not in DER")
    if content_at + length > end:
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
        found.append(read(data, at, parent.end))
        at = found[-1].end
    return found


def fields(data: bytes, parent: Element, name: str, *expected: Field) -> list[Element]:
    """What stands inside `parent`, called `name`: just these fields, in this order.

    One that is optional and not there is empty, at the place where it would be.

    Raises:
        ValueError: something else stands there.
    """
    found: list[Element] = []
    at = parent.content_at
    for field in expected:
        if at < parent.end and data[at] in field.tags:
            found.append(read(data, at, parent.end))
        elif field.optional:
            found.append(Element(at, at, at))
        else:
            there = f"the tag is 0x{data[at]:02x}" if at < parent.end else "nothing is left"
            raise ValueError(f"byte {at}: {field.name} expected, but {there}")
        at = found[-1].end
    if at < parent.end:
        raise ValueError(f"byte {at}: {parent.end - at} bytes too many in {name}")
    return found
