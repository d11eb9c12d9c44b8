"""Which table is in force after which list, over restarts, and what is left in the directory."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio
from cryptography import x509

from gateway.errors import CrlError, GatewayError, StoreError, TableError
from gateway.names import issuer_id
from gateway.native import Table, compile_table
from gateway.revocation import coverage
from gateway.revocation import table as table_module
from gateway.revocation.authorities import Authorities
from gateway.revocation.crl import Succession, VerifiedCrl, verify_crl
from gateway.revocation.table import Tables
from gateway.store import StateStore
from tests.authority import NOW, Authority, Revoked, extension, tlv

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from gateway.revocation.coverage import Coverage, Listed, Stream

CA = Authority.root("First CA")
OTHER = Authority.root("Second CA")
TRUSTED = Authorities([CA.cert, OTHER.cert])


def crl(*serials: int, number: int = 1, ca: Authority = CA, raw_entries: bytes = b"") -> VerifiedCrl:
    entries = [Revoked(serial) for serial in serials]
    return verify_crl(ca.crl(entries, number=number, raw_entries=raw_entries), TRUSTED, now=NOW)


class Process:
    """One life of the control process on a state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "table"
        self.told: list[Sequence[Coverage]] = []
        self.came: list[tuple[Listed, Succession]] = []
        self.gone: list[str] = []
        self.store = StateStore(directory)
        self.store.prepare()
        self.now = float(NOW)
        self.tables = Tables(self.store, TRUSTED, self, now=lambda: self.now)

    def published(self, coverages: Sequence[Coverage]) -> None:
        self.told.append(coverages)

    def in_force(self, one: Listed, _before: Listed | None, succession: Succession) -> None:
        self.came.append((one, succession))

    def left_out(self, _stream: Stream, reason: str) -> None:
        self.gone.append(reason)

    @property
    def paths(self) -> list[Path]:
        """The tables of the lists that have come into force, in order."""
        return [file.path for one, _succession in self.came for file in one.files]

    def files(self) -> set[Path]:
        return set(self.directory.iterdir())


