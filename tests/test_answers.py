"""What responders said is found by all processes, for the very certificate, and for as long as it counts."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from gateway.names import IssuerId
from gateway.native import Answer, Answers, AnswerStatus
from gateway.native.binding import lib

NOW = 1_800_000_000
CA, OTHER = IssuerId(b"name", b"key"), IssuerId(b"name", b"other key")
GOOD = Answer(AnswerStatus.GOOD, NOW + 10, NOW + 5)

_ISSUERS = st.builds(IssuerId, st.binary(max_size=40), st.binary(max_size=40))
_ANSWERS = st.builds(
    Answer,
    st.sampled_from(AnswerStatus),
    st.integers(NOW + 1, 2**62),
    st.integers(0, 2**62),
    revocation_date=st.integers(-(2**40), 2**40),
    reason=st.integers(-1, 10),
    round=st.just(0),
    this_update=st.integers(0, 2**40),
)


@given(st.dictionaries(st.tuples(_ISSUERS, st.integers(-(2**200), 2**200)), _ANSWERS, max_size=20))
def test_what_was_put_last_is_found_and_nothing_else(known: dict[tuple[IssuerId, int], Answer]) -> None:
    answers = Answers(1000)
    for place, answer in known.items():
        answers.put(*place, GOOD)
        answers.put(*place, answer)
    assert {place: answers.find(*place, NOW) for place in known} == known
    assert answers.find(CA, 7, NOW) is None or (CA, 7) in known


def test_an_answer_is_of_one_serial_of_one_key_of_one_name() -> None:
    answers = Answers(10)
    answers.put(CA, 7, GOOD)
    assert answers.find(CA, 7, NOW) == GOOD
    assert answers.find(CA, 8, NOW) is None
    assert answers.find(OTHER, 7, NOW) is None
    assert answers.find(IssuerId(b"other", CA.key), 7, NOW) is None


def test_it_counts_until_it_ends() -> None:
    answers = Answers(10)
    answers.put(CA, 7, GOOD)
    assert answers.find(CA, 7, GOOD.ends - 1) == GOOD
    assert answers.find(CA, 7, GOOD.ends) is None


def test_in_a_new_round_all_is_due_but_what_was_asked_in_it() -> None:
    answers = Answers(10)
    answers.put(CA, 7, GOOD)
    answers.next_round()
    found = answers.find(CA, 7, NOW)
    assert found is not None
    assert (found.due, found.ends) == (NOW, GOOD.ends)
    renewed = GOOD._replace(round=answers.round)
    answers.put(CA, 7, renewed)
    assert answers.find(CA, 7, NOW) == renewed


def test_where_there_is_no_room_what_ends_first_goes() -> None:
    answers = Answers(1)
    for serial in range(1000):
        answers.put(CA, serial, GOOD._replace(ends=NOW + 1 + serial))
    kept = [serial for serial in range(1000) if answers.find(CA, serial, NOW) is not None]
    assert kept == list(range(992, 1000))


def test_room_for_a_fleet_has_room_for_nearly_all_of_it() -> None:
    answers = Answers(5000)
    for serial in range(5000):
        answers.put(CA, serial, GOOD)
    assert sum(answers.find(CA, serial, NOW) is None for serial in range(5000)) < 10


def test_another_process_finds_what_this_one_puts_later() -> None:
    answers = Answers(10)
    wake, woken = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(wake, 1)
        os._exit(0 if answers.find(CA, 7, NOW) == GOOD else 1)
    answers.put(CA, 7, GOOD)
    os.write(woken, b"!")
    assert os.waitpid(child, 0)[1] == 0
    os.close(wake)
    os.close(woken)


def test_half_an_answer_is_none() -> None:
    answers = Answers(1)
    answers.put(CA, 7, GOOD)
    slots = answers.pointer.slots
    (written,) = (slot for slot in map(slots.__getitem__, range(8)) if slot[lib.GW_ANSWER_ENDS])
    written[lib.GW_ANSWER_ENDS] += 1
    assert answers.find(CA, 7, NOW) is None
