"""The table says of every serial what a dictionary would, and a damaged file says nothing at all."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import re
import tempfile
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.der import Element
from gateway.errors import CrlError, TableError
from gateway.native import Entry, Table, TableMeta, compile_table, serial_octets
from gateway.revocation.crl import parse_untrusted
from tests.authority import HOUR, NOW, Authority, Revoked, der_extension, der_time, tlv
from tests.end_to_end.parts import OpensslCa, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CA = Authority.root("Table CA")
META = TableMeta(b"name", b"key", b"signature", 7, NOW - 60, NOW + HOUR)

# In the years that a Time of RFC 5280 can name without doubt, and that one can easily tell apart.
_DATES = st.integers(0, 4_000_000_000)
_REASONS = st.sampled_from([None, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10])


class Item(NamedTuple):
    """An entry as it stands in a list: the serial's octets may be redundant."""

    octets: bytes
    at: int
    reason: int | None

    @property
    def serial(self) -> int:
        return int.from_bytes(self.octets, signed=True)

    def der(self) -> bytes:
        reason = b""
        if self.reason is not None:
            reason = tlv(0x30, der_extension("2.5.29.21", tlv(0x0A, bytes([self.reason]))))
        return tlv(0x30, tlv(0x02, self.octets), der_time(self.at), reason)


# Few values in few octets meet again and again; the others are what CAs issue, and longer.
_OCTETS = (
    st.binary(min_size=1, max_size=2)
    | st.binary(min_size=1, max_size=20)
    | st.binary(min_size=18, max_size=40)
    | st.builds(
        lambda sign, content: sign + content,
        st.sampled_from([b"\0", b"\0\0\0", b"\xff", b"\xff" * 6]),
        st.binary(min_size=1, max_size=24),
    )
)
_ITEMS = st.lists(st.builds(Item, _OCTETS, _DATES, _REASONS), max_size=40)


def make_list(items: Sequence[Item]) -> bytes:
    return CA.crl(raw_entries=b"".join(item.der() for item in items))


def compiled(der: bytes, meta: TableMeta = META) -> bytes:
    with tempfile.TemporaryFile() as file:
        compile_table(der, parse_untrusted(der).parts.revoked, meta, file.fileno())
        file.seek(0)
        return file.read()


def opened(content: bytes, *, deep: bool = True) -> Table:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return Table(file.fileno(), deep=deep)


def expected(items: Sequence[Item]) -> dict[int, Entry]:
    """What a dictionary knows: of a serial that stands twice the earliest date; taken back counts least."""
    known: dict[int, Entry] = {}
    for item in items:
        entry = Entry(item.at, -1 if item.reason is None else item.reason)
        known[item.serial] = min(
            known.get(item.serial, entry), entry, key=lambda each: (each.reason == 8, each)
        )
    return known


def difference(table: Table, known: dict[int, Entry]) -> list[int]:
    """The serials of which the two say different things."""
    return [serial for serial, entry in known.items() if table.find(serial_octets(serial)) != entry]


@given(_ITEMS)
def test_every_serial_of_a_list_is_found_with_its_earliest_date_and_its_reason(items: list[Item]) -> None:
    known = expected(items)
    with closing(opened(compiled(make_list(items)))) as table:
        assert len(table) == len(known)
        assert difference(table, known) == []
        assert dict(table) == known
        assert [item for item in items if table.find(item.octets) is None] == []


@given(_ITEMS, st.lists(_OCTETS, max_size=10))
def test_no_other_serial_is_found(items: list[Item], others: list[bytes]) -> None:
    known = expected(items)
    serials = {int.from_bytes(octets, signed=True) for octets in others}
    serials |= {serial + step for serial in known for step in (-1, 1, -256, 256)}
    serials |= {-serial for serial in known} | {serial << 8 for serial in known}
    with closing(opened(compiled(make_list(items)))) as table:
        assert {serial for serial in serials if serial in table} == serials & known.keys()
        assert table.find(b"") is None


@given(_OCTETS, st.integers(0, 30))
def test_a_serial_is_the_same_with_and_without_redundant_octets(octets: bytes, more: int) -> None:
    redundant = (b"\xff" if octets[0] & 0x80 else b"\0") * more + octets
    with closing(opened(compiled(make_list([Item(redundant, NOW, 1)])))) as table:
        assert table.find(octets) == table.find(redundant) == Entry(NOW, 1)
    with closing(opened(compiled(make_list([Item(octets, NOW, 1), Item(redundant, NOW - 1, 4)])))) as table:
        assert list(table) == [(int.from_bytes(octets, signed=True), Entry(NOW - 1, 4))]


