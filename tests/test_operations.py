"""What an operator does is in force before it is kept, and each answer says what came of it."""

from __future__ import annotations

import errno
import json
import os
import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from gateway import operations as operations_module
from gateway import status, status_text
from gateway.commands import Answer, Drain, ListRevoked, Refresh, Reload, Revoke, Status, Unrevoke
from gateway.config import serials
from gateway.config.material import ListenerMaterial
from gateway.errors import FetchError, GatewayError, TableError
from gateway.log import get_logger
from gateway.operations import Operations
from gateway.refresh import LONGEST
from gateway.revocation import local
from gateway.revocation.local import LocalRevocation
from gateway.revocation.serials import SerialFiles
from gateway.schedule import Schedule, Source, SourceState
from gateway.store import StateStore
from tests.authority import Authority, common_name
from tests.observer import Recorder
from tests.statuses import a_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from trio.testing import MockClock

A, B = "http://user:secret@crl.example/a.crl", "http://crl.example/b.crl"
AUTHORITY = Authority.root("CA")
CA = AUTHORITY.cert.subject.public_bytes()
STRANGER = common_name("Stranger").public_bytes()
BY = "root (uid 0)"
WHEN = 1_700_000_000


class Tables:
    """Notes what is in force."""

    def __init__(self) -> None:
        self.entries: Mapping[bytes, bytes] = {}
        self.times = 0
        self.fault: GatewayError | None = None

    async def revoke_locally(self, *entries: Mapping[bytes, bytes]) -> None:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault
        self.times += 1
        self.entries = {
            name: b"".join(each.get(name, b"") for each in entries) for name in set().union(*entries)
        }


class Refresher:
    def __init__(self, url: str, attempt: Callable[[SourceState], Awaitable[bool]]) -> None:
        state = SourceState(url)

        async def one() -> bool:
            return await attempt(state)

        self.schedule = Source(state, one, Schedule(900), Recorder())


def material(file: Path) -> ListenerMaterial:
    """Of a listener with one CA, whose file this is."""
    return ListenerMaterial((), (AUTHORITY.cert,), (), serials.read(file, 1), ())


class Desk:
    """Operations on a state directory; made again, it is a restart."""

    def __init__(self, directory: Path, file: Path | None = None) -> None:
        self.tables = Tables()
        self.store = StateStore(directory)
        self.store.prepare()
        self.sources: list[tuple[str, Any]] = []
        self.late = 0
        self.status = a_status()
        self.responders: list[str] = []
        self.asked_anew: list[str | None] = []
        self.reloads = 0
        self.drains = 0
        self.bad_configuration = ""
        self.checked = True
        self.operations = Operations(
            self.tables,
            self.store,
            SerialFiles([material(file)] if file else []),
            lambda: self.sources,
            lambda: [CA],
            lambda: self.status,
            get_logger(process="control"),
            late=self.count_late,
            reload=self._reload,
            ask_anew=self._ask_anew,
            drain=self._drain,
            now=lambda: WHEN,
        )

    def _ask_anew(self, url: str | None) -> list[str]:
        self.asked_anew.append(url)
        return [each for each in self.responders if url in (None, each)]

    async def count_late(self) -> int:
        await trio.lowlevel.checkpoint()
        return self.late

    def _drain(self) -> None:
        self.drains += 1

    async def _reload(self) -> bool:
        if self.bad_configuration:
            raise GatewayError(self.bad_configuration)
        self.reloads += 1
        return self.checked

    async def revoke(self, serial: str = "05", issuer: bytes = CA, reason: str = "keyCompromise") -> Answer:
        return await self.operations.handle(Revoke(issuer, serial, reason, "lost\n"), BY)

    async def unrevoke(self, serial: str = "05") -> Answer:
        return await self.operations.handle(Unrevoke(CA, serial), BY)

    async def listed(self) -> Any:
        return json.loads((await self.operations.handle(ListRevoked(), BY)).data)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


def revocation(serial: int = 5) -> LocalRevocation:
    return LocalRevocation(CA, serial, "keyCompromise", WHEN, BY, "lost\\n")


