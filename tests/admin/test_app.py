"""Each URL answers what the page on the admin interface says it does, to whom it says."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway import cli_live
from gateway.admin import actions
from gateway.admin.access import Access
from gateway.admin.app import App, Desk
from gateway.admin.history import KEPT, History
from gateway.admin.http import Request, Response
from gateway.commands import Answer, ListRevoked, Refresh, Revoke, Unrevoke
from gateway.errors import GatewayError
from gateway.log import get_logger
from gateway.metrics import Counter, Counters
from gateway.publish import Refusal
from gateway.status import Status
from tests.authority import Authority
from tests.statuses import a_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.commands import Command

CA = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")]).public_bytes()
OTHER = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Other")]).public_bytes()
TOKEN = "correct-horse-battery-staple"


FIELDS = st.sampled_from(["certificate", "issuer", "serial", "reason", "note", "url"])
TEXTS = st.text() | st.sampled_from(["CN=CA", "0A", "-----BEGIN CERTIFICATE-----"])
BODIES = st.dictionaries(FIELDS, TEXTS | st.none() | st.integers()).map(msgspec.json.encode)


class Office:
    """An App whose gateway is as the test says."""

    def __init__(self) -> None:
        self.status = a_status()
        self.clock = 0.0
        self.done: list[tuple[Command, str]] = []
        self.answer: Answer | GatewayError = Answer(ok=True, lines=("done",), data=b"[]")
        self.refusals: list[Refusal] = []
        self.counters = Counters(1, 1)
        self.history = History(self.counters)
        self.app = App(
            Access(TOKEN.encode()),
            Desk(
                look=lambda: self.status,
                handler=self,
                issuers=lambda: [OTHER, CA],
                coverages=list,
                refusals=lambda: self.refusals,
                history=self.history,
            ),
            get_logger(),
            lambda: self.clock,
        )

    async def handle(self, command: Command, by: str) -> Answer:
        await trio.lowlevel.checkpoint()
        self.done.append((command, by))
        if isinstance(self.answer, GatewayError):
            raise self.answer
        return self.answer

    async def post(self, path: str, **fields: str) -> tuple[int, Any]:
        answer = await self.ask(path, "POST", body=json.dumps(fields).encode())
        return answer.status, json.loads(answer.body)

    async def ask(
        self, path: str, method: str = "GET", *, token: str = TOKEN, body: bytes = b"", **query: str
    ) -> Response:
        headers = {"host": "localhost", "authorization": f"Bearer {token}"}
        return await self.app(Request(method, path, query, headers, body, "192.0.2.1:5"))


@pytest.fixture
def desk() -> Office:
    return Office()


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


@pytest.mark.parametrize("token", [TOKEN, "wrong"])
async def test_probes_need_no_token(desk: Office, token: str) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await desk.ask(path, token=token)).status == 200


async def test_why_it_is_not_ready_is_told_with_the_token_alone(desk: Office) -> None:
    desk.status = a_status(ready=False, reasons=("list http://crl.example/ca.crl: missing",))
    told = await desk.ask("/readyz")
    assert (told.status, told.body) == (503, b"not ready: list http://crl.example/ca.crl: missing\n")
    anonymous = await desk.ask("/readyz", token="wrong")
    assert anonymous.status == 503
    assert b"crl.example" not in anonymous.body
    assert (await desk.ask("/healthz")).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/status", "/", "/nothing"])
async def test_all_else_needs_it(desk: Office, path: str) -> None:
    denied = await desk.ask(path, token="wrong")
    assert denied.status == 401
    assert denied.headers[0][0] == "WWW-Authenticate"


async def test_status_is_what_its_schema_says(desk: Office) -> None:
    answer = await desk.ask("/status")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert msgspec.json.decode(answer.body, type=Status) == desk.status


async def test_metrics_are_there(desk: Office) -> None:
    assert b"tls_gateway_ready 1.0" in (await desk.ask("/metrics")).body


async def test_what_is_not_there_is_told_apart_from_what_is_asked_wrongly(desk: Office) -> None:
    assert (await desk.ask("/nothing")).status == 404
    wrong = await desk.ask("/status", "POST")
    assert (wrong.status, wrong.headers) == (405, [("Allow", "GET")])


async def test_head_is_answered_as_get(desk: Office) -> None:
    assert (await desk.ask("/status", "HEAD")).status == 200


async def test_who_was_denied_is_logged_now_and_then_and_never_the_token(
    desk: Office, events: list[Any]
) -> None:
    for _ in range(1000):
        await desk.ask("/status", token="guess-of-a-token")
    desk.clock = 60.0
    await desk.ask("/status", token="guess-of-a-token")
    assert [(each["event"], each["denied"]) for each in events] == [
        ("admin request denied", 1),
        ("admin request denied", 1000),
    ]
    assert "guess" not in str(events)


async def test_a_browser_that_has_not_asked_for_the_password_yet_is_asked_and_not_logged(
    desk: Office, events: list[Any]
) -> None:
    answer = await desk.app(Request("GET", "/", headers={"host": "localhost"}))
    assert (answer.status, answer.headers[0][0], events) == (401, "WWW-Authenticate", [])


async def test_a_refresh_is_of_one_source_or_of_all(desk: Office) -> None:
    assert await desk.post("/refresh", url="http://crl.example/") == (200, {"ok": True, "lines": ["done"]})
    assert (await desk.ask("/refresh", "POST")).status == 200
    by = "admin interface, 192.0.2.1:5"
    assert desk.done == [(Refresh("http://crl.example/"), by), (Refresh(None), by)]


async def test_a_refresh_that_failed_is_told_from_one_that_did_not(desk: Office) -> None:
    desk.answer = Answer(ok=False, lines=("http://crl.example/: failed: nobody there",))
    assert (await desk.post("/refresh"))[0] == 502


async def test_a_certificate_is_revoked_by_issuer_and_serial(desk: Office) -> None:
    why = {"reason": "keyCompromise", "note": "lost"}
    assert (await desk.post("/revoke", issuer="CN=CA", serial=" 0A:bc", **why))[0] == 200
    assert (await desk.post("/unrevoke", issuer="CN=CA", serial="0xABC"))[0] == 200
    assert [command for command, _by in desk.done] == [
        Revoke(CA, "abc", "keyCompromise", "lost"),
        Unrevoke(CA, "abc"),
    ]


async def test_or_by_the_certificate_itself(desk: Office) -> None:
    authority = Authority.root("Fleet")
    leaf = authority.issue(serial=77).cert
    pem = leaf.public_bytes(Encoding.PEM).decode()
    assert (await desk.post("/revoke", certificate=pem))[0] == 200
    assert desk.done[0][0] == Revoke(authority.cert.subject.public_bytes(), "4d", "unspecified", "")


@pytest.mark.parametrize(
    ("path", "fields", "problem"),
    [
        ("/revoke", {}, "expected either certificate, or issuer and serial"),
        ("/revoke", {"issuer": "CN=CA"}, "expected either certificate, or issuer and serial"),
        ("/unrevoke", {"issuer": "CN=CA", "serial": "1", "certificate": "x"}, "expected either certificate"),
        ("/revoke", {"certificate": "x"}, "certificate: expected one in PEM"),
        (
            "/revoke",
            {"issuer": "CN=N\x1b", "serial": "1"},
            "issuer CN=N\\x1b: expected the name",
        ),
        (
            "/revoke",
            {"issuer": "CN=CA", "serial": "1_0"},
            "serial 1_0: expected a serial number in hexadecimal",
        ),
        ("/revoke", {"issuer": "CN=CA", "serial": "1" * 513}, "serial 1"),
        ("/revoke", {"isuer": "CN=CA"}, "body: Object contains unknown field"),
        ("/refresh", {"urls": ""}, "body: Object contains unknown field"),
    ],
)
async def test_what_makes_no_sense_is_one_line_and_nothing_is_done(
    desk: Office, path: str, fields: dict[str, str], problem: str
) -> None:
    status, answer = await desk.post(path, **fields)
    assert (status, answer["ok"], desk.done) == (400, False, [])
    assert answer["lines"][0].startswith(problem)
    assert answer["lines"][0].endswith("; nothing is done")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"note": "\xff"}', b'{"issuer": 5}'])
async def test_what_is_no_json_of_ours_is_refused(desk: Office, body: bytes) -> None:
    assert (await desk.ask("/revoke", "POST", body=body)).status == 400


async def test_what_cannot_be_done_is_told(desk: Office) -> None:
    desk.answer = GatewayError("not revoked by hand; nothing is changed")
    assert await desk.post("/unrevoke", issuer="CN=CA", serial="1") == (
        409,
        {"ok": False, "lines": ["not revoked by hand; nothing is changed"]},
    )


async def test_what_is_revoked_by_hand_is_listed(desk: Office) -> None:
    assert (await desk.ask("/revoked")).body == b"[]"
    assert desk.done[0][0] == ListRevoked()


async def test_a_serial_that_no_list_has_is_not_revoked(desk: Office) -> None:
    answer = await desk.ask("/lookup", serial="abc")
    assert json.loads(answer.body) == {"serial": "0ABC", "revoked": False, "findings": []}
    assert (await desk.ask("/lookup")).status == 400


async def test_history_has_the_last_hour_and_the_last_refusals_newest_first(desk: Office) -> None:
    numbers = memoryview(desk.counters.pages[0]).cast("Q")
    for at in range(KEPT + 5):
        numbers[Counter.LIVE], numbers[Counter.REFUSED_STALE] = at % 7, at
        desk.history.sample(10.0 * at)
    desk.refusals = [
        Refusal(at, "client refused", "external", "192.0.2.1:9", "no_list") for at in (5.0, 9.0, 7.0)
    ]
    past = json.loads((await desk.ask("/history")).body)
    assert [len(column) for column in past["samples"].values()] == [KEPT] * 8
    assert past["samples"]["at"][0] == 50.0
    assert (past["samples"]["live"][0], past["samples"]["refused"][-1]) == (5, KEPT + 4)
    assert [each["at"] for each in past["refusals"]] == [9.0, 7.0, 5.0]


def test_the_samples_outlive_the_control_process_and_the_configuration() -> None:
    counters = Counters(1, 1)
    assert set(map(len, History(counters).columns().values())) == {0}
    History(counters).sample(10.0)
    after = History(counters.succeed(2, 1, {0: 0}))
    after.sample(20.0)
    assert after.columns()["at"] == History(counters).columns()["at"] == [10.0, 20.0]


def test_a_sample_that_was_cut_short_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = Counters(1, 1)
    history = History(counters)
    history.sample(10.0)
    monkeypatch.setattr(counters, "total", lambda _which: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        history.sample(20.0)
    assert history.columns()["at"] == [10.0]


async def test_the_page_comes_with_all_that_it_refers_to_and_a_policy_that_allows_no_more(
    desk: Office,
) -> None:
    page = await desk.ask("/")
    text = page.body.decode()
    assert (page.status, page.content_type) == (200, "text/html; charset=utf-8")
    assert f'content="{Access(TOKEN.encode()).csrf_token}"' in text
    referred = re.findall(r'(?:src|href)="(/[^"]+)"', text)
    assert {path.rpartition(".")[2] for path in referred} == {"css", "js", "svg"}
    for path in referred:
        assert (await desk.ask(path)).status == 200
    assert not re.search(r"<style|style=|<script>| on\w+=|https?://", text)
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in page.policy
    assert "unsafe" not in page.policy


async def test_the_page_needs_the_token(desk: Office) -> None:
    for path in ("/", "/page.js", "/page.css", "/icon.svg"):
        assert (await desk.ask(path, token="wrong")).status == 401


@contextmanager
def one_line_if_any() -> Iterator[None]:
    """Lets a GatewayError pass whose text is one line."""
    try:
        yield
    except GatewayError as exc:
        if not str(exc).isprintable():
            raise


@given(st.sampled_from(["/refresh", "/revoke", "/unrevoke"]), st.binary() | BODIES)
def test_whatever_is_posted_it_is_a_command_or_one_line(path: str, body: bytes) -> None:
    with one_line_if_any():
        assert isinstance(actions.command(path, body, [CA]), Refresh | Revoke | Unrevoke)


@given(st.dictionaries(st.sampled_from(["certificate", "issuer", "serial"]), st.text()))
def test_whatever_is_looked_up_it_is_a_serial_or_one_line(query: dict[str, str]) -> None:
    with one_line_if_any():
        assert isinstance(actions.meant(query, [CA]).serial, int)


LIVE = Path(cli_live.__file__).read_text()


@pytest.mark.parametrize("counter", [each for each in Counter if each.name.startswith("REFUSED_")])
async def test_however_clients_are_refused_charts_tiles_and_rates_have_it(
    desk: Office, counter: Counter
) -> None:
    memoryview(desk.counters.pages[0]).cast("Q")[counter] = 3
    desk.history.sample(10.0)
    assert desk.history.columns()["refused"] == [3]
    assert f"t.{counter.name.lower()}".encode() in (await desk.ask("/page.js")).body
    assert f'"{counter.name.lower()}"' in LIVE
