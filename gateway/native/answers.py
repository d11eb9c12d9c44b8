"""What OCSP responders said of clients' certificates, in memory that all processes share (csrc/answers.h)."""

from __future__ import annotations

import mmap
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.native.binding import AnswerStatus, Issuer, ffi, lib
from gateway.native.table import serial_octets

if TYPE_CHECKING:
    from gateway.names import IssuerId

FOREVER = 2**62
"""What ends then never does; in seconds since 1970."""

_WORD = 2**64


class Answer(NamedTuple):
    """What is known of one certificate (csrc/answers.h says of what each is)."""

    status: AnswerStatus
    ends: int
    due: int
    revocation_date: int = 0
    reason: int = -1
    round: int = 0
    this_update: int = 0
    """Of the response that said so; 0 where none did."""


class Answers:
    """A cache of fixed size, made before the fork: one process finds and puts, the others look up in C.

    Where there is no room for an answer, the one that ends first of those around goes.
    """

    def __init__(self, room: int) -> None:
        """Make one for `room` certificates: four cache lines each, so that hardly any has to go."""
        buckets = max(1, 4 * room // lib.GW_ANSWERS_IN_BUCKET)
        slot = ffi.sizeof("uint64_t") * lib.GW_ANSWER_WORDS
        size = ffi.sizeof("gw_answers") + buckets * lib.GW_ANSWERS_IN_BUCKET * slot
        self._memory = mmap.mmap(-1, size)
        self._buffer = ffi.from_buffer(self._memory)
        self.pointer = ffi.cast("gw_answers *", self._buffer)
        self.pointer.seeds = [secrets.randbits(64), secrets.randbits(64)]
        self.pointer.buckets = buckets

    @property
    def round(self) -> int:
        """What was asked in an earlier one is due, whatever it says."""
        return int(self.pointer.round)

    def next_round(self) -> None:
        """Have all that was asked until now asked again, for clients that are connected."""
        self.pointer.round += 1

    def find(self, issuer: IssuerId, serial: int, now: int) -> Answer | None:
        """What is known of a certificate at `now`; None where nobody has asked, or the answer has ended."""
        key, bucket = self._bucket(issuer, serial)
        slot = next((slot for slot in bucket if [slot[0], slot[1]] == key), None)
        if slot is None or slot[lib.GW_ANSWER_ENDS] <= now:
            return None
        if slot[lib.GW_ANSWER_SEAL] != lib.gw_answer_seal(slot):
            # Whoever wrote it was killed half-way: who looks up finds nothing there, either.
            return None
        this_update, said = divmod(slot[lib.GW_ANSWER_STATUS], 1 << 16)
        reason, status = divmod(said, 256)
        date = slot[lib.GW_ANSWER_DATE]
        return Answer(
            status=AnswerStatus(status),
            ends=slot[lib.GW_ANSWER_ENDS],
            due=now if slot[lib.GW_ANSWER_ROUND] < self.round else slot[lib.GW_ANSWER_DUE],
            revocation_date=date - _WORD if date >= _WORD // 2 else date,
            reason=reason - 1,
            round=slot[lib.GW_ANSWER_ROUND],
            this_update=this_update,
        )

    def put(self, issuer: IssuerId, serial: int, answer: Answer) -> None:
        """Put an answer in the place of what was known of that certificate."""
        key, bucket = self._bucket(issuer, serial)
        same = (slot for slot in bucket if [slot[0], slot[1]] == key)
        slot = next(same, None) or min(bucket, key=lambda slot: slot[lib.GW_ANSWER_ENDS])
        status = answer.status | answer.reason + 1 << 8 | answer.this_update << 16
        words = [*key, status, answer.revocation_date % _WORD, answer.ends, answer.due, answer.round]
        words.append(lib.gw_answer_seal(ffi.new("uint64_t[]", words)))
        for number, word in enumerate(words):
            slot[number] = word

    def _bucket(self, issuer: IssuerId, serial: int) -> tuple[list[int], list[Any]]:
        """The two words that are its key, and the slots that may have it."""
        place, octets, key = Issuer(issuer.name, issuer.key), serial_octets(serial), ffi.new("uint64_t[2]")
        home = lib.gw_answers_home(self.pointer, place.pointer, octets, len(octets), key)
        return list(key), [self.pointer.slots[home + number] for number in range(lib.GW_ANSWERS_IN_BUCKET)]
