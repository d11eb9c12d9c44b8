"""PKITS as bytes: the case's CRLs through `crl` and the tables, its path looked up in them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.errors import CrlError
from gateway.names import issuer_id
from gateway.native import VerdictKind, World
from gateway.revocation.authorities import Authorities
from gateway.revocation.crl import verify_crl
from gateway.revocation.table import Tables
from gateway.store import StateStore
from tests.pkits import material
from tests.pkits.cases import CASES, TRUST_ANCHOR, Case

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.revocation.coverage import Coverage, Listed, Stream
    from gateway.revocation.crl import Succession

NOW = 1_790_000_000
"""2026-09-21, within the dates of all that is meant to be valid."""


class Office:
    """Puts in a world what comes into force."""

    def __init__(self) -> None:
        self.world = World()
        self.faults: list[str] = []

    def published(self, coverages: Sequence[Coverage]) -> None:
        self.world.publish(cover for coverage in coverages for cover in coverage.covers())

    def in_force(self, one: Listed, before: Listed | None, succession: Succession) -> None:
        pass

    def left_out(self, _stream: Stream, reason: str) -> None:
        self.faults.append(reason)


async def verdict(case: Case, directory: Path) -> tuple[str, list[str]]:
    """What becomes of the case's path, "valid" or the kind of the refusal; and what was wrong with CRLs."""
    anchor = material.certificate(TRUST_ANCHOR)
    path = [anchor, *map(material.certificate, case.path)]
    signers = map(material.certificate, case.signers)
    store, office = StateStore(directory), Office()
    store.prepare()
    tables = Tables(store, Authorities([anchor], [*path[1:], *signers]), office, now=lambda: NOW)
    if not tables.authorities.paths(path[-1], NOW):
        return "not trusted", office.faults
    for name in case.crls:
        try:
            await tables.install(verify_crl(material.crl(name), tables.authorities, now=NOW))
        except CrlError as exc:
            office.faults.append(str(exc))
    kinds = []
    for issuer, subject in pairwise(path):
        who, der = issuer_id(issuer), subject.public_bytes(Encoding.DER)
        kinds.append(office.world.judge(der, who.name, who.key, now=NOW).kind)
    worst = max(kinds)
    texts = {
        VerdictKind.GOOD: "valid",
        VerdictKind.STALE: "expired list",
        VerdictKind.NO_LIST: "no usable list",
        VerdictKind.REVOKED: "revoked",
    }
    return texts[worst], office.faults


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)
async def test_the_verdict_is_that_of_the_suite(case: Case, tmp_path: Path) -> None:
    found, faults = await verdict(case, tmp_path)
    assert (found if found != "valid" else "") == case.kind, f"{case.title}: {case.refused}; {faults}"
