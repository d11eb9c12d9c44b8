"""What the files say in the end, and what they never do on the way: let somebody in for a moment."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import serials
from gateway.config.material import ListenerMaterial
from gateway.revocation.serials import Look, SerialFiles
from tests.authority import Authority, common_name

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = Authority.root("One"), Authority.root("Two")


def listener(file: Path | None, *cas: Authority) -> ListenerMaterial:
    found = None if file is None else serials.read(file, len(cas))
    return ListenerMaterial((), tuple(ca.cert for ca in cas), (), found, ())


_times = itertools.count(1_700_000_000)


def put(path: Path, text: str) -> Path:
    """Write a file, later than all before: the kernel's clock is too coarse for tests."""
    path.write_text(text)
    now = next(_times)
    os.utime(path, (now, now))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return put(tmp_path / "revoked.txt", "5\n6\n")


def revoked(files: SerialFiles) -> set[tuple[str, int]]:
    names = {ca.cert.subject.public_bytes(): ca.cert.subject.rfc4514_string() for ca in (ONE, TWO)}
    return {(names[each.issuer], each.serial) for each in files.revocations}


def of_one(*found: int) -> set[tuple[str, int]]:
    return {("CN=One", serial) for serial in found}


async def test_a_serial_without_an_issuer_is_of_every_ca_of_the_listener(tmp_path: Path, file: Path) -> None:
    put(file, "5\n6 CN=two\n")
    files = SerialFiles([listener(file, ONE), listener(None, TWO)])
    two = common_name("two").public_bytes()
    assert [(each.issuer, each.serial) for each in files.revocations] == [
        (ONE.cert.subject.public_bytes(), 5),
        (two, 6),
    ]
    # Of two listeners with one file it is of the CAs of both.
    put(file, "5\n")
    files = SerialFiles([listener(file, ONE), listener(file, TWO)])
    assert revoked(files) == {("CN=One", 5), ("CN=Two", 5)}
    [look] = await files.look()
    assert look == Look(str(file), 2)


async def test_what_is_added_counts_at_once_and_what_is_taken_out_when_the_file_has_settled(
    file: Path,
) -> None:
    files = SerialFiles([listener(file, ONE)])
    await files.look()
    # As an editor leaves it for a moment.
    put(file, "")
    await files.look()
    assert revoked(files) == of_one(5, 6)
    put(file, "6\n7\n")
    assert await files.look() == [Look(str(file), 3, more=1)]
    assert revoked(files) == of_one(5, 6, 7)
    assert await files.look() == [Look(str(file), 2, less=1)]
    assert revoked(files) == of_one(6, 7)


async def test_a_file_that_has_not_changed_is_read_no_more(file: Path) -> None:
    files = SerialFiles([listener(file, ONE)])
    await files.look()
    before = files.revocations
    assert await files.look() == []
    assert files.revocations is before
    assert await files.look(asked=True) == [Look(str(file), 2)]


def move(source: Path, target: Path) -> None:
    source.rename(target)


async def test_a_file_that_comes_back_is_read(file: Path) -> None:
    files = SerialFiles([listener(file, ONE)])
    aside = file.with_name("aside")
    move(file, aside)
    looks = [*await files.look(), *await files.look()]
    assert [look.told for look in looks] == [False, True]
    assert revoked(files) == of_one(5, 6)
    move(aside, file)
    assert await files.look() == [Look(str(file), 2)]


async def test_what_is_revoked_stays_revoked_since_it_was_first_seen(file: Path) -> None:
    files = SerialFiles([listener(file, ONE)])
    [_, six] = files.revocations
    put(file, "6\n7\n")
    await files.look(asked=True)
    assert {each.serial: (each.revoked_at, each.by) for each in files.revocations} == {
        6: (six.revoked_at, f"{file} line 1"),
        7: (six.revoked_at + 1, f"{file} line 2"),
    }


CONTENTS = st.lists(st.integers(1, 9), max_size=5, unique=True)
STEPS = st.lists(CONTENTS | st.sampled_from(["bad", "gone", "look", "ask"]), max_size=12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=CONTENTS, steps=STEPS)
async def test_however_it_is_written_who_is_revoked_before_and_after_is_revoked_between(
    first: list[int], steps: list[list[int] | str], tmp_path: Path
) -> None:
    def write(found: list[int]) -> Path:
        return put(tmp_path / "revoked.txt", "".join(f"{serial:x}\n" for serial in found))

    file = write(first)
    files = SerialFiles([listener(file, ONE)])
    latest, counts = first, of_one(*first)
    for step in [*steps, "look", "look"]:
        match step:
            case "bad":
                put(file, "5\nnonsense")
            case "gone":
                file.unlink(missing_ok=True)
            case "look" | "ask":
                await files.look(asked=step == "ask")
                found = readable(file)
                if found is not None:
                    settled = step == "ask" or found == latest
                    latest, counts = found, of_one(*found) | (set() if settled else counts)
                assert revoked(files) == counts
            case _:
                write([serial for serial in step if isinstance(serial, int)])


def readable(file: Path) -> list[int] | None:
    try:
        return [int(line, 16) for line in file.read_text().splitlines()]
    except (OSError, ValueError):
        return None
