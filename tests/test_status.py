"""Ready is who serves every client that it should; all else that is wrong is a warning."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import status_text
from gateway.admin.exposition import metrics
from gateway.config.model import Address, Certificate, Config, Duration, Listener, Revocation, Stapling
from gateway.metrics import Counters
from gateway.names import fingerprint
from gateway.publish import Refusal
from gateway.revocation.ocsp import Responder
from gateway.schedule import SourceState
from gateway.status import BrokerStatus, Known, Moment, Observer, SourceStatus, Status
from gateway.status_text import lines
from tests.authority import Authority
from tests.statuses import NOW, a_source, a_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

A, B = "http://user:secret@crl.example/a.crl", "http://crl.example/b.crl"
CA = Authority.root("CA")
LEAF = CA.issue("gateway").cert


def observer(
    *,
    leaf: x509.Certificate = LEAF,
    staples: bool = False,
    required: bool = False,
    verify: Any = "required",
    **revocation: Any,
) -> Observer:
    """Of a gateway with one listener, whose lists come from A."""
    listener = Listener(
        name="external",
        bind=(Address("", 8883),),
        upstreams=(Address("127.0.0.1", 1883),),
        certificates=(Certificate(cert=Path("server.pem"), key=Path("server.key")),),
        verify=verify,
        revocation=Revocation(crl_urls=(A,), **revocation),
        stapling=Stapling(enabled=staples, required=required),
    )
    server = SimpleNamespace(leaf=leaf)
    material: Any = SimpleNamespace(certificates=(server,), client_cas=(CA.cert, CA.cert))
    return Observer(Config(listeners=(listener,)), [material], Counters(1, 1))


def look(
    of: Observer, *sources: Known, begun: bool = True, issuers: Iterable[bytes] = (), **more: Any
) -> Status:
    return of.look(Moment(NOW, NOW - 10, begun, sources, issuers, 1, 2, **more))


def of_list(url: str = A, left: int | None = 60) -> Known:
    if left is None:
        return Known("list", SourceState(url))
    return Known("list", SourceState(url, this_update=int(NOW) - 60, next_update=int(NOW) + left))


def of_staple(left: int | None = 60, leaf: x509.Certificate = LEAF) -> Known:
    return of_list("http://ocsp.example/", left)._replace(kind="staple", fingerprint=fingerprint(leaf))


def test_it_is_ready_when_all_lists_and_staples_are_there() -> None:
    assert look(observer(staples=True), of_list(), of_staple()).ready


def test_what_is_wrong_with_what_is_revoked_here_is_a_warning() -> None:
    at = Moment(NOW, NOW - 10, begun=True, sources=[of_list()], issuers=(), local_revocations=1,
                configured_revocations=2, problems=["not in force: no\nroom"])  # fmt: skip
    found = observer().look(at)
    assert (found.ready, found.warnings) == (True, ("not in force: no\\nroom",))


@pytest.mark.parametrize(
    ("brokers", "reasons", "warnings"),
    [
        ({}, (), ()),
        ({"one:1": True, "two:1": True}, (), ()),
        ({"one:1": True, "two:1": False}, (), ("listener external: broker two:1 is down",)),
        ({"one:1": False, "two:1": False}, ("listener external: no broker is up",), ()),
    ],
)
def test_it_is_not_ready_where_clients_have_no_broker_to_go_to(
    brokers: dict[str, bool], reasons: tuple[str, ...], warnings: tuple[str, ...]
) -> None:
    known = {"external": brokers} if brokers else {}
    found = observer().look(Moment(NOW, NOW - 10, True, [of_list()], (), 0, 0, brokers=known))  # noqa: FBT003 - begun
    assert (found.ready, found.reasons, found.warnings) == (not reasons, reasons, warnings)


@pytest.mark.parametrize("up", [True, False, None])
def test_each_broker_is_told_with_what_its_checks_say(*, up: bool | None) -> None:
    known = {} if up is None else {"external": {"127.0.0.1:1883": up}}
    found = observer().look(Moment(NOW, NOW - 10, True, [of_list()], (), 0, 0, brokers=known))  # noqa: FBT003 - begun
    assert found.listeners[0].brokers == (BrokerStatus("127.0.0.1:1883", up),)


def test_it_is_not_ready_before_every_source_has_had_its_chance() -> None:
    found = look(observer(), of_list(), begun=False)
    assert (found.ready, found.reasons) == (False, ("starting: lists and staples are being fetched",))


@pytest.mark.parametrize(("left", "condition"), [(None, "missing"), (0, "expired")])
def test_it_is_not_ready_without_a_list_that_its_clients_need(left: int | None, condition: str) -> None:
    found = look(observer(), of_list(left=left))
    assert (found.ready, found.reasons) == (False, (f"list http://crl.example/a.crl: {condition}",))


@pytest.mark.parametrize(
    "of",
    [
        observer(on_unavailable="accept"),
        observer(check="off"),
        observer(verify="none"),
        observer(grace=Duration(60)),
    ],
)
def test_a_list_without_which_clients_come_in_all_the_same_is_a_warning(of: Observer) -> None:
    found = look(of, of_list(left=-30))
    assert (found.ready, found.warnings) == (True, ("list http://crl.example/a.crl: expired",))


def test_a_list_that_was_learnt_is_a_warning() -> None:
    found = look(observer(), of_list(), of_list(B, None))
    assert (found.ready, found.warnings) == (True, (f"list {B}: missing",))
    assert [each.learnt for each in found.sources] == [False, True]


STAPLE = "staple http://ocsp.example/"
DEMANDING = CA.issue("gateway", must_staple=True).cert


@pytest.mark.parametrize(("left", "condition"), [(None, "missing"), (-1, "expired")])
def test_without_a_staple_it_is_ready(left: int | None, condition: str) -> None:
    found = look(observer(staples=True), of_list(), of_staple(left))
    assert (found.ready, found.warnings) == (True, (f"{STAPLE}: {condition}",))


def test_a_listener_that_waits_for_a_staple_is_not_ready_before_it_had_one() -> None:
    of = observer(staples=True, required=True)
    assert look(of, of_list(), of_staple(None)).reasons == (f"{STAPLE}: missing",)
    assert look(of, of_list(), of_staple(-1)).ready


@pytest.mark.parametrize(("left", "condition"), [(None, "missing"), (-1, "expired")])
def test_a_certificate_that_demands_a_staple_is_not_ready_without(left: int | None, condition: str) -> None:
    of = observer(leaf=DEMANDING, staples=True)
    assert look(of, of_list(), of_staple(left, DEMANDING)).reasons == (f"{STAPLE}: {condition}",)


def test_a_revoked_certificate_is_warned_of_while_its_last_good_staple_is_in_force() -> None:
    revoked = of_staple()
    revoked.state.revoked = True
    found = look(observer(staples=True), of_list(), revoked)
    assert (found.ready, found.warnings) == (
        True,
        (f"{STAPLE}: the responder says that the certificate is revoked",),
    )


def test_it_is_not_ready_while_a_listener_waits_for_the_staple_that_its_certificate_demands() -> None:
    found = look(observer(), of_list(), held=["external"])
    assert found.reasons == ("listener external: closed until its staple is there",)


def test_it_is_not_ready_while_it_drains() -> None:
    of = observer()
    assert look(of, of_list()).ready
    of._counters.note_stopping()
    assert look(of, of_list()).reasons == ("draining: nobody comes in any more",)


def test_passwords_are_not_told() -> None:
    found = look(observer(), of_list(left=None), of_list())
    assert b"secret" not in msgspec.json.encode(found)
    assert "secret" not in "".join(lines(found))


def test_a_staple_says_whose_it_is() -> None:
    found = look(observer(staples=True), of_staple()).sources[0]
    assert (found.subject, found.serial) == ("CN=gateway", f"{LEAF.serial_number:X}".zfill(len(found.serial)))


def test_certificates_are_told_once_with_their_ends() -> None:
    found = look(observer()).certificates
    assert [(each.use, each.subject) for each in found] == [("server", "CN=gateway"), ("client_ca", "CN=CA")]
    assert found[0].not_after == int(LEAF.not_valid_after_utc.timestamp())


def test_the_json_is_what_the_schema_says() -> None:
    found = look(observer(), of_list(), issuers=[CA.cert.subject.public_bytes()] * 2)
    assert found.issuers == ("CN=CA",)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Status) == found


def told(status: Status) -> str:
    """Its text with every run of white space one space, wherever lines are broken."""
    return " ".join(" ".join(lines(status)).split())


def test_the_text_says_what_an_operator_asks_first() -> None:
    refusal = Refusal(NOW - 61, "client refused", "external", "192.0.2.1:7", "no_list", "CN=x", "CN=CA", "0B")
    text = told(a_status(refusals=(refusal,)))
    assert "ready, 2 workers, control up 1d 1h" in text
    assert "LISTENERS external 0.0.0.0:8883 [....................] 5 of 100,000 connections" in text
    assert "connections brokers: 127.0.0.1:1883 up" in text
    assert "LISTS http://crl.example/ca.crl [#######.............] in force, 1h old, 2h left number 7" in text
    assert "STAPLES http://ocsp.example/ [#######.............] in force" in text
    assert "revoked by hand: 1; by the configuration: 0" in text
    assert "LAST REFUSED 1m 1s ago: no list, external, from 192.0.2.1:7 CN=x, serial 0B" in text


@given(st.builds(a_source, url=st.text(), last_error=st.text() | st.none(), this_update=st.none()))
def test_the_text_fits_a_terminal_of_80_columns_but_for_long_words(source: SourceStatus) -> None:
    for line in lines(a_status(sources=(source,), warnings=("a broker is down " * 20,))):
        assert len(line) < 80 or " " not in line.strip()


def test_a_responder_is_told_with_what_it_said_last_and_without_its_password() -> None:
    responder = Responder("http://user:secret@ocsp.example", answers=7)
    for _ in range(5):
        responder.failed(NOW, "http://ocsp.example: no\nroute", 0.0)
    at = Moment(NOW, NOW - 10, begun=True, sources=[], issuers=[], local_revocations=0,
                configured_revocations=0, responders=[responder])  # fmt: skip
    found = observer().look(at)
    words = "7 answers, 5 failures, GIVEN UP for now the last error: http://ocsp.example: no\\nroute"
    assert f"OCSP RESPONDERS http://ocsp.example {words}" in told(found)
    assert "secret" not in "".join(lines(found))
    [metric] = [one for one in metrics(found) if one.name == "tls_gateway_responder_given_up"]
    assert [(one.labels, one.value) for one in metric.samples] == [({"url": "http://ocsp.example"}, 1)]


def test_where_an_answer_is_required_a_missing_list_is_no_reason_not_to_be_ready() -> None:
    for ocsp, ready in (("off", False), ("prefer", False), ("require", True)):
        found = look(observer(ocsp=ocsp), of_list(left=None))
        assert found.ready is ready


def test_the_text_says_why_it_is_not_ready_and_what_failed() -> None:
    broken = a_source(condition="expired", next_update=int(NOW) - 5, last_error="no route\x1b[0m", failures=2)
    text = told(a_status(ready=False, reasons=("r",), warnings=("w",), sources=(broken,)))
    assert "NOT READY" in text
    assert "not ready: r warning: w" in text
    assert "[####################] EXPIRED, 1h old, ended 5s ago" in text
    assert "failed 0 times: no route" in text


def test_the_last_refusals_are_told_newest_first() -> None:
    refusals = [Refusal(NOW - 9 + at, "client refused", "l", f"peer-{at}", "no_list") for at in range(9)]
    at = Moment(NOW, NOW - 10, begun=True, sources=[], issuers=[], local_revocations=0,
                configured_revocations=0, refusals=refusals)  # fmt: skip
    assert [each.peer for each in observer().look(at).refusals] == [f"peer-{at}" for at in (8, 7, 6, 5, 4)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (3661, "1h 1m"), (90_061, "1d 1h"), (-5, "0s")],
)
def test_spans_have_two_units(seconds: float, text: str) -> None:
    assert status_text._span(seconds) == text
