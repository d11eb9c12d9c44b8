from __future__ import annotations

import os
import socket
import struct
import threading
import time
from urllib.parse import urlsplit

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


def test_who_goes_in_the_midst_of_a_list_is_not_worth_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    with CrlServer(CPU) as web:
        web.publish(bytes(64 << 20))
        where = urlsplit(web.url)
        assert where.hostname is not None
        client = socket.create_connection((where.hostname, where.port or 0))
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:
                thread.join(SOON)
    assert capfd.readouterr().err == ""
