from __future__ import annotations

import os
import time

import httpx
import pytest

from bench.errors import BenchError
from bench.webserver import CrlServer

CPU = min(os.sched_getaffinity(0))
SOON = 5.0


def test_a_document_is_served_with_an_etag_that_changes_with_it() -> None:
    with CrlServer(CPU) as web:
        web.publish(b"one")
        first = httpx.get(web.url)
        web.publish(b"two")
        second = httpx.get(web.url, headers={"If-None-Match": first.headers["ETag"]})
    assert (first.content, second.content) == (b"one", b"two")
    assert second.status_code == 200


def test_the_moment_of_the_last_byte_is_known_once_somebody_has_fetched_it() -> None:
    with CrlServer(CPU) as web:
        web.publish(b"list")
        before = time.monotonic()
        httpx.get(web.url)
        assert before <= web.wait_until_sent(SOON) <= time.monotonic()


def test_a_document_is_accepted_when_it_is_asked_for_with_its_etag() -> None:
    with CrlServer(CPU) as web:
        web.publish(b"list")
        tag = httpx.get(web.url).headers["ETag"]
        with pytest.raises(BenchError, match="not accepted"):
            web.wait_until_accepted(0.0)
        assert httpx.get(web.url, headers={"If-None-Match": tag}).status_code == 304
        web.wait_until_accepted(SOON)


def test_what_nobody_fetched_is_an_error_and_no_figure() -> None:
    with CrlServer(CPU) as web:
        web.publish(b"list")
        with pytest.raises(BenchError, match="nobody fetched"):
            web.wait_until_sent(0.0)


def test_a_silent_server_accepts_and_never_answers() -> None:
    with CrlServer(CPU) as web:
        web.publish(b"list")
        web.fall_silent()
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(web.url, timeout=0.2)