@given(_ITEMS.flatmap(lambda items: st.tuples(st.just(items), st.permutations(items))))
def test_the_order_of_the_entries_does_not_matter(lists: tuple[list[Item], list[Item]]) -> None:
    tables = [opened(compiled(make_list(items))) for items in lists]
    assert dict(tables[0]) == dict(tables[1])


@pytest.mark.parametrize(
    "serial", [0, 1, -1, 127, 128, -128, -129, 255, 256, 1 << 159, -(1 << 159), 1 << 400]
)
def test_a_serial_is_not_its_neighbour(serial: int) -> None:
    with closing(opened(compiled(CA.crl([Revoked(serial)])))) as table:
        assert [other for other in range(serial - 2, serial + 3) if other in table] == [serial]


def test_an_empty_list_revokes_nobody() -> None:
    with closing(opened(compiled(CA.crl()))) as table:
        assert len(table) == 0
        assert list(table) == []
        assert 0 not in table


def test_serials_in_a_row_are_all_found_and_nothing_beside_them() -> None:
    """CAs that count: thousands of neighbours, which a hash has to spread."""
    der = CA.crl(Revoked(serial) for serial in range(10_000, 20_000, 2))
    with closing(opened(compiled(der))) as table:
        assert len(table) == 5_000
        assert [serial for serial in range(9_000, 21_000) if serial in table] == list(
            range(10_000, 20_000, 2)
        )


@given(
    st.binary(max_size=300),
    st.binary(max_size=300),
    st.binary(max_size=600),
    st.none() | st.integers(0, 2**160),
)
def test_what_a_table_knows_of_its_list_is_what_it_was_told(
    name: bytes, key: bytes, signature: bytes, number: int | None
) -> None:
    meta = TableMeta(name, key, signature, number, -5, 2**40)
    with closing(opened(compiled(CA.crl([Revoked(1)]), meta))) as table:
        assert table.meta == meta
        assert 1 in table


@pytest.mark.parametrize(
    "entry",
    [
        tlv(0x30),
        tlv(0x30, tlv(0x02, b"\x01")),
        tlv(0x30, tlv(0x02), der_time(NOW)),
        tlv(0x30, tlv(0x02, b"\x01"), tlv(0x17, b"not a time at")),
        tlv(0x30, tlv(0x02, b"\x01"), tlv(0x17, b"261332000000Z")),
        tlv(0x30, tlv(0x04, b"\x01"), der_time(NOW)),
        Item(b"\x01", NOW, 7).der(),
        Item(b"\x01", NOW, 99).der(),
        b"\x30\x80\x00\x00",
    ],
    ids=["empty", "no date", "no serial", "no time", "month 13", "octets", "reason 7", "reason 99", "BER"],
)
def test_a_list_with_an_entry_that_cannot_be_read_is_refused_whole(entry: bytes) -> None:
    """Left out, the entry's certificate would look good."""
    good = Item(b"\x05", NOW, None).der()
    with pytest.raises(CrlError):
        compiled(CA.crl(raw_entries=good + entry + good))


@given(st.binary(max_size=200), st.sampled_from([b"", Item(b"\x05", NOW, 1).der()]))
def test_any_bytes_are_entries_or_a_crl_error(data: bytes, before: bytes) -> None:
    entries = before + data
    with tempfile.TemporaryFile() as file:
        try:
            compile_table(entries, Element(0, 0, len(entries)), META, file.fileno())
        except CrlError as exc:
            assert "revokedCertificates" in str(exc)  # noqa: PT017 - either outcome is good
        else:
            Table(file.fileno()).close()


def test_an_output_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb"), pytest.raises(TableError, match="regular"):  # noqa: PTH123
        compile_table(b"", Element(0, 0, 0), META, writing)
    used = tmp_path / "used"
    used.write_bytes(b"x")
    with used.open("r+b") as file, pytest.raises(TableError, match="empty"):
        compile_table(b"", Element(0, 0, 0), META, file.fileno())
    fd = os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    with open(fd, "r+b") as file, pytest.raises(TableError, match="cannot write"):  # noqa: PTH123
        compile_table(b"", Element(0, 0, 0), META, file.fileno())


