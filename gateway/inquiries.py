"""What a worker asks control about its clients, one question for all who wait for the same. No I/O."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import trio

from gateway.publish import Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class _Inquiry:
    """A question that is not settled, and how many wait for it."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.over = trio.Event()
        self.waiting = 0


class Inquiries:
    """`send` takes a question on its way to control; it says whether there is room for one more."""

    def __init__(self, send: Callable[[Question], bool]) -> None:
        self._send = send
        self._numbers = count(1)
        self._open: dict[int, _Inquiry] = {}
        self._about: dict[tuple[str, bytes], _Inquiry] = {}

    def questions(self) -> list[Question]:
        """Those that are not settled: a control process that has just been started has heard none of them."""
        return [inquiry.question for inquiry in self._open.values()]

    def settled(self, numbers: Iterable[int]) -> None:
        """Control has done what it could."""
        for number in numbers:
            inquiry = self._open.get(number)
            if inquiry is not None:
                inquiry.over.set()

    async def ask(self, listener: str, chain: Sequence[bytes]) -> None:
        """Return once it is settled, whatever came of it; how long to wait is the caller's to say.

        `chain` is as `publish.Question` has it.
        """
        about = (listener, chain[0])
        inquiry = self._about.get(about)
        if inquiry is None:
            inquiry = _Inquiry(Question(next(self._numbers), listener, tuple(chain)))
            if not self._send(inquiry.question):
                return
            self._open[inquiry.question.number] = self._about[about] = inquiry
        inquiry.waiting += 1
        try:
            await inquiry.over.wait()
        finally:
            inquiry.waiting -= 1
            if not inquiry.waiting:
                del self._open[inquiry.question.number], self._about[about]