async def test_what_is_revoked_is_in_force_and_still_is_after_a_restart(tmp_path: Path, desk: Desk) -> None:
    answer = await desk.revoke()
    assert answer == Answer(ok=True, lines=("revoked and in force: serial 05 of CN=CA, keyCompromise",))
    assert desk.tables.entries == local.entries((revocation(),))
    again = Desk(tmp_path)
    await again.operations.restore()
    assert again.tables.entries == desk.tables.entries


async def test_a_worker_that_does_not_answer_is_told_of(desk: Desk, autojump_clock: MockClock) -> None:
    desk.late = 2
    warning = "warning: not in force in 2 workers yet: they do it when they answer, or start again"
    assert (await desk.revoke()).lines == ("revoked: serial 05 of CN=CA, keyCompromise", warning)
    assert (await desk.unrevoke()).lines[1:] == (warning,)
    answer = await refreshed(desk, None, (A, new))
    assert (answer.ok, answer.lines[1:]) == (False, (warning,))


async def test_what_is_revoked_is_listed_with_who_when_and_why(desk: Desk) -> None:
    await desk.revoke()
    assert await desk.listed() == [
        {
            "issuer": "CN=CA",
            "serial": "05",
            "reason": "keyCompromise",
            "revoked_at": "2023-11-14T22:13:20Z",
            "by": BY,
            "note": "lost\\n",
        }
    ]


async def test_what_is_taken_back_is_not_in_force_and_not_after_a_restart(tmp_path: Path, desk: Desk) -> None:
    await desk.revoke()
    await desk.revoke("06")
    assert (await desk.unrevoke()).ok
    assert desk.tables.entries == local.entries((revocation(6),))
    again = Desk(tmp_path)
    await again.operations.restore()
    assert again.tables.entries == desk.tables.entries


async def test_what_is_not_revoked_cannot_be_taken_back(desk: Desk) -> None:
    with pytest.raises(GatewayError, match="serial 05 of CN=CA is not revoked by hand; nothing is changed"):
        await desk.unrevoke()


