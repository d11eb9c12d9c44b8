"""What a file of revoked_serials may hold, and that whatever else it holds is refused in one line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import serials
from gateway.config.serials import Line, SerialFile, load, parse, read
from gateway.errors import ConfigError
from gateway.names import canonical_name, parse_name, printable_der, serial_hex
from tests.authority import common_name

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

NAME = common_name("Fleet CA").public_bytes()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)


def rdns(values: list[str]) -> bytes:
    oids = (x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME, x509.ObjectIdentifier("1.2.3"))
    attributes = zip(oids, values, strict=False)
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes]).public_bytes()


NAMES: SearchStrategy[bytes] = st.lists(TEXTS, min_size=1, max_size=3).map(rdns)
SERIALS = st.integers(-(2**160), 2**160)


def colons(digits: str) -> str:
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0A8E", [Line(1, 0x0A8E, None)]),
        ("0x0a8e", [Line(1, 0x0A8E, None)]),
        ("0A:8E\r\n", [Line(1, 0x0A8E, None)]),
        ("\n  # of no use\n\t5  # stolen\n\n", [Line(3, 5, None)]),
        ("5#", None),
        ("5 CN=Fleet CA", [Line(1, 5, NAME)]),
        ("\ufeff5\tCN=Fleet CA  \n6", [Line(1, 5, NAME), Line(2, 6, None)]),
        ("", []),
    ],
)
def test_a_line_is_a_serial_and_perhaps_an_issuer(text: str, expected: list[Line] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="line 1: expected"):
            parse(text.encode(), 1)
    else:
        assert list(parse(text.encode(), 1)) == expected


@given(st.lists(st.tuples(SERIALS, st.none() | NAMES, st.sampled_from([str, str.lower, colons]))))
def test_serials_and_names_are_taken_as_the_log_shows_them(
    revoked: list[tuple[int, bytes | None, type[str]]],
) -> None:
    text = "".join(
        f"{spell(serial_hex(serial).removeprefix('-')) if serial > 0 else serial_hex(serial)}"
        f" {printable_der(issuer) if issuer else ''}\n"
        for serial, issuer, spell in revoked
    )
    # A "#" behind a space would be taken for a comment, if anybody but the operator wrote it so.
    found = parse(text.replace(" #", " \\#").encode(), 1)
    assert [line.serial for line in found] == [serial for serial, _, _ in revoked]
    assert [line.issuer and canonical_name(line.issuer) for line in found] == [
        issuer and canonical_name(issuer) for _, issuer, _ in revoked
    ]


@given(st.binary(max_size=60) | st.text("0aF:x-# =,+\\\nCNO", max_size=40).map(str.encode))
def test_whatever_the_bytes_are_they_are_lines_or_refused_in_one(data: bytes) -> None:
    refusal = ""
    lines: tuple[Line, ...] = ()
    try:
        lines = parse(data, 3)
    except ValueError as exc:
        refusal = str(exc)
    assert not refusal or re.fullmatch(r"line \d+: expected .*", refusal)
    assert refusal.isprintable()
    assert len(lines) <= data.count(b"\n") + 1
    assert all(line.issuer is None or canonical_name(line.issuer) != line.issuer for line in lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("5\nxyz", 'line 2: expected a serial number in hexadecimal digits, got "xyz"'),
        (
            "5 Fleet CA",
            'line 1: expected a name as RFC 4514 writes it, such as CN=Fleet CA,O=Example, got "5 Fl',
        ),
        (
            "5 CN=Fleet CA # stolen",
            'line 1: expected no comment behind an issuer (a "#" of its name is written',
        ),
        ("5\n\n\udcff", "line 3: expected UTF-8 text"),
        ("F" * 130, "line 1: expected a serial number of at most 64 octets"),
        ("5 CN=", "line 1: expected a name"),
        ("5 2.5.4.5=\u00e9", "line 1: expected a name"),
    ],
)
def test_the_first_bad_line_is_told_with_what_was_expected(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse(text.encode(errors="surrogateescape"), 1)
    assert str(caught.value).startswith(problem)


def test_a_name_has_its_number_sign_where_it_is_escaped() -> None:
    [line] = parse(rb"5 CN=Fleet \#2", 1)
    assert line.issuer == common_name("Fleet #2").public_bytes()


def test_the_last_space_of_a_name_may_be_escaped() -> None:
    [line] = parse(b"5 CN=Fleet\\ \n", 1)
    assert line.issuer == common_name("Fleet ").public_bytes()


def test_more_than_a_crl_should_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serials, "MOST", 5)
    assert len(parse(b"1\n2\n3 CN=CA\n", 2)) == 3
    with pytest.raises(ValueError, match="expected at most 5 certificates, got 3 lines, 2 CAs: 6"):
        parse(b"1\n2\n3\n", 2)


def test_a_file_is_read_with_when_it_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "revoked"
    path.write_text("5\n")
    os.utime(path, (1, 1_700_000_000))
    assert read(path, 1) == SerialFile(path, 1_700_000_000, writable=False, lines=(Line(1, 5, None),))


@pytest.mark.parametrize("change", ["appended", "replaced", "touched"])
def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path, change: str) -> None:
    path = tmp_path / "revoked"
    path.write_text("5\n")
    raw = load(path)
    assert raw is not None
    assert load(path, raw.identity) is None
    match change:
        case "appended":
            with path.open("a") as file:
                file.write("6\n")
        case "replaced":
            other = tmp_path / "other"
            other.write_text("6\n")
            other.replace(path)
        case _:
            os.utime(path, (1, 1))
    assert load(path, raw.identity) is not None


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = descriptors()
    with pytest.raises(ConfigError, match=r"pipe: expected a file"):
        load(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"missing: cannot be read: No such file"):
        load(tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"expected a file"):
        load(tmp_path)
    # It is looked at every second.
    assert descriptors() == before


def test_a_file_of_any_length_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serials, "_LONGEST", 1 << 20)
    path = tmp_path / "revoked"
    path.write_bytes(b"\n" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="expected at most 1 MiB"):
        load(path)


def test_the_empty_name_is_none() -> None:
    with pytest.raises(ValueError, match="expected a name"):
        parse_name("")
