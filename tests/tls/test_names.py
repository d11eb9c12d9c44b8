"""The table of names in C finds what RFC 9525, section 6.3, says: against a model in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.native import ServerNames

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 255

# Few labels, so that they meet; and what else may be sent for a name.
LABELS = st.sampled_from(["a", "b", "example", "com", "xn--bcher-kva", "a" * 63])
HOSTS = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
NAMES = st.one_of(HOSTS, HOSTS.map("*.{}".format))
TABLES = st.dictionaries(NAMES, st.integers(1, 2**47), min_size=1)
ASKED = st.one_of(
    HOSTS.map(str.encode),
    HOSTS.map(lambda host: host.upper().encode() + b"."),
    NAMES.map(str.encode),
    st.binary(max_size=300).filter(lambda octets: 0 not in octets),
)


def model(table: Mapping[str, int], host: bytes) -> int | None:
    if len(host) > LONGEST:
        return None
    name = bytes(octet | 0x20 if 0x41 <= octet <= 0x5A else octet for octet in host).removesuffix(b".")
    known = {key.encode(): value for key, value in table.items()}
    if name in known:
        return known[name]
    first, dot, rest = name.partition(b".")
    return known.get(b"*." + rest) if first and dot else None


@given(TABLES, ASKED)
@example({"*.example.com": 1}, b".example.com")
@example({"*.example.com": 1}, b"*.example.com")
@example({"*.example.com": 1}, b"a.b.example.com")
@example({"*.com": 1}, b"a" * 251 + b".com")
@example({"*.com": 1}, b"a" * 252 + b".com")
@example({"a": 1}, b"")
@example({"a": 1}, b".")
def test_the_context_of_a_name_is_found(table: dict[str, int], host: bytes) -> None:
    assert ServerNames(table).find(host) == model(table, host)
