"""Responders are asked once for all who wait, a few at a time, and no longer than it is any use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from trio.testing import wait_all_tasks_blocked

from gateway.errors import FetchError, TableError
from gateway.fetch import Fetched
from gateway.names import issuer_id
from gateway.native import FOREVER, Answer, Answers, AnswerStatus
from gateway.revocation import responders as responders_module
from gateway.revocation.responders import Responders
from gateway.revocation.subjects import Subject
from tests.authority import DAY, HOUR, NOW, Authority, make_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.testing import MockClock

    from gateway.errors import GatewayError
    from gateway.names import IssuerId
    from gateway.revocation.ocsp import Responder

URL, OTHER = "http://ocsp.example", "http://other.example"
TIMEOUT = 2.0

CA = Authority.root("Fleet CA")
ISSUER = issuer_id(CA.cert)
KEY = make_key()
UNREADABLE = 77

GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN


def subject(serial: int, url: str | None = URL) -> Subject:
    certificate = CA.issue(f"device-{serial}", serial=serial, key=KEY).cert
    return Subject(certificate, CA.cert, url, learnt=True, timeout=TIMEOUT, identities=frozenset({ISSUER}))


def saying(status: ocsp.OCSPCertStatus) -> Callable[[int], Awaitable[bytes]]:
    """A responder that says this of every certificate."""

    async def say(serial: int) -> bytes:
        await trio.lowlevel.checkpoint()
        reason = x509.ReasonFlags.key_compromise
        return CA.ocsp(subject(serial).certificate, status=status, reason=reason, next_update=NOW + DAY)

    return say


async def nonsense(_serial: int) -> bytes:
    await trio.lowlevel.checkpoint()
    return b"nonsense"


async def stalling(_serial: int) -> bytes:
    await trio.sleep_forever()
    raise AssertionError


async def dead(_serial: int) -> bytes:
    await trio.lowlevel.checkpoint()
    raise FetchError("nobody there")


class Told:
    """What an operator would hear."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []

    def revoked(self, one: Subject, _answer: Answer) -> None:
        self.events.append(("revoked", one.certificate.serial_number))

    def useless(self, _one: Subject, error: GatewayError) -> None:
        self.events.append(("useless", str(error)[:20]))

    def unknown(self, one: Subject) -> None:
        self.events.append(("unknown", one.certificate.serial_number))

    def given_up(self, responder: Responder) -> None:
        self.events.append(("given up", responder.url))

    def is_back(self, responder: Responder) -> None:
        self.events.append(("is back", responder.url))


