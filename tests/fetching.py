"""Fetching in tests: short bounds, loopback allowed, and each failure one line."""

from __future__ import annotations

import ipaddress
import ssl
from typing import Any

import pytest

from gateway.addresses import AddressPolicy
from gateway.errors import FetchError
from gateway.fetch import Fetched, Fetcher, NotModified
from tests.http_server import KIB

LOOPBACK = AddressPolicy(allow=(ipaddress.ip_network("127.0.0.0/8"),))
# Reading all of the system's authorities takes longer than a fetch.
SYSTEM = ssl.create_default_context()
ONLY_CONFIGURED = "where only a configured URL may lead"


async def get(url: str, **options: Any) -> Fetched | NotModified:
    fetcher = Fetcher(options.pop("policy", LOOPBACK), options.pop("tls", SYSTEM))
    return await fetcher.get(url, **{"timeout": 20, "max_bytes": 64 * KIB, **options})


async def body_of(url: str, **options: Any) -> bytes:
    answer = await get(url, **options)
    assert isinstance(answer, Fetched)
    return answer.body


async def failure_of(url: str, **options: Any) -> str:
    with pytest.raises(FetchError) as caught:
        await get(url, **options)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 1000
    return text
