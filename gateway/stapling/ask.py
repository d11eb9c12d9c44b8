"""Ask an OCSP responder over HTTP: GET where a cache may answer, else POST (RFC 6960, A.1; RFC 5019, 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.errors import FetchError, RefusedError
from gateway.fetch import Fetched, display_url
from gateway.stapling.request import get_url
from gateway.stapling.response import is_answer

if TYPE_CHECKING:
    from gateway.fetch import Answer

REQUEST_TYPE = "application/ocsp-request"
# RFC 6960 sets no bound; a response is 200 bytes to some KB, with its responder's certificates.
MAX_BYTES = 64 << 10
# Responders that are remembered to take no GET; URLs in clients' certificates are of any number.
_MOST_REMEMBERED = 1000


class Http(Protocol):
    """`Fetcher`, as far as it is needed here."""

    async def get(
        self,
        url: str,
        *,
        timeout: float,  # noqa: ASYNC109 - as Fetcher.get
        max_bytes: int,
        learnt: bool = False,
    ) -> Answer:
        """Get the URL; raises FetchError."""

    async def post(
        self,
        url: str,
        body: bytes,
        content_type: str,
        *,
        timeout: float,  # noqa: ASYNC109 - as Fetcher.post
        max_bytes: int,
        learnt: bool = False,
    ) -> Fetched:
        """Post the request; raises FetchError."""


class Asker:
    """Asks responders, and remembers which of them take no GET. One for all who ask."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._without_get: set[str] = set()

    async def ask(
        self,
        url: str,
        request: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 - the bound is part of what is asked for
        past_caches: bool = False,
        learnt: bool = False,
    ) -> Fetched:
        """Whatever the responder at `url` answers to `request` (DER), within `timeout` seconds for each way.

        `past_caches`: no GET, which a cache on the way may answer with what it has.
        `learnt`: the URL is a certificate's, as `Fetcher.get` has it.

        Raises:
            FetchError: there is no answer, in one line that names the URL.
        """
        shared = None if past_caches or url in self._without_get else get_url(url, request)
        if shared is not None:
            got = await self._get(shared, url, timeout=timeout, learnt=learnt)
            if got is not None:
                return got
        answer = await self._http.post(
            url, request, REQUEST_TYPE, timeout=timeout, max_bytes=MAX_BYTES, learnt=learnt
        )
        if shared is not None and is_answer(answer.body):
            if len(self._without_get) >= _MOST_REMEMBERED:
                self._without_get.clear()
            self._without_get.add(url)
        return answer

    async def _get(self, shared: str, url: str, *, timeout: float, learnt: bool) -> Fetched | None:  # noqa: ASYNC109 - as in `ask`
        """The answer to a GET; None where a POST may have a better one."""
        try:
            answer = await self._http.get(shared, timeout=timeout, max_bytes=MAX_BYTES, learnt=learnt)
        except RefusedError:
            return None
        except FetchError as exc:
            # Nobody knows the responder by the URL with the request in it.
            text = str(exc).replace(display_url(shared), display_url(url))
            raise type(exc)(text, retry_after=exc.retry_after) from exc
        # Without a condition in the request there is nothing but a whole answer.
        assert isinstance(answer, Fetched)
        # Some say in a page of HTML, or as malformedRequest, that they take no GET.
        return answer if is_answer(answer.body) else None
