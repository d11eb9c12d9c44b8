"""What an OCSP response means for a client, and when to leave a responder alone. No I/O, no clock.

Times are seconds since 1970; `chance` is a number in [0, 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gateway.errors import StapleError
from gateway.names import REASONS
from gateway.native import FOREVER, Answer, AnswerStatus
from gateway.schedule import Schedule

if TYPE_CHECKING:
    from gateway.stapling.response import VerifiedResponse

# Failures in a row after which nobody waits for a responder any more.
_FAILURES = 5
# How long at most a responder that failed is left alone, in seconds.
_BACK_OFF = Schedule(interval=60.0)
# A responder that answers, but not what is asked for, is asked again after so many seconds.
_IN_VAIN = 60
# Without nextUpdate "newer revocation information is available all the time" (RFC 6960, section 4.2.2.1).
_WITHOUT_NEXT_UPDATE = 300
# Of a response's life, the part after which it is asked for again; those of one moment part.
_HALF, _SPREAD = 0.5, 0.1
_CODES = {name: code for code, name in REASONS.items()}
_HOLD = "certificateHold"
_STATUSES = {
    "good": AnswerStatus.GOOD,
    "unknown": AnswerStatus.UNKNOWN,
    "revoked": AnswerStatus.REVOKED,
}


def understand(response: VerifiedResponse, before: Answer | None, now: int, chance: float) -> Answer:
    """What a verified response says, after what was known `before`, and for how long.

    Revoked is for ever, but for certificateHold, which may be taken back (RFC 5280,
    section 5.3.1): who says "good" of it later replays an old response. That a
    certificate is not known may change any time. Otherwise the later thisUpdate counts:
    an older response that says the same changes nothing, as responders behind one
    address may differ by a moment.

    Raises:
        StapleError: the response is older than what is known, and says something else.
    """
    if before is not None and before.status is AnswerStatus.REVOKED and before.ends == FOREVER:
        return before
    this_update, status = max(0, response.this_update), _STATUSES[response.status]
    if before is not None and _is_older(this_update, status, before):
        if status is not before.status:
            raise StapleError(
                f"older than what is known: it says {response.status} with a thisUpdate"
                f" {before.this_update - this_update} s earlier; that stays"
            )
        return before._replace(due=_due(before.ends, now, chance))
    ends = response.expires if response.next_update else min(response.expires, now + _WITHOUT_NEXT_UPDATE)
    due = _due(ends, now, chance)
    if status is AnswerStatus.UNKNOWN:
        ends = due = min(ends, now + _IN_VAIN)
    if status is not AnswerStatus.REVOKED:
        return Answer(status, ends, due, this_update=this_update)
    if response.reason != _HOLD:
        ends = due = FOREVER
    reason = _CODES.get(response.reason, -1)
    return Answer(status, ends, due, response.revoked_at, reason, this_update=this_update)


def _is_older(this_update: int, status: AnswerStatus, before: Answer) -> bool:
    """Whether a response says less than is known; of one moment, revoked is the later word."""
    if before.status is AnswerStatus.REVOKED and status is not AnswerStatus.REVOKED:
        return this_update <= before.this_update
    return before.status in (AnswerStatus.GOOD, AnswerStatus.REVOKED) and this_update < before.this_update


def _due(ends: int, now: int, chance: float) -> int:
    return now + max(1, int((ends - now) * (_HALF - _SPREAD * chance)))


def in_vain(before: Answer | None, until: int) -> Answer:
    """What is known after a request that brought no answer; nobody needs to ask before `until`.

    What was said before counts until it ends.
    """
    if before is None or before.status in (AnswerStatus.NONE, AnswerStatus.UNKNOWN):
        return Answer(AnswerStatus.NONE, until, until)
    return before._replace(due=max(before.due, until))


class Responder(msgspec.Struct):
    """What is known of one responder, for status: a circuit breaker.

    It opens after five failures in a row: then nobody waits for it. From `retry_at` on
    one request at a time shows whether it is back.
    """

    url: str
    answers: int = 0
    failures: int = 0
    consecutive_failures: int = 0
    last_error: str | None = None
    retry_at: float = 0.0
    """Until then it is not asked at all, once it is given up."""
    leave_until: float = 0.0
    """Until then it is not, because it wants to be left alone."""
    trying: bool = False

    @property
    def broken(self) -> bool:
        """Whether it has failed so often that clients do not wait for it."""
        return self.consecutive_failures >= _FAILURES

    def admit(self, now: float) -> bool:
        """Whether it may be asked now; then `answered` or `failed` has to follow."""
        if now < self.leave_until:
            return False
        if not self.broken:
            return True
        if self.trying or now < self.retry_at:
            return False
        self.trying = True
        return True

    def answered(self) -> None:
        """It said something, whatever it was."""
        self.answers += 1
        self.consecutive_failures = 0
        self.trying = False

    def answered_in_vain(self, error: str) -> None:
        """What it said, or what was to be asked, cannot be used."""
        self.last_error = error
        self.trying = False

    def failed(self, now: float, error: str, chance: float, retry_after: float = 0.0) -> bool:
        """It could not be reached, or not in time; whether it is given up with that, for now.

        Where it wants to be left alone for `retry_after` seconds it is, for a minute at most:
        clients are waiting.
        """
        self.failures += 1
        self.consecutive_failures += 1
        self.last_error = error
        self.trying = False
        self.leave_until = now + min(retry_after, _BACK_OFF.interval)
        self.retry_at = now + _BACK_OFF.after_failure(
            max(1, self.consecutive_failures - _FAILURES + 1), chance
        )
        return self.consecutive_failures == _FAILURES

    def worth_asking_at(self, now: float) -> int:
        """When there is a point in asking again, after a failure or without asking."""
        return int(max(self.retry_at, self.leave_until, now)) + 1


def in_vain_until(now: float) -> int:
    """When to ask a responder again that answers, but not what is asked for."""
    return int(now) + _IN_VAIN
