"""A server that is busy is heard, for as long as it makes sense."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import fetch
from gateway.errors import FetchError
from tests.fetching import get
from tests.http_server import Server, http, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BUSY = "503 Service Unavailable"
DATE = "Date: Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


@pytest.mark.parametrize(
    ("status", "said", "seconds"),
    [
        (BUSY, ["Retry-After: 120"], 120),
        ("429 Too Many Requests", ["Retry-After: 7 "], 7),
        # A time is one of the server's own clock.
        (BUSY, [DATE, "Retry-After: Sun, 06 Nov 1994 08:50:37 GMT"], 60),
        (BUSY, [DATE, "Retry-After: Sun, 06 Nov 1994 08:48:37 GMT"], 0),
        (BUSY, ["Retry-After: Sun, 06 Nov 1994 08:50:37 GMT"], 0),
        (BUSY, ["Retry-After: soon"], 0),
        (BUSY, ["Retry-After: -5"], 0),
        (BUSY, ["Retry-After: 1.5"], 0),
        (BUSY, ["Retry-After: 99999999999999999999"], 0),
        (BUSY, [], 0),
        # Where it means something else.
        ("500 Oops", ["Retry-After: 120"], 0),
        ("404 Not Found", ["Retry-After: 120"], 0),
    ],
)
async def test_a_server_that_is_busy_says_for_how_long_it_wants_to_be_left_alone(
    server: Server, status: str, said: list[str], seconds: float
) -> None:
    server.answers["/"] = http(status, b"", *said)
    with pytest.raises(FetchError, match=status) as caught:
        await get(f"{server.base}/")
    assert caught.value.retry_after == seconds


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60))
def test_whatever_it_says_is_a_time_that_is_not_past(text: str) -> None:
    assert fetch._retry_after(httpx.Headers([("Retry-After", text)], encoding="latin-1")) >= 0
