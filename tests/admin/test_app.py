"""Each URL answers what the page on the admin interface says it does, to whom it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.admin.access import Access
from gateway.admin.app import App
from gateway.admin.http import Request, Response
from gateway.log import get_logger
from gateway.status import Status
from tests.statuses import a_status

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "correct-horse-battery-staple"


class Desk:
    """An App whose gateway is as the test says."""

    def __init__(self) -> None:
        self.status = a_status()
        self.clock = 0.0
        self.app = App(Access(TOKEN.encode()), lambda: self.status, get_logger(), lambda: self.clock)

    async def ask(self, path: str, method: str = "GET", *, token: str = TOKEN, body: bytes = b"") -> Response:
        headers = {"host": "localhost", "authorization": f"Bearer {token}"}
        return await self.app(Request(method, path, headers=headers, body=body, peer="192.0.2.1:5"))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


@pytest.mark.parametrize("token", [TOKEN, "wrong"])
async def test_probes_need_no_token(desk: Desk, token: str) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await desk.ask(path, token=token)).status == 200


async def test_why_it_is_not_ready_is_told_with_the_token_alone(desk: Desk) -> None:
    desk.status = a_status(ready=False, reasons=("list http://crl.example/ca.crl: missing",))
    told = await desk.ask("/readyz")
    assert (told.status, told.body) == (503, b"not ready: list http://crl.example/ca.crl: missing\n")
    anonymous = await desk.ask("/readyz", token="wrong")
    assert anonymous.status == 503
    assert b"crl.example" not in anonymous.body
    assert (await desk.ask("/healthz")).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/status", "/", "/nothing"])
async def test_all_else_needs_it(desk: Desk, path: str) -> None:
    denied = await desk.ask(path, token="wrong")
    assert denied.status == 401
    assert denied.headers[0][0] == "WWW-Authenticate"


async def test_status_is_what_its_schema_says(desk: Desk) -> None:
    answer = await desk.ask("/status")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert msgspec.json.decode(answer.body, type=Status) == desk.status


async def test_metrics_are_there(desk: Desk) -> None:
    assert b"tls_gateway_ready 1.0" in (await desk.ask("/metrics")).body


async def test_what_is_not_there_is_told_apart_from_what_is_asked_wrongly(desk: Desk) -> None:
    assert (await desk.ask("/nothing")).status == 404
    wrong = await desk.ask("/status", "POST")
    assert (wrong.status, wrong.headers) == (405, [("Allow", "GET")])


async def test_head_is_answered_as_get(desk: Desk) -> None:
    assert (await desk.ask("/status", "HEAD")).status == 200


async def test_who_was_denied_is_logged_now_and_then_and_never_the_token(
    desk: Desk, events: list[Any]
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
