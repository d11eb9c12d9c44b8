"""What a response means for a client, and when a responder is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import StapleError
from gateway.native import FOREVER, Answer, AnswerStatus
from gateway.revocation.ocsp import Responder, in_vain, understand
from gateway.stapling.response import CertStatus, VerifiedResponse

NOW = 1_800_000_000
HOUR = 3600
URL = "http://ocsp.example"
GOOD = Answer(AnswerStatus.GOOD, NOW + 10, NOW + 5)
NONE = Answer(AnswerStatus.NONE, NOW + 10, NOW + 10)


def response(
    status: CertStatus,
    *,
    next_update: int = NOW + HOUR,
    reason: str = "unspecified",
    this_update: int = NOW,
) -> VerifiedResponse:
    expires = next_update or NOW + 24 * HOUR
    return VerifiedResponse(b"", status, this_update, next_update, NOW, expires, NOW - HOUR, reason)


def understood(
    status: CertStatus,
    *,
    before: Answer | None = None,
    next_update: int = NOW + HOUR,
    reason: str = "unspecified",
    this_update: int = NOW,
) -> Answer:
    found = response(status, next_update=next_update, reason=reason, this_update=this_update)
    return understand(found, before, NOW, chance=0.0)


def test_good_lasts_until_next_update_and_is_asked_for_again_at_half_of_that() -> None:
    assert understood("good") == Answer(AnswerStatus.GOOD, NOW + HOUR, NOW + HOUR // 2, this_update=NOW)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10**6))
def test_those_of_one_moment_part_and_are_asked_for_in_time(chance: float, lifetime: int) -> None:
    answer = understand(response("good", next_update=NOW + lifetime), None, NOW, chance)
    assert NOW < answer.due <= max(NOW + 1, NOW + lifetime // 2)


def test_without_next_update_good_lasts_for_five_minutes() -> None:
    assert understood("good", next_update=0).ends == NOW + 300


def test_revoked_lasts_for_ever_with_its_date_and_reason() -> None:
    answer = Answer(AnswerStatus.REVOKED, FOREVER, FOREVER, NOW - HOUR, reason=1, this_update=NOW)
    assert understood("revoked", reason="keyCompromise") == answer


@pytest.mark.parametrize("later", ["good", "unknown"])
def test_nothing_takes_revoked_back(later: CertStatus) -> None:
    revoked = understood("revoked", reason="keyCompromise")
    assert understood(later, before=revoked) == revoked
    assert in_vain(revoked, NOW + 60).ends == FOREVER


def test_only_on_hold_may_come_back() -> None:
    held = understood("revoked", reason="certificateHold")
    assert (held.status, held.ends, held.reason) == (AnswerStatus.REVOKED, NOW + HOUR, 6)
    assert understood("good", before=held, this_update=NOW + 1).status is AnswerStatus.GOOD


HELD = understood("revoked", reason="certificateHold")


@pytest.mark.parametrize(
    ("before", "later", "this_update"),
    [
        (HELD, "good", NOW),
        (HELD, "good", NOW - 1),
        (HELD, "unknown", NOW),
        (understood("good"), "revoked", NOW - 1),
        (understood("good"), "unknown", NOW - 1),
    ],
)
def test_an_older_response_that_says_something_else_is_refused(
    before: Answer, later: CertStatus, this_update: int
) -> None:
    with pytest.raises(StapleError, match=f"older than what is known: it says {later}"):
        understood(later, before=before, reason="certificateHold", this_update=this_update)


@given(st.integers(-HOUR, HOUR), st.integers(-HOUR, HOUR), st.sampled_from(["good", "revoked"]))
def test_what_is_known_never_goes_back(first: int, second: int, status: CertStatus) -> None:
    before = understood(status, reason="certificateHold", this_update=NOW + first)
    after = understood(status, before=before, reason="certificateHold", this_update=NOW + second)
    assert after.this_update == NOW + max(first, second)
    assert after.status is before.status


def test_of_one_moment_revoked_is_the_later_word() -> None:
    assert understood("revoked", before=understood("good")).status is AnswerStatus.REVOKED


def test_what_was_not_known_takes_any_answer() -> None:
    unknown = understood("unknown")
    assert understood("good", before=unknown, this_update=NOW - HOUR).status is AnswerStatus.GOOD


def test_unknown_is_asked_about_again_in_a_minute() -> None:
    assert understood("unknown") == Answer(AnswerStatus.UNKNOWN, NOW + 60, NOW + 60, this_update=NOW)


def test_a_request_in_vain_leaves_what_is_known_and_puts_the_next_one_off() -> None:
    assert in_vain(GOOD, NOW + 7) == GOOD._replace(due=NOW + 7)
    assert in_vain(GOOD._replace(due=NOW + 9), NOW + 7).due == NOW + 9


@pytest.mark.parametrize("before", [None, NONE, understood("unknown")])
def test_where_nothing_is_known_a_request_in_vain_says_so(before: Answer | None) -> None:
    assert in_vain(before, NOW + 7) == Answer(AnswerStatus.NONE, NOW + 7, NOW + 7)


class TestTheBreaker:
    def test_five_failures_in_a_row_open_it_and_only_the_fifth_says_so(self) -> None:
        responder = Responder(URL)
        told = [responder.failed(NOW, "dead", 0.0) for _ in range(7)]
        assert told == [False, False, False, False, True, False, False]
        assert responder.broken
        assert not responder.admit(NOW)

    def test_an_answer_between_failures_keeps_it_closed(self) -> None:
        responder = Responder(URL)
        for _ in range(10):
            for _ in range(4):
                responder.failed(NOW, "dead", 0.0)
            responder.answered()
        assert responder.admit(NOW)
        assert (responder.answers, responder.failures) == (10, 40)

    def test_when_its_time_has_come_one_request_tries_whether_it_is_back(self) -> None:
        responder = Responder(URL)
        for _ in range(5):
            responder.failed(NOW, "dead", 0.0)
        later = responder.retry_at
        assert [responder.admit(later), responder.admit(later)] == [True, False]
        responder.answered()
        assert [responder.admit(later), responder.admit(later)] == [True, True]

    def test_one_that_wants_to_be_left_alone_is_for_a_minute_at_most(self) -> None:
        responder = Responder(URL)
        responder.failed(NOW, "busy", 0.0, retry_after=7)
        assert [responder.admit(NOW + 6), responder.admit(NOW + 7)] == [False, True]
        responder.failed(NOW, "busy", 0.0, retry_after=HOUR)
        assert responder.worth_asking_at(NOW) == NOW + 61
        assert [responder.admit(NOW + 59), responder.admit(NOW + 60)] == [False, True]

    def test_a_useless_answer_lets_the_next_one_try(self) -> None:
        responder = Responder(URL)
        for _ in range(5):
            responder.failed(NOW, "dead", 0.0)
        assert responder.admit(responder.retry_at)
        responder.answered_in_vain("nonsense")
        assert responder.admit(responder.retry_at)

    @given(
        st.lists(
            st.tuples(st.integers(0, 100), st.booleans(), st.floats(0, 1, exclude_max=True)), max_size=80
        )
    )
    def test_it_tries_ever_less_often_but_never_less_than_once_a_minute(
        self, attempts: list[tuple[int, bool, float]]
    ) -> None:
        responder, now, in_a_row = Responder(URL), float(NOW), 0
        for passed, dead, chance in attempts:
            now += passed
            broken, retry_at = in_a_row >= 5, responder.retry_at
            admitted = responder.admit(now)
            assert responder.broken == broken
            assert admitted == (not broken or now >= retry_at)
            assert retry_at <= now + 60
            assert now < responder.worth_asking_at(now) <= max(now, retry_at) + 1
            if admitted and dead:
                responder.failed(now, "dead", chance)
                in_a_row += 1
            elif admitted:
                responder.answered()
                in_a_row = 0
