"""A log file may be renamed, removed, truncated or full: lines come to it again, or go elsewhere."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.log import files
from gateway.log.files import LogFile, Outage
from gateway.privileges import Identity

FULL = Path("/dev/full")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.log"


def test_a_file_is_made_for_its_owner_and_its_group_whatever_the_umask(path: Path) -> None:
    before = os.umask(0o077)
    try:
        LogFile(path).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_lines_are_appended_to_what_is_there(path: Path) -> None:
    path.write_bytes(b"before\n")
    file = LogFile(path)
    assert file.write(b"one\n")
    assert file.write(b"two\nthree\n")
    assert path.read_bytes() == b"before\none\ntwo\nthree\n"
    file.close()


def test_two_processes_lines_do_not_overwrite_each_other(path: Path) -> None:
    first, second = LogFile(path), LogFile(path)
    for number in range(3):
        first.write(b"first %d\n" % number)
        second.write(b"second %d\n" % number)
    assert len(path.read_bytes().splitlines()) == 6
    first.close()
    second.close()


@pytest.mark.parametrize("made", [True, False], ids=["create", "nocreate"])
def test_after_the_file_was_renamed_lines_go_to_a_new_one(path: Path, *, made: bool) -> None:
    file = LogFile(path)
    file.write(b"old\n")
    old = path.rename(path.with_suffix(".log.1"))
    file.write(b"still old\n")
    if made:
        path.touch()
    file.look()
    file.write(b"new\n")
    assert (old.read_bytes(), path.read_bytes()) == (b"old\nstill old\n", b"new\n")
    assert file.outage() is None
    file.close()


def test_after_the_file_was_copied_and_truncated_lines_begin_at_its_beginning(path: Path) -> None:
    file = LogFile(path)
    file.write(b"old\n" * 100)
    os.truncate(path, 0)
    file.look()
    file.write(b"new\n")
    assert path.read_bytes() == b"new\n"
    file.close()


def test_a_file_that_was_removed_is_made_again(path: Path) -> None:
    file = LogFile(path)
    path.unlink()
    file.look()
    assert file.write(b"new\n")
    assert path.read_bytes() == b"new\n"
    file.close()


def test_where_no_file_can_be_opened_lines_go_elsewhere_until_one_can_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "later" / "gateway.log"
    file = LogFile(path)
    assert not file.write(b"one\ntwo\n")
    assert file.outage() == Outage("No such file or directory", 2)
    assert file.outage() is None, "it was told"
    assert not file.write(b"three\n")
    path.parent.mkdir()
    file.look()
    assert file.write(b"four\n")
    assert file.outage() == Outage("", 3)
    assert path.read_bytes() == b"four\n"
    file.close()


def test_where_the_new_file_cannot_be_opened_lines_go_to_the_renamed_one_and_that_is_told(path: Path) -> None:
    file = LogFile(path)
    old = path.rename(path.with_suffix(".log.1"))
    path.mkdir()
    file.look()
    assert file.outage() is None, "whoever rotates needs a moment"
    file.look()
    assert file.outage() == Outage("Is a directory", 0)
    assert file.write(b"line\n")
    assert old.read_bytes() == b"line\n"
    file.close()


def test_a_file_that_is_gone_for_good_takes_no_lines_with_it(path: Path) -> None:
    file = LogFile(path)
    path.unlink()
    path.mkdir()
    file.look()
    assert not file.write(b"line\n")
    file.close()


def test_a_full_disk_costs_no_line_and_the_first_one_after_it_begins_a_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = LogFile(path)
    write, room = os.write, [4]

    def on_a_small_disk(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        data, room[0] = data[: room[0]], max(0, room[0] - len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", on_a_small_disk)
    assert not file.write(b"a whole line\n")
    assert file.outage() == Outage("No space left on device", 1)
    room[0] = 100
    assert file.write(b"another\n")
    assert file.outage() == Outage("", 1)
    assert path.read_bytes() == b"a wh\nanother\n"
    file.close()


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_device_that_is_full_raises_nothing() -> None:
    file = LogFile(FULL)
    assert not file.write(b"line\n")
    assert file.outage() == Outage("No space left on device", 1)
    file.close()


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    path.symlink_to(elsewhere)
    file = LogFile(path)
    assert not file.write(b"line\n")
    assert elsewhere.read_bytes() == b""
    with pytest.raises(ConfigError, match="cannot be opened"):
        files.check(path, "log.file")


def test_a_pipe_that_nobody_reads_does_not_stop_us(path: Path) -> None:
    os.mkfifo(path)
    file = LogFile(path)
    assert not file.write(b"line\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_that_root_makes_is_the_users_and_one_that_was_there_is_whose_it_was(path: Path) -> None:
    user = Identity("nobody", 65534, 65534)
    LogFile(path, user).close()
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)
    other = path.with_suffix(".other")
    other.touch()
    LogFile(other, user).close()
    assert other.stat().st_uid == 0


# What `check` says beforehand.


def test_a_file_that_can_be_made_or_opened_is_good_and_is_not_made(path: Path) -> None:
    files.check(path, "log.file")
    assert not path.exists()
    path.write_bytes(b"before\n")
    files.check(path, "log.file")
    assert path.read_bytes() == b"before\n"


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"log\.file: expected a file in a directory that exists, got "):
        files.check(tmp_path / "none" / "gateway.log", "log.file")


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        files.check(tmp_path, "log.file")
    with pytest.raises(ConfigError, match="which is none"):
        files.check(Path("/dev/null"), "log.file")
