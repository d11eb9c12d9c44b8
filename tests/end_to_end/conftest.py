"""Fixtures: a CA with its web server, and mosquitto, for each test that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.parts import Mosquitto, OpensslCa, Web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker on a plain port."""
    with Mosquitto(tmp_path) as broker:
        yield broker
