"""A responder is asked by GET where that will do, and by POST where not."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from gateway.errors import FetchError, RefusedError
from gateway.fetch import Fetched
from gateway.stapling import ask
from gateway.stapling.ask import Asker

URL = "http://ocsp.example"
GET, POST = f"GET {URL}/YWJj", f"POST {URL} abc"


class Web:
    """Answers "got" and "posted", or raises what it is told to."""

    def __init__(self, *, get: FetchError | None = None, post: FetchError | None = None) -> None:
        self.asked: list[str] = []
        self.bounds: list[dict[str, Any]] = []
        self._get = get
        self._post = post

    async def get(self, url: str, **bounds: Any) -> Fetched:
        return await self._answer(f"GET {url}", b"got", self._get, bounds)

    async def post(self, url: str, body: bytes, content_type: str, **bounds: Any) -> Fetched:
        assert content_type == "application/ocsp-request"
        return await self._answer(f"POST {url} {body.decode()}", b"posted", self._post, bounds)

    async def _answer(
        self, what: str, body: bytes, error: FetchError | None, bounds: dict[str, Any]
    ) -> Fetched:
        await trio.lowlevel.checkpoint()
        self.asked.append(what)
        self.bounds.append(bounds)
        if error:
            raise error
        return Fetched(body, None, None, None)


async def ask_once(asker: Asker, url: str = URL, **options: Any) -> bytes:
    return (await asker.ask(url, b"abc", **{"timeout": 3, **options})).body


async def test_a_short_request_is_got_so_that_caches_may_answer() -> None:
    web = Web()
    assert await ask_once(Asker(web), learnt=True) == b"got"
    assert web.asked == [GET]
    assert web.bounds == [{"timeout": 3, "max_bytes": ask.MAX_BYTES, "learnt": True}]


async def test_past_caches_it_is_posted() -> None:
    web = Web()
    assert await ask_once(Asker(web), past_caches=True) == b"posted"
    assert web.asked == [POST]


async def test_what_does_not_fit_into_a_url_is_posted() -> None:
    web = Web()
    assert await ask_once(Asker(web), url=f"{URL}/{'x' * 240}") == b"posted"


async def test_who_refuses_a_get_is_posted_to_from_then_on() -> None:
    web = Web(get=RefusedError("status 405"))
    asker = Asker(web)
    assert [await ask_once(asker), await ask_once(asker)] == [b"posted", b"posted"]
    assert web.asked == [GET, POST, POST]
    assert await ask_once(asker, url="http://other.example") == b"posted"
    assert web.asked[3].startswith("GET http://other.example")


async def test_who_refuses_a_post_too_has_refused() -> None:
    web = Web(get=RefusedError("status 405"), post=RefusedError("status 404"))
    with pytest.raises(RefusedError, match="status 404"):
        await ask_once(Asker(web))


async def test_who_does_not_answer_a_get_is_not_asked_again_at_once() -> None:
    web = Web(get=FetchError(f"{URL}/YWJj: no answer"))
    with pytest.raises(FetchError, match=rf"^{URL}: no answer$"):
        await ask_once(Asker(web))
    assert web.asked == [GET]


async def test_no_more_responders_are_remembered_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "_MOST_REMEMBERED", 2)
    web = Web(get=RefusedError("status 405"))
    asker = Asker(web)
    for number in range(5):
        await ask_once(asker, url=f"http://{number}.example")
    assert len(asker._without_get) <= 2
