"""Fixtures: a CA with its web server, and brokers, for each test that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.clients import Echo
from tests.end_to_end.parts import Mosquitto, OpensslCa, Web
from tests.end_to_end.tls_house import open_house

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.end_to_end.tls_house import House


@pytest.fixture
def ca(tmp_path: Path) -> OpensslCa:
    """A CA with a server certificate and a client certificate `device`."""
    authority = OpensslCa(tmp_path / "ca")
    authority.issue("server", "server")
    authority.issue("device")
    return authority


@pytest.fixture
def web(ca: OpensslCa) -> Iterator[Web]:
    """Where the CA's CRL is."""
    with Web(ca.web) as server:
        yield server


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A broker that says back what it hears."""
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker on a plain port."""
    with Mosquitto(tmp_path) as broker:
        yield broker


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A gateway with a listener for each way to set the TLS options."""
    with open_house(tmp_path_factory.mktemp("tls")) as opened:
        yield opened