def serials(path: Path) -> set[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return {serial for serial, _entry in Table(fd)}
    finally:
        os.close(fd)


async def test_a_list_becomes_a_table_that_the_workers_are_told_of(tmp_path: Path) -> None:
    process = Process(tmp_path)
    assert await process.tables.install(crl(5, 6, 6)) == 2
    [[coverage]] = process.told
    assert [issuer.name for issuer in coverage.issuers] == [CA.cert.subject.public_bytes()]
    assert serials(coverage.table.path) == {5, 6}
    assert process.files() == {coverage.table.path}


async def test_a_newer_list_takes_its_place_under_another_name(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.tables.install(crl(5))
    await process.tables.install(crl(5, 6, number=2))
    old, new = process.paths
    assert old != new
    assert (serials(old), serials(new)) == ({5}, {5, 6})


async def test_a_list_in_force_revokes_a_certificate_of_its_issuer_and_of_no_other(tmp_path: Path) -> None:
    process, other = Process(tmp_path), Authority.root("Other")
    five, six = CA.issue(serial=5).cert, CA.issue(serial=6).cert
    assert not process.tables.revoked(five, issuer_id(CA.cert))
    await process.tables.install(crl(5))
    assert process.tables.revoked(five, issuer_id(CA.cert))
    assert not process.tables.revoked(six, issuer_id(CA.cert))
    assert not process.tables.revoked(other.issue(serial=5).cert, issuer_id(other.cert))
    await process.tables.install(crl(6, number=2))
    assert not process.tables.revoked(five, issuer_id(CA.cert))


async def test_the_same_list_again_changes_nothing(tmp_path: Path) -> None:
    process, same = Process(tmp_path), crl(5, 6)
    assert await process.tables.install(same) == 2
    assert await process.tables.install(same) == 2
    assert len(process.told) == 1


async def test_an_older_list_is_refused_and_the_newer_one_stays(tmp_path: Path) -> None:
    process, older = Process(tmp_path), crl(5, number=6)
    await process.tables.install(crl(5, 6, number=7))
    with pytest.raises(CrlError, match=r"CRL number 6 is below 7 of the one in force: rollback\?"):
        process.tables.check(older)
    with pytest.raises(CrlError, match="rollback"):
        await process.tables.install(older)
    assert len(process.told) == 1
    assert process.files() == set(process.paths)


async def test_where_nothing_is_in_force_any_list_is_welcome(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.tables.check(crl(5, number=6))
    await process.tables.install(crl(5, number=7, ca=OTHER))
    process.tables.check(crl(5, number=6))


async def test_a_list_with_an_entry_that_cannot_be_read_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.tables.install(crl(5))
    with pytest.raises(CrlError):
        await process.tables.install(crl(5, 6, number=2, raw_entries=tlv(0x30)))
    assert len(process.told) == 1
    assert process.files() == set(process.paths)
    # The refused one has not raised the bar: a good list of its number is taken.
    assert await process.tables.install(crl(5, 6, number=2)) == 2


async def test_a_table_that_cannot_be_written_leaves_the_old_one_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(tmp_path)
    await process.tables.install(crl(5))

    def full(*_arguments: object) -> Path:
        raise StoreError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(process.store, "install_table", full)
        with pytest.raises(StoreError):
            await process.tables.install(crl(5, 6, number=2))
    assert len(process.told) == 1
    assert await process.tables.install(crl(5, 6, number=2)) == 2


async def test_one_generation_back_is_kept_and_what_is_older_is_swept(tmp_path: Path) -> None:
    """A worker may be about to open the one that was in force a moment ago."""
    process = Process(tmp_path)
    for number in range(1, 5):
        await process.tables.install(crl(*range(number), number=number))
        assert process.files() == set(process.paths[-2:])


async def test_each_issuer_has_a_table_of_its_own(tmp_path: Path) -> None:
    process = Process(tmp_path)
    for number in range(1, 4):
        await process.tables.install(crl(number, number=number))
        await process.tables.install(crl(number + 10, number=number, ca=OTHER))
    assert process.files() == set(process.paths[-4:])
    assert [serials(path) for path in process.paths[-2:]] == [{3}, {13}]
    assert {coverage.table.path for coverage in process.told[-1]} == set(process.paths[-2:])


def refuse_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_table(*_arguments: Any) -> int:
        raise AssertionError("compiled again")

    monkeypatch.setattr(table_module, "compile_table", compile_table)


async def test_after_a_restart_the_table_of_the_same_list_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, same = Process(tmp_path), crl(5, 6)
    await before.tables.install(same)
    after = Process(tmp_path)
    refuse_to_compile(monkeypatch)
    assert await after.tables.install(same) == 2
    assert after.paths == before.paths
    assert after.files() == set(before.paths)


async def test_a_table_that_cannot_be_written_says_where_and_leaves_what_is_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(tmp_path)
    await process.tables.install(crl(5))

    def pwrite(*_arguments: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(TableError) as caught:
        await process.tables.install(crl(5, 6, number=2))
    assert str(caught.value).startswith(f"{process.directory}: cannot write the revocation table of ")
    assert str(caught.value).endswith("No space left on device; what was in force stays")
    assert process.files() == set(process.paths)
    assert len(process.told) == 1


async def test_after_a_restart_a_table_of_another_list_is_not_used(tmp_path: Path) -> None:
    before = Process(tmp_path)
    await before.tables.install(crl(5))
    after = Process(tmp_path)
    assert await after.tables.install(crl(5, 6)) == 2
    assert serials(after.paths[0]) == {5, 6}
    assert after.files() == set(after.paths)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
async def test_a_damaged_table_is_made_again(tmp_path: Path, damage: str) -> None:
    before, same = Process(tmp_path), crl(5, 6)
    await before.tables.install(same)
    [path] = before.paths
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"flipped": bytes(content), "cut": bytes(content[:-1]), "empty": b""}[damage])
    after = Process(tmp_path)
    assert await after.tables.install(same) == 2
    [made] = after.paths
    assert serials(made) == {5, 6}
    assert after.files() == {made}


async def test_of_several_tables_the_one_of_the_list_is_found(tmp_path: Path) -> None:
    before, newer = Process(tmp_path), crl(5, 6, number=2)
    await before.tables.install(crl(5))
    await before.tables.install(newer)
    after = Process(tmp_path)
    assert await after.tables.install(newer) == 2
    assert after.paths == before.paths[-1:]


async def test_an_older_list_is_taken_once_the_newer_one_has_expired_and_it_is_told(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.tables.install(crl(5, number=7))
    [(newer, _)] = process.came
    process.now = newer.next_update + 1
    longer = CA.crl([Revoked(6)], number=6, next_update=newer.next_update + 1000)
    await process.tables.install(verify_crl(longer, TRUSTED, now=NOW))
    assert process.came[-1][1] is Succession.OLDER
    with pytest.raises(CrlError, match="rollback"):
        await process.tables.install(crl(5, number=5))


NAME = CA.cert.subject.public_bytes()


def entry(serial: int) -> bytes:
    return tlv(0x30, tlv(0x02, bytes([serial])), tlv(0x17, b"260101000000Z"))


def revoked(process: Process) -> list[set[int]]:
    """What is in force, table by table."""
    return [serials(coverage.table.path) for coverage in process.told[-1]]


async def test_what_is_revoked_locally_needs_no_list_and_covers_nothing(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.tables.revoke_locally({NAME: entry(7)})
    [coverage] = process.told[-1]
    assert serials(coverage.table.path) == {7}
    assert [cover.reasons for cover in coverage.covers()] == [0]
    await process.tables.revoke_locally({})
    assert process.told[-1] == ()


async def test_a_table_of_what_was_revoked_locally_outlives_its_successor_for_a_while(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A worker may be about to open it, however fast an operator revokes."""
    process = Process(tmp_path)
    for serial in range(1, 4):
        await process.tables.revoke_locally({NAME: entry(serial)})
    assert len(process.files()) == 3
    await trio.sleep(table_module._LINGER)
    await process.tables.revoke_locally({NAME: entry(3) + entry(4)})
    assert {frozenset(serials(path)) for path in process.files()} == {frozenset({3}), frozenset({3, 4})}
    await trio.sleep(table_module._LINGER)
    await process.tables.revoke_locally({})
    await trio.sleep(table_module._LINGER)
    await process.tables.revoke_locally({})
    assert process.files() == set()


async def test_who_revokes_locally_does_not_wait_for_a_long_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, go_on, compiling = Process(tmp_path), threading.Event(), trio.Event()
    await process.tables.install(crl(8))
    token = trio.lowlevel.current_trio_token()

    def slowly(octets: bytes, entries: Any, meta: Any, fd: int, *, indirect: bool = False) -> int:
        if meta.number is not None:
            token.run_sync_soon(compiling.set)
            assert go_on.wait(30)
        return compile_table(octets, entries, meta, fd, indirect=indirect)

    monkeypatch.setattr(table_module, "compile_table", slowly)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.tables.install, crl(8, 9, number=2))
        await compiling.wait()
        with trio.move_on_after(30):
            await process.tables.revoke_locally({NAME: entry(5)})
        assert revoked(process) == [{8}, {5}]
        go_on.set()
    assert revoked(process) == [{8, 9}, {5}]


async def test_what_could_not_be_put_in_force_is_not_put_in_force_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    process = Process(tmp_path)
    await process.tables.revoke_locally({NAME: entry(5)})
    kept = process.files()

    def fail(*_arguments: object, **_more: object) -> None:
        raise TableError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(table_module, "resolve", fail)
        with pytest.raises(TableError):
            await process.tables.revoke_locally({NAME: entry(5) + entry(6)})
    await process.tables.look_again()
    assert revoked(process) == [{5}]
    await process.tables.install(crl(8))
    assert revoked(process) == [{8}, {5}]
    # What was made of it is gone in the end, and what is in force is not.
    await trio.sleep(table_module._LINGER)
    await process.tables.revoke_locally({NAME: entry(5)})
    assert process.files() == kept | set(process.paths)


def shards(count: int, number: int = 1) -> list[VerifiedCrl]:
    """Lists of one CA for as many distribution points."""
    made = []
    for shard in range(count):
        point = x509.IssuingDistributionPoint(
            full_name=[x509.UniformResourceIdentifier(f"http://crl.example/{shard}")],
            relative_name=None,
            only_contains_user_certs=False,
            only_contains_ca_certs=False,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )
        der = CA.crl([Revoked(shard)], number=number, extensions=extension(point, critical=True))
        made.append(verify_crl(der, TRUSTED, now=NOW))
    return made


async def install_together(process: Process, lists: Sequence[VerifiedCrl]) -> list[GatewayError]:
    """Returns what was raised, for however many."""
    failures: list[GatewayError] = []

    async def install(one: VerifiedCrl) -> None:
        try:
            await process.tables.install(one)
        except GatewayError as exc:
            failures.append(exc)

    async with trio.open_nursery() as nursery:
        for one in lists:
            nursery.start_soon(install, one)
    return failures


async def test_lists_that_arrive_together_come_into_force_together(tmp_path: Path) -> None:
    process = Process(tmp_path)
    for number in (1, 2):
        process.told.clear()
        assert await install_together(process, shards(20, number)) == []
        # In any order, all are there before one has to wait for what it says together with the others.
        [coverages] = process.told
        assert {serial for each in coverages for serial in serials(each.table.path)} == set(range(20))
        assert [one.number for one in process.tables.lists()] == [number] * 20
    assert len(process.came) == 40
    # With the generation before, which a worker may be about to open.
    assert process.files() == set(process.paths)


async def test_of_those_that_arrive_together_the_newest_of_an_issuer_stays(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.tables.install(crl(1, number=1))
    together = [crl(2, number=2), crl(3, number=3), crl(3, number=3)]
    failures = await install_together(process, [*together, crl(2, number=2)])
    assert [each.table.path for each in process.told[-1]] == [process.paths[-1]]
    # Whatever the order, nothing older comes behind it.
    assert all("rollback" in str(failure) for failure in failures)
    assert serials(process.paths[-1]) == {3}
    assert process.paths[0] in process.files()


async def test_one_that_cannot_come_into_force_keeps_out_none_that_came_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(tmp_path)

    def resolve(lists: Iterable[Listed], *arguments: Any, **options: Any) -> Any:
        lists = list(lists)
        if any(one.number == 9 for one in lists):
            raise TableError("no memory")
        return coverage.resolve(lists, *arguments, **options)

    monkeypatch.setattr(table_module, "resolve", resolve)
    lists = [*shards(3), crl(5, ca=OTHER, number=9)]
    while failures := await install_together(process, lists):
        # Those that came before it may have to come once more, as a refresher does.
        assert {str(failure) for failure in failures} == {"no memory"}
        if len(process.tables) == 3:
            break
    assert [len(each) for each in process.told][-1] == 3
    assert {one.number for one in process.tables.lists()} == {1}


async def test_what_is_installed_in_a_batch_is_told_of_once_at_its_end(tmp_path: Path) -> None:
    process = Process(tmp_path)
    async with process.tables.batch():
        await process.tables.install(crl(5))
        await process.tables.install(crl(6, ca=OTHER))
        assert process.told == []
    [coverages] = process.told
    assert {frozenset(serials(coverage.table.path)) for coverage in coverages} == {
        frozenset({5}),
        frozenset({6}),
    }