async def test_a_full_disk_does_not_keep_a_revocation_from_taking_effect(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    def full(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    answer = await desk.revoke()
    monkeypatch.undo()
    assert answer.ok
    assert "not kept" in answer.lines[1]
    assert "No space left on device" in answer.lines[1]
    assert desk.tables.entries == local.entries((revocation(),))
    assert "local revocations not kept" in [event["event"] for event in events]
    # The next one that can be written keeps both.
    await desk.revoke("06")
    assert len(local.decode(desk.store.load_local()[0] or b"")) == 2


async def test_what_cannot_be_put_in_force_is_not_kept(desk: Desk) -> None:
    desk.tables.fault = TableError("no room")
    with pytest.raises(TableError):
        await desk.revoke()
    assert await desk.listed() == []
    assert desk.store.load_local() == (None, None)


@pytest.mark.parametrize(
    ("serial", "reason"), [("xyz", "unspecified"), ("", "unspecified"), ("5", "removeFromCRL")]
)
async def test_what_makes_no_sense_is_refused(desk: Desk, serial: str, reason: str) -> None:
    with pytest.raises(GatewayError, match=r"expected .*; nothing is"):
        await desk.revoke(serial, reason=reason)


async def test_no_more_are_revoked_by_hand_than_can_be_kept_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations_module, "_MOST_BY_HAND", 2)
    await desk.revoke("05")
    await desk.revoke("06")
    with pytest.raises(GatewayError, match=r"2 certificates are revoked by hand, .*; nothing is revoked"):
        await desk.revoke("07")
    # The same again is no more.
    assert (await desk.revoke("06")).ok


async def test_an_issuer_that_nobody_knows_is_warned_of(desk: Desk) -> None:
    answer = await desk.revoke(issuer=STRANGER)
    assert answer.ok
    assert "no CA that the gateway knows is called CN=Stranger" in answer.lines[-1]


@pytest.mark.parametrize("means_nothing", [False, True])
async def test_a_damaged_file_is_told_and_does_not_stop_the_start(
    tmp_path: Path, desk: Desk, events: list[Any], *, means_nothing: bool
) -> None:
    await desk.revoke()
    if means_nothing:
        desk.store.save_local(b"{}")
    else:
        path = tmp_path / "local" / "local.json"
        path.write_bytes(path.read_bytes()[:-5])
    again = Desk(tmp_path)
    await again.operations.restore()
    assert again.tables.entries == {}
    [problem] = [event["problem"] for event in events if event["event"] == "local revocations lost"]
    assert "set aside as local.json.corrupt-1" in problem


async def test_a_table_that_cannot_be_written_does_not_stop_the_start_and_loses_nothing(
    tmp_path: Path, desk: Desk, events: list[Any]
) -> None:
    await desk.revoke()
    again = Desk(tmp_path)
    again.tables.fault = TableError("no room")
    await again.operations.restore()
    assert "local revocations not in force" in [event["event"] for event in events]
    again.tables.fault = None
    await again.revoke("06")
    assert again.tables.entries == local.entries((revocation(5), revocation(6)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of revoked_serials that revokes serial 5."""
    return write(tmp_path / "revoked.txt", "5\n")


def write(path: Path, text: str, when: int = WHEN) -> Path:
    path.write_bytes(text.encode(errors="surrogateescape"))
    os.utime(path, (when, when))
    return path


def in_file(serial: int, file: Path, line: int = 1, when: int = WHEN) -> LocalRevocation:
    return LocalRevocation(CA, serial, "unspecified", when, f"{file} line {line}")


async def refresh(desk: Desk) -> Answer:
    return await desk.operations.handle(Refresh(None), BY)


async def test_what_a_file_revokes_is_in_force_from_the_start(tmp_path: Path, file: Path) -> None:
    desk = Desk(tmp_path, file)
    await desk.operations.restore()
    assert desk.tables.entries == local.entries((in_file(5, file),))
    [listed] = await desk.listed()
    assert (listed["serial"], listed["by"]) == ("05", f"{file} line 1")


async def test_what_a_file_revokes_cannot_be_taken_back_by_hand(tmp_path: Path, file: Path) -> None:
    desk = Desk(tmp_path, file)
    await desk.operations.restore()
    with pytest.raises(GatewayError, match=r"revoked.txt line 1: take that line out; nothing is changed"):
        await desk.unrevoke()
    await desk.revoke()
    answer = await desk.unrevoke()
    assert answer.lines[-1] == f"warning: it stays revoked by {file} line 1: take that line out, too"
    assert desk.tables.entries == local.entries((in_file(5, file),))


async def test_a_file_that_was_written_to_is_looked_at_at_once(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, seen = Desk(tmp_path, file), trio.Event()

    async def look() -> None:
        await trio.lowlevel.checkpoint()
        seen.set()

    monkeypatch.setattr(desk.operations, "_follow", look)
    monkeypatch.setattr(operations_module, "_LOOK", 3600.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.operations.watch)
        with trio.fail_after(30):
            while not seen.is_set():
                write(file, f"{random.getrandbits(64):x}\n")
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_the_files_are_looked_at_once_a_second_whatever_their_stamps_say(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    looks = []

    async def look() -> None:
        await trio.lowlevel.checkpoint()
        looks.append(trio.current_time() - start)

    monkeypatch.setattr(desk.operations, "_follow", look)
    start = trio.current_time()
    with trio.move_on_after(3.5):
        await desk.operations.watch()
    assert looks == pytest.approx([1, 2, 3])


async def test_a_file_is_followed_while_the_gateway_runs(
    tmp_path: Path, file: Path, events: list[Any]
) -> None:
    desk = Desk(tmp_path, file)
    await desk.operations.restore()
    write(file, "5\n6\n")
    await desk.operations._follow()
    assert desk.tables.entries == local.entries((in_file(5, file), in_file(6, file, 2)))
    write(file, "6\n")
    for _ in range(2):
        await desk.operations._follow()
    assert desk.tables.entries == local.entries((in_file(6, file),))
    read = [event for event in events if event["event"] == "revoked serials read"]
    assert [(event["revoked"], event["more"], event["less"]) for event in read] == [
        (1, 0, 0), (2, 1, 0), (1, 0, 1),
    ]  # fmt: skip


async def test_a_bad_file_changes_nothing_and_is_told_once(
    tmp_path: Path, file: Path, events: list[Any]
) -> None:
    desk = Desk(tmp_path, file)
    await desk.operations.restore()
    for bad in ("5\nnonsense\n", "8\n\udcff\n"):
        write(file, bad)
        for _ in range(3):
            await desk.operations._follow()
        assert desk.tables.entries == local.entries((in_file(5, file),))
    errors = [event["error"] for event in events if event["event"] == "revoked serials not read"]
    assert len(errors) == 2
    assert "revoked.txt: line 2: expected a serial number" in errors[0]
    assert "revoked.txt: line 2: expected UTF-8 text" in errors[1]
    assert desk.operations.problems == (f"revoked_serials: {errors[1]}",)
    answer = await refresh(desk)
    assert not answer.ok
    assert answer.lines == (f"{errors[1]}; what it said before stays",)


async def test_refresh_reads_the_files_at_once(tmp_path: Path, file: Path) -> None:
    desk = Desk(tmp_path, file)
    await desk.operations.restore()
    assert (await refresh(desk)).lines == (f"{file}: unchanged, 1 revoked",)
    write(file, "6\n7\n")
    assert (await refresh(desk)).lines == (f"{file}: 2 more and 1 fewer than before, 2 revoked",)
    assert {each["serial"] for each in await desk.listed()} == {"06", "07"}


async def test_a_comment_alone_puts_nothing_new_in_force(tmp_path: Path, file: Path) -> None:
    desk = Desk(tmp_path, file)
    await desk.operations.restore()
    write(file, "# stolen\n5\n", WHEN + 60)
    await refresh(desk)
    assert desk.tables.times == 1
    # It is revoked since it was first seen.
    [listed] = await desk.listed()
    assert (listed["by"], listed["revoked_at"]) == (f"{file} line 2", "2023-11-14T22:13:20Z")


async def test_what_a_table_had_no_room_for_is_tried_again_and_told_once(
    tmp_path: Path, file: Path, events: list[Any]
) -> None:
    desk = Desk(tmp_path)
    await desk.revoke("06")
    desk = Desk(tmp_path, file)
    desk.tables.fault = TableError("no room")
    await desk.operations.restore()
    await desk.operations._follow()
    assert (await refresh(desk)).lines[-1] == "not in force: no room"
    desk.tables.fault = None
    await desk.operations._follow()
    assert desk.tables.entries == local.entries((in_file(5, file), revocation(6)))
    assert [event["event"] for event in events].count("local revocations not in force") == 1


async def test_an_issuer_in_a_file_that_nobody_knows_is_warned_of_once(
    tmp_path: Path, file: Path, events: list[Any]
) -> None:
    desk = Desk(tmp_path, file)
    await desk.operations.restore()
    for text in ("5 CN=Stranger\n", "6 CN=Stranger\n"):
        write(file, text)
        await refresh(desk)
    assert [event["issuers"] for event in events if event["event"] == "revoked serials of no known CA"] == [
        "CN=Stranger"
    ]


async def new(state: SourceState) -> bool:
    await trio.sleep(1)
    state.number = (state.number or 0) + 1
    state.this_update = 1
    return True


async def same(state: SourceState) -> bool:
    await trio.sleep(1)
    state.this_update = 1
    return False


async def bad(_state: SourceState) -> bool:
    await trio.sleep(1)
    raise FetchError("nobody there")


async def hang(_state: SourceState) -> bool:
    await trio.sleep_forever()
    raise AssertionError


async def refreshed(desk: Desk, url: str | None, *sources: tuple[str, Any]) -> Answer:
    desk.sources = [("list", Refresher(url, attempt)) for url, attempt in sources]
    async with trio.open_nursery() as nursery:
        for _kind, refresher in desk.sources:
            nursery.start_soon(refresher.schedule.run)
        await trio.sleep(10)
        answer = await desk.operations.handle(Refresh(url), BY)
        nursery.cancel_scope.cancel()
    return answer


async def test_refresh_waits_for_every_source_at_once_and_tells_what_came_of_each(
    desk: Desk, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    answer = await refreshed(desk, None, (A, new), (B, same))
    assert trio.current_time() - start == pytest.approx(11)
    assert answer == Answer(
        ok=True,
        lines=(
            "http://crl.example/a.crl: new list in force: number 2",
            "http://crl.example/b.crl: unchanged",
        ),
    )


async def test_refresh_of_one_that_fails_says_why(desk: Desk, autojump_clock: MockClock) -> None:
    answer = await refreshed(desk, B, (A, new), (B, bad))
    assert answer == Answer(ok=False, lines=("http://crl.example/b.crl: failed: nobody there",))


async def test_a_source_that_hangs_is_not_waited_for_for_ever(desk: Desk, autojump_clock: MockClock) -> None:
    answer = await refreshed(desk, None, (B, hang))
    assert answer.lines == (f"http://crl.example/b.crl: no end within {LONGEST:g} s; it goes on",)


async def test_those_who_refresh_do_not_keep_others_from_being_heard(
    desk: Desk, autojump_clock: MockClock
) -> None:
    desk.sources = [("list", Refresher(B, hang))]
    async with trio.open_nursery() as nursery:
        for _ in range(operations_module._MOST_REFRESHES):
            nursery.start_soon(desk.operations.handle, Refresh(B), BY)
        await wait_all_tasks_blocked()
        with pytest.raises(GatewayError, match="8 refreshes are under way; nothing is fetched"):
            await desk.operations.handle(Refresh(B), BY)
    with pytest.raises(GatewayError, match="no source has this URL"):
        await desk.operations.handle(Refresh(A), BY)
    assert desk.operations._refreshing == 0


async def test_a_source_is_found_by_the_url_that_status_shows(desk: Desk, autojump_clock: MockClock) -> None:
    assert (await refreshed(desk, "http://crl.example/a.crl", (A, new), (B, bad))).ok


async def test_refresh_has_responders_asked_again_about_those_who_are_connected(desk: Desk) -> None:
    desk.responders = ["http://ocsp.example", "http://other.example"]
    told = "asked again about each client that is connected"
    one = await desk.operations.handle(Refresh("http://ocsp.example"), BY)
    assert one == Answer(ok=True, lines=(f"http://ocsp.example: {told}",))
    everything = await desk.operations.handle(Refresh(None), BY)
    assert everything.lines == tuple(f"{each}: {told}" for each in desk.responders)
    assert desk.asked_anew == ["http://ocsp.example", None]


async def test_refreshing_what_is_no_source_is_refused(desk: Desk) -> None:
    with pytest.raises(GatewayError, match=r"no source has this URL; .* nothing is fetched"):
        await desk.operations.handle(Refresh("http://other/"), BY)


async def test_status_is_told_in_text_and_json(desk: Desk) -> None:
    answer = await desk.operations.handle(Status(), BY)
    assert msgspec.json.decode(answer.data, type=status.Status) == desk.status
    assert list(answer.lines) == status_text.lines(desk.status)


async def test_what_is_revoked_by_hand_and_by_the_configuration_is_counted(
    tmp_path: Path, file: Path
) -> None:
    desk = Desk(tmp_path, file)
    await desk.operations.restore()
    await desk.revoke()
    assert desk.operations.revoked == (1, 1)


async def test_a_reload_begins_where_the_configuration_is_good_and_says_why_where_it_is_not(
    desk: Desk,
) -> None:
    answer = await desk.operations.handle(Reload(), BY)
    assert (answer.ok, len(answer.lines)) == (True, 1)
    assert answer.lines[0].startswith("the configuration is good, and is being taken")
    desk.checked = False
    answer = await desk.operations.handle(Reload(), BY)
    assert answer.lines == ("asked for; the log tells what comes of it",)
    desk.bad_configuration = "gateway.toml: workers: expected a whole number"
    with pytest.raises(GatewayError, match="workers: expected"):
        await desk.operations.handle(Reload(), BY)
    assert desk.reloads == 2


async def test_a_drain_is_asked_for_by_somebody(desk: Desk, events: list[Any]) -> None:
    assert (await desk.operations.handle(Drain(), BY)).ok
    assert (desk.drains, events[-1]["event"], events[-1]["by"]) == (1, "drain asked for", BY)
