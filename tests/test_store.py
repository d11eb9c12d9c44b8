"""The state directory after every kind of accident."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.store import Restored, StateStore, StoredCrl

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://crl.example/ca.crl"
OLD = StoredCrl(b"old list", '"1"', None, 1000.5)
NEW = StoredCrl(b"new list", '"2"', "Thu, 01 Jan 2026 00:00:00 GMT", 2000.0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "a" / "state"


@pytest.fixture
def store(directory: Path) -> StateStore:
    prepared = StateStore(directory)
    prepared.prepare()
    return prepared


def the_list(directory: Path) -> Path:
    (path,) = (directory / "crl").glob("*.der")
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_saved_last_comes_back(store: StateStore) -> None:
    assert store.load_crl(URL) == Restored()
    store.save_crl(URL, OLD)
    store.save_crl(URL, NEW)
    assert store.load_crl(URL) == Restored(NEW)
    assert store.load_crl(URL + "2") == Restored()
    assert store.load_staple("ab12") is None
    store.save_staple("ab12", b"response")
    assert store.load_staple("ab12") == b"response"


def test_only_the_owner_may_look(directory: Path, store: StateStore) -> None:
    store.save_crl(URL, OLD)
    store.save_staple("ab12", b"response")
    descriptor, temporary = store.new_table_file()
    os.close(descriptor)
    store.install_table(temporary, "issuer", 1)
    everything = list(directory.rglob("*"))
    assert {mode(path) for path in everything if path.is_dir()} == {0o700}
    assert {mode(path) for path in everything if path.is_file()} == {0o600}
    assert mode(directory) == 0o700


def test_a_state_directory_that_others_made_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    StateStore(tmp_path).prepare()
    assert mode(tmp_path) == 0o755
    assert mode(tmp_path / "crl") == 0o700


def test_what_a_crash_left_half_written_is_swept_away_and_never_read(
    directory: Path, store: StateStore
) -> None:
    store.save_crl(URL, OLD)
    descriptor, temporary = store.new_table_file()
    os.close(descriptor)
    (directory / "crl" / ".new-half").write_bytes(b"new l")
    store.prepare()
    assert not temporary.exists()
    assert not (directory / "crl" / ".new-half").exists()
    assert store.load_crl(URL) == Restored(OLD)


class PowerCutError(Exception):
    """The process is gone: no code of its own runs any more."""


@pytest.mark.parametrize(("renames", "expected"), [(0, OLD), (1, OLD), (2, NEW), (3, NEW)])
def test_a_crash_between_any_two_renames_leaves_the_old_list_or_the_new_one(
    store: StateStore, monkeypatch: pytest.MonkeyPatch, renames: int, expected: StoredCrl
) -> None:
    store.save_crl(URL, OLD)
    left = [True] * renames

    def rename(source: Path, target: Path) -> None:
        if not left:
            raise PowerCutError
        left.pop()
        source.replace(target)

    with monkeypatch.context() as patched:
        patched.setattr("gateway.store._rename", rename)
        try:
            store.save_crl(URL, NEW)
        except PowerCutError:
            assert renames < 3
    store.prepare()
    assert store.load_crl(URL) == Restored(expected)
    # And it stays so when the next save is cut off at its first step, too.
    with monkeypatch.context() as patched:
        left.append(True)
        patched.setattr("gateway.store._rename", rename)
        with pytest.raises(PowerCutError):
            store.save_crl(URL, StoredCrl(b"third list", None, None, 3000.0))
    assert store.load_crl(URL) == Restored(expected)


@pytest.mark.parametrize("content", [b"", b"old lis", b"old lisx", b"old list and more"])
def test_a_damaged_list_is_set_aside_and_said_so(directory: Path, store: StateStore, content: bytes) -> None:
    store.save_crl(URL, OLD)
    path = the_list(directory)
    path.write_bytes(content)
    restored = store.load_crl(URL)
    assert restored.crl is None
    assert restored.problem == f"{path}: damaged, not used, and set aside as {path.name}.corrupt-1"
    assert path.with_name(f"{path.name}.corrupt-1").read_bytes() == content
    assert store.load_crl(URL) == Restored()
    store.save_crl(URL, NEW)
    assert store.load_crl(URL) == Restored(NEW)


UNREADABLE = {
    "empty": b"",
    "cut off": b"{",
    "something else": b"[]",
    "incomplete": b'{"url": "x"}',
    "no text": b"\xff",
    "no text within": b'{"url": "\xff"}',
    "brackets": b'{"x": ' + b"[" * 100_000,
    "a number that is none": b'{"fetched_at": NaN}',
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_list_whose_description_is_damaged_is_set_aside(
    directory: Path, store: StateStore, content: bytes
) -> None:
    store.save_crl(URL, OLD)
    the_list(directory).with_suffix(".json").write_bytes(content)
    assert "set aside as" in str(store.load_crl(URL).problem)
    assert store.load_crl(URL) == Restored()


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_as_list_and_description_stop_a_load(directory: Path, content: bytes) -> None:
    store = StateStore(directory)
    store.prepare()
    store.save_crl(URL, OLD)
    path = the_list(directory)
    path.write_bytes(content)
    assert store.load_crl(URL).crl is None
    store.save_crl(URL, OLD)
    path.with_suffix(".json").write_bytes(content)
    assert store.load_crl(URL).crl is None
    assert store.learnt_urls() == []


@pytest.mark.parametrize("suffix", [".der", ".json"])
def test_a_list_that_the_disk_does_not_give_back_is_reported_and_stays(
    directory: Path, store: StateStore, suffix: str
) -> None:
    store.save_crl(URL, OLD)
    path = the_list(directory).with_suffix(suffix)
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    problem = str(store.load_crl(URL).problem)
    assert problem.startswith("cannot read ")
    assert "Is a directory" in problem
    path.rmdir()
    path.write_bytes(content)
    assert store.load_crl(URL) == Restored(OLD)


def test_learnt_lists_are_known_again_and_a_damaged_description_hides_no_other(
    directory: Path, store: StateStore
) -> None:
    learnt = msgspec.structs.replace(OLD, learnt=True)
    for number in range(len(UNREADABLE)):
        store.save_crl(f"{URL}{number}", learnt)
    paths = sorted((directory / "crl").glob("*.json"))
    for path, content in zip(paths, UNREADABLE.values(), strict=True):
        path.write_bytes(content)
    store.save_crl("http://crl.example/good", learnt)
    store.save_crl(URL, OLD)
    assert store.learnt_urls() == ["http://crl.example/good"]


def test_a_description_of_another_url_is_not_believed(directory: Path, store: StateStore) -> None:
    store.save_crl(URL, OLD)
    path = the_list(directory).with_suffix(".json")
    path.write_text(path.read_text().replace("crl.example", "evil.example"))
    assert "set aside as" in str(store.load_crl(URL).problem)


def test_a_list_that_is_gone_is_said_once(directory: Path, store: StateStore) -> None:
    store.save_crl(URL, OLD)
    the_list(directory).unlink()
    assert "the list is gone" in str(store.load_crl(URL).problem)
    assert store.load_crl(URL) == Restored()


def test_damaged_lists_do_not_fill_the_disk(directory: Path, store: StateStore) -> None:
    for number in range(6):
        store.save_crl(URL, OLD)
        the_list(directory).write_bytes(b"damaged %d" % number)
        store.load_crl(URL)
    kept = sorted((directory / "crl").glob("*.corrupt-*"))
    assert [path.read_bytes() for path in kept] == [b"damaged 3", b"damaged 4", b"damaged 5"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_disk_that_fails_leaves_what_was_there_and_no_debris(
    directory: Path, store: StateStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store.save_crl(URL, OLD)
    store.save_staple("ab12", b"response")
    before = sorted(directory.rglob("*"))

    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    descriptor, temporary = store.new_table_file()
    os.close(descriptor)
    with monkeypatch.context() as patched:
        patched.setattr("gateway.store.os.fsync", fail)
        with pytest.raises(StoreError, match=f"{os.strerror(number)}; what was there stays"):
            store.save_crl(URL, NEW)
        with pytest.raises(StoreError, match=os.strerror(number)):
            store.save_staple("ab12", b"another")
        with pytest.raises(StoreError, match=os.strerror(number)):
            store.install_table(temporary, "issuer", 1)
    assert store.load_crl(URL) == Restored(OLD)
    assert store.load_staple("ab12") == b"response"
    assert sorted(directory.rglob("*")) == before


def test_a_state_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"cannot prepare .*: Not a directory"):
        StateStore(tmp_path / "file" / "state").prepare()


def test_nothing_can_be_written_where_nothing_was_prepared(directory: Path) -> None:
    store = StateStore(directory)
    assert store.load_crl(URL) == Restored()
    assert store.load_staple("ab12") is None
    for write in (
        lambda: store.save_crl(URL, OLD),
        lambda: store.save_staple("ab12", b""),
        store.new_table_file,
    ):
        with pytest.raises(StoreError, match="No such file or directory"):
            write()


def test_tables_get_their_name_when_they_are_whole(directory: Path, store: StateStore) -> None:
    descriptor, temporary = store.new_table_file()
    os.write(descriptor, b"table")
    os.close(descriptor)
    assert list((directory / "table").glob("*.table")) == []
    path = store.install_table(temporary, "ab12", 7)
    assert path == directory / "table" / "ab12-7.table"
    assert path.read_bytes() == b"table"


def test_tables_that_nobody_needs_are_swept_away(store: StateStore) -> None:
    paths = []
    for generation in range(3):
        descriptor, temporary = store.new_table_file()
        os.close(descriptor)
        paths.append(store.install_table(temporary, "ab12", generation))
    store.sweep_tables({paths[1]})
    assert [path.exists() for path in paths] == [False, True, False]


def test_the_tables_of_an_issuer_are_found_newest_first(store: StateStore) -> None:
    paths = []
    for issuer_key, generation in [("ab12", 9), ("ab12", 10), ("cd34", 11), ("ab12", 1)]:
        descriptor, temporary = store.new_table_file()
        os.close(descriptor)
        paths.append(store.install_table(temporary, issuer_key, generation))
    assert store.find_tables("ab12") == [paths[1], paths[0], paths[3]]
    assert store.find_tables("ef56") == []


PAYLOAD = '[{"serial":"5","note":"gr\u00fcn"}]'.encode()


def test_what_is_revoked_locally_comes_back(directory: Path, store: StateStore) -> None:
    assert store.load_local() == (None, None)
    store.save_local(b"[]")
    store.save_local(PAYLOAD)
    assert store.load_local() == (PAYLOAD, None)
    assert mode(directory / "local" / "local.json") == 0o600


def test_damage_at_any_byte_of_what_is_revoked_locally_is_found_and_set_aside(
    directory: Path, store: StateStore
) -> None:
    path = directory / "local" / "local.json"
    store.save_local(PAYLOAD)
    good = path.read_bytes()
    for at in range(len(good)):
        damaged = bytearray(good)
        damaged[at] ^= 0x15
        path.write_bytes(damaged)
        payload, problem = store.load_local()
        assert payload is None
        assert problem is not None
        assert "set aside as local.json.corrupt-" in problem
        assert not path.exists()
    assert len(list(path.parent.glob("local.json.corrupt-*"))) == 3


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_revoked_locally_and_is_something_else_is_set_aside(
    directory: Path, store: StateStore, content: bytes
) -> None:
    path = directory / "local" / "local.json"
    path.write_bytes(content.replace(b"url", b"payload"))
    assert "set aside as local.json.corrupt-1" in str(store.load_local()[1])


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_what_is_revoked_locally_and_cut_off_is_set_aside(
    directory: Path, store: StateStore, cut: int
) -> None:
    path = directory / "local" / "local.json"
    store.save_local(PAYLOAD)
    path.write_bytes(path.read_bytes()[:cut])
    assert store.load_local()[0] is None
    assert store.load_local() == (None, None)
    assert [aside.name for aside in path.parent.iterdir()] == ["local.json.corrupt-1"]


def test_a_full_disk_leaves_what_was_revoked_locally(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save_local(PAYLOAD)

    def full(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match=r"local\.json: No space left on device; what was there stays"):
        store.save_local(b"[]")
    monkeypatch.undo()
    assert store.load_local() == (PAYLOAD, None)
