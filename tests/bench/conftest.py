"""Fixtures: the compiled programs of the benchmarks, and keys for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bench.build import MissingToolError, Programs, build
from bench.loadgen import LoadSite
from bench.material import Material

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS = 8
REVOKED = 3


@pytest.fixture(scope="session")
def programs() -> Programs:
    """The programs, compiled; without a compiler tests are skipped with a hint, and fail where CI=true."""
    try:
        return build()
    except MissingToolError as exc:
        if os.environ.get("CI") == "true":
            pytest.fail(str(exc))
        pytest.skip(str(exc))


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """A CA with some good clients and some that a list may name."""
    return Material.make(tmp_path_factory.mktemp("material"), clients=CLIENTS, revoked=REVOKED)


@pytest.fixture(scope="session")
def site(programs: Programs, material: Material) -> LoadSite:
    """Where the load generator runs."""
    return LoadSite(programs.load, material, max(os.sched_getaffinity(0)))


@pytest.fixture(scope="session")
def listing(material: Material) -> Path:
    """A CRL that names every revoked client, in PEM."""
    return material.write_crl(10, number=1, listing=material.revoked_serials)
