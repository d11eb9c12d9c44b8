"""Where workers' questions about clients are settled, and what an operator hears of it. In control."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import trio

from gateway.fetch import display_url
from gateway.names import describe, one_line, reason_text
from gateway.revocation import policy
from gateway.revocation.responders import Responders
from gateway.revocation.subjects import subjects

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from structlog.typing import FilteringBoundLogger

    from gateway.config.model import Listener
    from gateway.errors import GatewayError
    from gateway.native import Answer, Answers
    from gateway.publish import Question
    from gateway.revocation.ocsp import Responder
    from gateway.revocation.responders import Ask
    from gateway.revocation.subjects import Subject
    from gateway.revocation.table import Tables

# Useless answers of one responder that are told of in an hour: a fleet of clients would fill the disk.
_MOST_TOLD, _HOUR = 20, 3600
# Threads that read certificates and verify responses.
_AT_ONCE = 2


class Settler:
    """`look` is called when a client that is connected may be revoked now; it must not block."""

    def __init__(
        self,
        nursery: trio.Nursery,
        listeners: Sequence[Listener],
        tables: Tables,
        answers: Answers,
        ask: Ask,
        look: Callable[[], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._rules = {listener.name: listener.revocation for listener in listeners}
        self._tables = tables
        self._answers = answers
        # Of its own: compiling a long list must not keep a client waiting.
        self._work = trio.CapacityLimiter(_AT_ONCE)
        self._responders = Responders(
            nursery, ask, answers, _Observer(look, log), revoked=tables.revoked, work=self._work
        )

    def responders(self) -> list[Responder]:
        """Those that were asked, for status."""
        return self._responders.states()

    async def settle(self, question: Question) -> None:
        """Return when the shared answers have all that can be known of the client now."""
        rules = self._rules.get(question.listener)
        if rules is None:
            # A worker of an earlier configuration, whose listener is no more.
            return
        try:
            # Reads certificates and verifies the signature of one that stands alone: not on the loop.
            wanted = await trio.to_thread.run_sync(
                subjects, question.chain, self._tables.authorities, rules, time.time(), limiter=self._work
            )
        except ValueError:
            # It has passed OpenSSL; that nothing is known of it is all that can be said.
            return
        await self._responders.settle(wanted)

    def ask_anew(self, url: str | None) -> list[str]:
        """Have all that was said of clients that are connected asked for again, if a responder has this URL.

        With None, any has. Gives the URLs of those that have.
        """
        named = [display_url(one.url) for one in self.responders()]
        asked = [each for each in named if url is None or display_url(url) == each]
        if asked:
            self._answers.next_round()
        return asked


class _Observer:
    """Logs what becomes of requests; `responders.Observer`."""

    def __init__(self, look: Callable[[], None], log: FilteringBoundLogger) -> None:
        self._look = look
        self._log = log
        self._told: Counter[tuple[str | None, float]] = Counter()

    def revoked(self, subject: Subject, answer: Answer) -> None:
        self._log.warning(
            "revoked by OCSP",
            **_of(subject),
            revoked_at=policy.moment(answer.revocation_date),
            revocation_reason=reason_text(answer.reason),
        )
        self._look()

    def useless(self, subject: Subject, error: GatewayError) -> None:
        if self._may_tell(subject.url):
            self._log.warning("OCSP answer not used", **_of(subject), error=one_line(error))

    def unknown(self, subject: Subject) -> None:
        if self._may_tell(subject.url):
            self._log.warning("unknown to OCSP", **_of(subject))

    def given_up(self, responder: Responder) -> None:
        self._log.warning(
            "responder given up",
            url=display_url(responder.url),
            failures=responder.consecutive_failures,
            error=responder.last_error,
            consequence="clients do not wait for it; it is tried again by and by",
        )

    def is_back(self, responder: Responder) -> None:
        self._log.info("responder is back", url=display_url(responder.url))

    def _may_tell(self, url: str | None) -> bool:
        this = time.time() // _HOUR
        self._told = Counter({key: told for key, told in self._told.items() if key[1] == this})
        self._told[url, this] += 1
        return self._told[url, this] <= _MOST_TOLD


def _of(subject: Subject) -> dict[str, object]:
    return {"certificate": describe(subject.certificate), "url": display_url(subject.url or "")}