def test_a_table_of_another_version_is_not_opened_and_says_so() -> None:
    content = bytearray(_sample())
    content[16] ^= 1
    with pytest.raises(TableError, match="another version"):
        opened(bytes(content), deep=False)


def _sample() -> bytes:
    serials = [5, -3, 1 << 100, 1 << 300, *range(1000, 1020)]
    return compiled(CA.crl([Revoked(serial, reason=1) for serial in serials]))


def test_whichever_bit_has_changed_a_table_is_not_opened() -> None:
    """Padding counts as well: every byte of a table is determined."""
    content = bytearray(_sample())
    survived = []
    for at in range(len(content)):
        content[at] ^= 1 << at % 8
        try:
            opened(bytes(content)).close()
        except TableError:
            content[at] ^= 1 << at % 8
        else:
            survived.append(at)
    assert survived == []


@given(st.data())
def test_a_table_that_was_cut_or_grew_is_not_opened_however_shallow_the_look(data: st.DataObject) -> None:
    content = _sample()
    length = data.draw(st.integers(0, len(content) - 1))
    for wrong in (content[:length], content + bytes(len(content) - length)):
        with pytest.raises(TableError):
            opened(wrong, deep=False)


@given(st.binary(max_size=4096))
def test_garbage_is_no_table(garbage: bytes) -> None:
    with pytest.raises(TableError):
        opened(garbage, deep=False)


@settings(max_examples=50)
@given(st.data())
def test_lookups_in_a_damaged_table_stay_inside_it(data: st.DataObject) -> None:
    """A worker looks at the header alone; wrong answers are the disk's fault, a crash would be ours."""
    content = bytearray(_sample())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        table = opened(bytes(content), deep=False)
    except TableError:
        return
    with closing(table):
        for serial in (5, -3, 1 << 100, 1 << 300, *range(990, 1030)):
            table.find(serial_octets(serial))


def test_what_is_not_a_file_is_no_table(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb"), pytest.raises(TableError):  # noqa: PTH123 - descriptors
        Table(reading)


_ENTRY = re.compile(r"Serial Number: (-?)([0-9A-F\\\n]+)\n\s+Revocation Date: ([^\n]+) GMT")


def _as_openssl_reads(path: Path) -> Iterator[tuple[int, int]]:
    """Serials and dates, in seconds since 1970, from `openssl crl -text`."""
    text = run("openssl", "crl", "-in", path, "-inform", "DER", "-noout", "-text").stdout
    for sign, digits, date in _ENTRY.findall(text):
        # Long serials are broken into lines that end in a backslash.
        serial = int(sign + re.sub(r"[\\\s]", "", digits), 16)
        when = dt.datetime.strptime(date, "%b %d %H:%M:%S %Y").replace(tzinfo=dt.UTC)
        yield serial, int(when.timestamp())


def test_the_table_of_any_list_says_what_openssl_says(tmp_path: Path) -> None:
    serials = [
        0,
        1,
        -1,
        127,
        128,
        -129,
        1 << 63,
        -(1 << 63),
        (1 << 159) - 1,
        1 << 159,
        1 << 330,
        *range(5000, 7000),
    ]
    der = CA.crl(Revoked(serial, at=NOW - 7 * number) for number, serial in enumerate(serials))
    path = tmp_path / "ca.crl"
    path.write_bytes(der)
    said = dict(_as_openssl_reads(path))
    assert said.keys() == set(serials)
    with closing(opened(compiled(der))) as table:
        assert {serial: entry.revocation_date for serial, entry in table} == said


def test_the_table_of_a_list_by_openssl_ca_says_what_openssl_says(tmp_path: Path) -> None:
    ca = OpensslCa(tmp_path / "ca")
    reasons = {"keyCompromise": 1, "superseded": 4, "certificateHold": 6}
    serials = {int(ca.issue(reason), 16): reason for reason in reasons}
    good = int(ca.issue("good"), 16)
    for reason in reasons:
        ca.revoke(reason, reason)
    ca.publish()
    path = ca.web / "ca.crl"
    with closing(opened(compiled(path.read_bytes()))) as table:
        found = dict(table)
        assert {serial: entry.revocation_date for serial, entry in found.items()} == dict(
            _as_openssl_reads(path)
        )
        assert {serial: entry.reason for serial, entry in found.items()} == {
            serial: reasons[reason] for serial, reason in serials.items()
        }
        assert good not in table
