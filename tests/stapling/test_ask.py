"""A responder is asked by GET where that will do, and by POST where not."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from gateway.errors import FetchError, RefusedError
from gateway.fetch import Fetched
from gateway.stapling import ask
from gateway.stapling.ask import Asker
from tests.authority import Authority

URL = "http://ocsp.example"
GET, POST = f"GET {URL}/YWJj", f"POST {URL} abc"

CA = Authority.root("Test CA")
GOT, POSTED = (CA.ocsp(CA.issue(name).cert) for name in ("one", "two"))
MALFORMED = ocsp.OCSPResponseBuilder.build_unsuccessful(
    ocsp.OCSPResponseStatus.MALFORMED_REQUEST
).public_bytes(Encoding.DER)


class Web:
    """Answers GOT and POSTED, or what it is told to, or raises that."""

    def __init__(self, *, get: bytes | FetchError = GOT, post: bytes | FetchError = POSTED) -> None:
        self.asked: list[str] = []
        self.bounds: list[dict[str, Any]] = []
        self._get = get
        self._post = post

    async def get(self, url: str, **bounds: Any) -> Fetched:
        return await self._answer(f"GET {url}", self._get, bounds)

    async def post(self, url: str, body: bytes, content_type: str, **bounds: Any) -> Fetched:
        assert content_type == "application/ocsp-request"
        return await self._answer(f"POST {url} {body.decode()}", self._post, bounds)

    async def _answer(self, what: str, answer: bytes | FetchError, bounds: dict[str, Any]) -> Fetched:
        await trio.lowlevel.checkpoint()
        self.asked.append(what)
        self.bounds.append(bounds)
        if isinstance(answer, FetchError):
            raise answer
        return Fetched(answer, None, None, None)


async def ask_once(asker: Asker, url: str = URL, **options: Any) -> bytes:
    return (await asker.ask(url, b"abc", **{"timeout": 3, **options})).body


async def test_a_short_request_is_got_so_that_caches_may_answer() -> None:
    web = Web()
    assert await ask_once(Asker(web), learnt=True) == GOT
    assert web.asked == [GET]
    assert web.bounds == [{"timeout": 3, "max_bytes": ask.MAX_BYTES, "learnt": True}]


async def test_past_caches_it_is_posted() -> None:
    web = Web()
    assert await ask_once(Asker(web), past_caches=True) == POSTED
    assert web.asked == [POST]


async def test_what_does_not_fit_into_a_url_is_posted() -> None:
    web = Web()
    assert await ask_once(Asker(web), url=f"{URL}/{'x' * 240}") == POSTED


async def test_a_responder_that_is_busy_is_not_asked_another_way() -> None:
    web = Web(get=FetchError("status 429", retry_after=9))
    with pytest.raises(FetchError, match="status 429") as caught:
        await ask_once(Asker(web))
    assert caught.value.retry_after == 9


@pytest.mark.parametrize("answer", [RefusedError("status 405"), b"<html>", b"", MALFORMED])
async def test_who_takes_no_get_is_posted_to_from_then_on(answer: bytes | FetchError) -> None:
    web = Web(get=answer)
    asker = Asker(web)
    assert [await ask_once(asker), await ask_once(asker)] == [POSTED, POSTED]
    assert web.asked == [GET, POST, POST]
    assert await ask_once(asker, url="http://other.example") == POSTED
    assert web.asked[3].startswith("GET http://other.example")


async def test_who_refuses_a_post_too_has_refused() -> None:
    web = Web(get=RefusedError("status 405"), post=RefusedError("status 404"))
    with pytest.raises(RefusedError, match="status 404"):
        await ask_once(Asker(web))


async def test_who_has_no_answer_either_way_is_got_from_again() -> None:
    web = Web(get=b"<html>", post=MALFORMED)
    asker = Asker(web)
    assert [await ask_once(asker), await ask_once(asker)] == [MALFORMED, MALFORMED]
    assert web.asked == [GET, POST, GET, POST]


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
