"""Questions are settled by the rules of their listener, and an operator hears what matters, within bounds."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
from cryptography.x509 import ocsp
from structlog.testing import capture_logs

from gateway.config.model import Address, Certificate, Listener, Revocation
from gateway.errors import FetchError
from gateway.fetch import Fetched
from gateway.log import get_logger
from gateway.names import issuer_id
from gateway.native import Answers, AnswerStatus
from gateway.publish import Question
from gateway.revocation.authorities import Authorities
from gateway.revocation.settling import Settler
from tests.authority import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from trio.testing import MockClock

URL = "http://user:secret@ocsp.example"
SHOWN = "http://ocsp.example"
CA = Authority.root("Fleet CA")
DEVICE = CA.issue("device", ocsp_urls=[URL])
QUESTION = Question(1, "external", (DEVICE.der, CA.der))


class Office:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.answers = Answers(100)
        self.status: ocsp.OCSPCertStatus | None = ocsp.OCSPCertStatus.GOOD
        """None: nobody is there."""
        self.asked: list[tuple[str, float]] = []
        self.looks = 0
        listener = Listener(
            name="external",
            bind=(Address("", 8883),),
            upstreams=(Address("127.0.0.1", 1883),),
            certificates=(Certificate(cert=Path("server.pem"), key=Path("server.key")),),
            revocation=Revocation(ocsp="require"),
        )
        tables: Any = SimpleNamespace(
            authorities=Authorities([CA.cert]), revoked=lambda _certificate, _issuer: False
        )
        self.settler = Settler(
            nursery, [listener], tables, self.answers, self._ask, self._look, get_logger(process="control")
        )

    def _look(self) -> None:
        self.looks += 1

    async def _ask(self, url: str, request: bytes, *, timeout: float, **_how: bool) -> Fetched:  # noqa: ASYNC109 - as Asker.ask
        await trio.lowlevel.checkpoint()
        self.asked.append((url, timeout))
        if self.status is None:
            raise FetchError(f"{SHOWN}: nobody there")
        serial = ocsp.load_der_ocsp_request(request).serial_number
        return Fetched(CA.ocsp(CA.issue("device", serial=serial).cert, status=self.status), None, None, None)

    def known(self) -> AnswerStatus | None:
        found = self.answers.find(issuer_id(CA.cert), DEVICE.serial, int(time.time()))
        return None if found is None else found.status


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with trio.open_nursery() as nursery:
        yield Office(nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


@pytest.mark.parametrize("chain", [(DEVICE.der, CA.der), (DEVICE.der,)])
async def test_a_client_is_asked_about_where_it_says_within_its_listeners_time(
    office: Office, events: list[Any], chain: tuple[bytes, ...]
) -> None:
    await office.settler.settle(Question(1, "external", chain))
    assert (office.known(), office.asked) == (AnswerStatus.GOOD, [(URL, 2.0)])
    assert (events, office.looks) == ([], 0)


@pytest.mark.parametrize(
    "question",
    [
        Question(1, "gone", (DEVICE.der, CA.der)),
        Question(1, "external", (b"garbage",)),
        Question(1, "external", (Authority.root("Stranger").issue("device").der,)),
    ],
    ids=["another listener", "no certificate", "a stranger"],
)
async def test_what_nobody_can_be_asked_about_is_settled_at_once(office: Office, question: Question) -> None:
    await office.settler.settle(question)
    assert office.asked == []


async def test_a_revocation_is_told_and_has_live_connections_looked_up(
    office: Office, events: list[Any]
) -> None:
    office.status = ocsp.OCSPCertStatus.REVOKED
    await office.settler.settle(QUESTION)
    assert (office.known(), office.looks) == (AnswerStatus.REVOKED, 1)
    [event] = events
    assert (event["log_level"], event["event"], event["url"]) == ("warning", "revoked by OCSP", SHOWN)
    assert "CN=device" in event["certificate"]
    assert event["revocation_reason"] == "unspecified"


async def test_of_useless_answers_twenty_an_hour_are_told(
    office: Office, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    office.status = ocsp.OCSPCertStatus.UNKNOWN
    clock = SimpleNamespace(time=lambda: 3600.0 * 500_000)
    monkeypatch.setattr("gateway.revocation.settling.time", clock)
    for serial in range(1, 26):
        client = CA.issue("device", serial=serial, ocsp_urls=[URL])
        await office.settler.settle(Question(serial, "external", (client.der, CA.der)))
    assert [event["event"] for event in events] == ["unknown to OCSP"] * 20
    clock.time = lambda: 3600.0 * 500_001
    client = CA.issue("device", ocsp_urls=[URL])
    await office.settler.settle(Question(99, "external", (client.der, CA.der)))
    assert len(events) == 21


async def test_a_responder_that_is_given_up_and_comes_back_is_told_of_without_its_password(
    office: Office, events: list[Any], autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.status = None
    for number in range(1, 7):
        client = CA.issue("device", ocsp_urls=[URL])
        await office.settler.settle(Question(number, "external", (client.der, CA.der)))
    [given_up] = events
    assert (given_up["event"], given_up["url"], given_up["failures"]) == ("responder given up", SHOWN, 5)
    [state] = office.settler.responders()
    state.retry_at = 0
    office.status = ocsp.OCSPCertStatus.GOOD
    await office.settler.settle(QUESTION)
    assert [event["event"] for event in events] == ["responder given up", "responder is back"]
    assert "secret" not in str(events)


async def test_whom_a_url_names_is_asked_again_and_nobody_else(office: Office) -> None:
    await office.settler.settle(QUESTION)
    assert office.settler.ask_anew("http://other.example") == []
    await office.settler.settle(QUESTION)
    assert len(office.asked) == 1
    for url in (None, URL, SHOWN):
        assert office.settler.ask_anew(url) == [SHOWN]
        await office.settler.settle(QUESTION)
    assert len(office.asked) == 4