class Office:
    """All that is around responders; `behaves` is how they are now."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.answers = Answers(1000)
        self.behaves = saying(GOOD)
        self.asked: list[tuple[str, bool, bool]] = []
        self.at_once = self.most_at_once = 0
        self.told = Told()
        self.revoked: list[x509.Certificate] = []
        """By the lists in force."""
        self.responders = Responders(
            nursery,
            self._ask,
            self.answers,
            self.told,
            revoked=self._is_revoked,
            now=self.now,
            chance=lambda: 0.0,
        )

    def _is_revoked(self, delegate: x509.Certificate, _issuer: IssuerId) -> bool:
        if delegate.serial_number == UNREADABLE:
            raise TableError("certificate cannot be looked up")
        return delegate in self.revoked

    @staticmethod
    def now() -> float:
        return NOW + trio.current_time()

    async def _ask(
        self,
        url: str,
        request: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 - as Asker.ask
        past_caches: bool = False,
        learnt: bool = False,
    ) -> Fetched:
        self.asked.append((url, past_caches, learnt))
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            with trio.fail_after(timeout):
                body = await self.behaves(ocsp.load_der_ocsp_request(request).serial_number)
                return Fetched(body, None, None, None)
        except trio.TooSlowError as exc:
            raise FetchError(f"{url}: no answer within {timeout:g} s") from exc
        finally:
            self.at_once -= 1

    def status(self, serial: int) -> AnswerStatus | None:
        known = self.answers.find(ISSUER, serial, int(self.now()))
        return None if known is None else known.status

    async def settle(self, *serials: int, url: str | None = URL) -> float:
        """How many seconds it takes."""
        began = trio.current_time()
        await self.responders.settle([subject(serial, url) for serial in serials])
        return trio.current_time() - began


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with trio.open_nursery() as nursery:
        yield Office(nursery)
        nursery.cancel_scope.cancel()


async def test_an_answer_is_asked_for_once_however_many_want_it_and_kept_until_it_ends(
    office: Office,
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(office.settle, 7)
    assert office.asked == [(URL, False, True)]
    assert office.status(7) is AnswerStatus.GOOD
    await office.settle(7)
    assert len(office.asked) == 1
    await trio.sleep(DAY + 1)
    assert office.status(7) is None


async def test_past_half_of_its_life_it_is_asked_for_again_past_caches(
    office: Office, autojump_clock: MockClock
) -> None:
    await office.settle(7)
    await trio.sleep(DAY / 2 + 1)
    assert office.status(7) is AnswerStatus.GOOD
    await office.settle(7)
    assert office.asked == [(URL, False, True), (URL, True, True)]


async def test_in_a_new_round_it_is_asked_for_again_once(office: Office, autojump_clock: MockClock) -> None:
    await office.settle(7)
    office.answers.next_round()
    await office.settle(7)
    await office.settle(7)
    assert len(office.asked) == 2


async def test_one_who_gives_up_waiting_takes_nothing_from_the_others(
    office: Office, autojump_clock: MockClock
) -> None:
    office.behaves = stalling
    with trio.move_on_after(1):
        await office.settle(7)
    office.behaves = saying(GOOD)
    assert await office.settle(7) == pytest.approx(1)
    assert office.status(7) is AnswerStatus.NONE


async def test_revoked_is_told_once_and_for_ever(office: Office, autojump_clock: MockClock) -> None:
    await office.settle(7)
    office.behaves = saying(REVOKED)
    office.answers.next_round()
    await office.settle(7)
    assert office.told.events == [("revoked", 7)]
    known = office.answers.find(ISSUER, 7, int(office.now()))
    assert known is not None
    assert (known.status, known.reason, known.revocation_date) == (AnswerStatus.REVOKED, 1, NOW - HOUR)
    office.behaves = saying(GOOD)
    office.answers.next_round()
    await office.settle(7)
    assert office.status(7) is AnswerStatus.REVOKED
    assert len(office.told.events) == 1
    assert known.ends == FOREVER


@pytest.mark.parametrize(
    ("behaves", "status", "told"),
    [
        (saying(UNKNOWN), AnswerStatus.UNKNOWN, ("unknown", 7)),
        (nonsense, AnswerStatus.NONE, ("useless", "not an OCSP response")),
    ],
)
async def test_who_answers_but_says_nothing_of_use_is_asked_again_in_a_minute_and_is_not_given_up(
    office: Office,
    autojump_clock: MockClock,
    behaves: Callable[[int], Awaitable[bytes]],
    status: AnswerStatus,
    told: tuple[str, object],
) -> None:
    office.behaves = behaves
    for times in range(1, 8):
        await office.settle(7)
        await office.settle(7)
        assert office.status(7) is status
        assert len(office.asked) == times
        await trio.sleep(61)
    assert office.told.events == [told] * 7


async def test_who_names_no_responder_is_settled_without_one(
    office: Office, autojump_clock: MockClock
) -> None:
    assert await office.settle(7, url=None) == 0
    assert (office.asked, office.status(7)) == ([], AnswerStatus.NONE)


async def test_good_stays_good_until_it_ends_while_its_responder_is_dead(
    office: Office, autojump_clock: MockClock
) -> None:
    await office.settle(7)
    office.behaves = dead
    await trio.sleep(DAY / 2 + 1)
    await office.settle(7)
    assert office.status(7) is AnswerStatus.GOOD
    await trio.sleep(DAY / 2)
    await office.settle(7)
    assert office.status(7) is AnswerStatus.NONE


async def test_no_more_than_sixteen_requests_at_a_time_go_to_one_responder(
    office: Office, autojump_clock: MockClock
) -> None:
    office.behaves = stalling
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.settle, *range(1, 41))
        await wait_all_tasks_blocked()
        assert office.most_at_once == 16
        office.behaves = dead
        assert await office.settle(100, url=OTHER) == 0
        assert office.asked[-1][0] == OTHER
        nursery.cancel_scope.cancel()


async def test_a_stalling_responder_costs_a_client_its_timeout_and_from_the_sixth_on_nothing(
    office: Office,
    autojump_clock: MockClock,
) -> None:
    office.behaves = stalling
    assert [await office.settle(serial) for serial in range(1, 9)] == [TIMEOUT] * 5 + [0] * 3
    assert len(office.asked) == 5
    assert office.told.events == [("given up", URL)]


async def test_many_who_come_at_once_wait_for_a_stalling_responder_no_longer_than_one(
    office: Office, autojump_clock: MockClock
) -> None:
    office.behaves = stalling
    assert await office.settle(*range(1, 101)) <= TIMEOUT
    assert all(office.status(serial) is AnswerStatus.NONE for serial in range(1, 101))


async def test_a_responder_that_comes_back_is_found_by_one_and_then_serves_all(
    office: Office, autojump_clock: MockClock
) -> None:
    office.behaves = dead
    for serial in range(1, 7):
        await office.settle(serial)
    office.behaves = saying(GOOD)
    await trio.sleep(61)
    await office.settle(*range(11, 21))
    assert len(office.asked) == 6
    await trio.sleep(2)
    await office.settle(*range(11, 21))
    assert all(office.status(serial) is AnswerStatus.GOOD for serial in range(11, 21))
    assert office.told.events == [("given up", URL), ("is back", URL)]
    [state] = office.responders.states()
    assert (state.answers, state.failures, state.broken) == (10, 5, False)


async def test_of_too_many_responders_one_that_is_idle_is_forgotten(
    office: Office, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responders_module, "_MOST_RESPONDERS", 3)
    for number in range(1, 6):
        await office.settle(number, url=f"http://ocsp{number}.example")
    assert [state.url[11:12] for state in office.responders.states()] == ["3", "4", "5"]


async def test_a_delegate_that_a_list_revokes_is_not_believed(
    office: Office, autojump_clock: MockClock
) -> None:
    delegates = [
        CA.issue("responder", serial=serial, usages=(ExtendedKeyUsageOID.OCSP_SIGNING,))
        for serial in (1, UNREADABLE)
    ]
    delegate = delegates.pop(0)

    async def delegated(serial: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return CA.ocsp(subject(serial).certificate, signer=delegate, next_update=NOW + DAY)

    office.behaves = delegated
    await office.settle(7)
    office.revoked = [delegate.cert]
    await office.settle(8)
    [delegate] = delegates
    await office.settle(9)
    statuses = [office.status(serial) for serial in (7, 8, 9)]
    assert statuses == [AnswerStatus.GOOD, AnswerStatus.NONE, AnswerStatus.NONE]
    assert [kind for kind, _ in office.told.events] == ["useless"] * 2
