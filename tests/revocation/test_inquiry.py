"""Is this serial revoked? Every list of its issuer is asked, and what an operator revoked by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from gateway.revocation import inquiry, local
from gateway.revocation.crl import verify_crl
from gateway.revocation.local import LocalRevocation
from tests.authority import NOW, Revoked, extension
from tests.revocation.test_tables import CA, OTHER, TRUSTED, Process, crl

if TYPE_CHECKING:
    from pathlib import Path

NAME = CA.cert.subject.public_bytes()


def found(process: Process, serial: int, issuer: bytes | None = NAME) -> list[tuple[str, bool, str, str]]:
    findings = inquiry.ask(process.told[-1], serial, issuer)
    return [(each.issuer, each.revoked, each.by, each.reason) for each in findings]


async def test_a_list_says_that_it_is_and_that_it_is_not(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.tables.install(verify_crl(CA.crl([Revoked(5, reason=1)]), TRUSTED, now=NOW))
    assert found(process, 5) == [("CN=First CA", True, "list", "keyCompromise")]
    assert found(process, 6) == [("CN=First CA", False, "list", "")]
    [finding] = inquiry.ask(process.told[-1], 5, NAME)
    assert (finding.this_update, finding.next_update > NOW) == (NOW - 60, True)
    assert 0 < finding.revoked_at <= NOW


async def test_another_issuers_list_says_nothing(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.tables.install(crl(5, ca=OTHER))
    assert found(process, 5) == []


async def test_without_an_issuer_whoever_revokes_it_is_found(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.tables.install(crl(5))
    await process.tables.install(crl(5, 6, ca=OTHER))
    assert [(who, revoked) for who, revoked, _by, _why in found(process, 6, None)] == [("CN=Second CA", True)]
    assert len(found(process, 5, None)) == 2
    assert found(process, 7, None) == []


async def test_what_is_revoked_by_hand_is_told_and_covers_nothing(tmp_path: Path) -> None:
    process = Process(tmp_path)
    one = LocalRevocation(NAME, 9, "cessationOfOperation", NOW, "root")
    await process.tables.revoke_locally(local.entries((one,)))
    assert found(process, 9) == [("CN=First CA", True, "hand", "cessationOfOperation")]
    assert found(process, 5) == []
    await process.tables.install(crl(5))
    assert found(process, 9) == [
        ("CN=First CA", True, "hand", "cessationOfOperation"),
        ("CN=First CA", False, "list", ""),
    ]


async def test_what_a_delta_says_goes_before(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.tables.install(crl(5, 6))
    indicator = extension(x509.DeltaCRLIndicator(1), critical=True)
    delta = CA.crl([Revoked(6, reason=8), Revoked(7)], number=2, extensions=indicator)
    await process.tables.install(verify_crl(delta, TRUSTED, now=NOW))
    assert [found(process, serial)[0][1] for serial in (5, 6, 7, 8)] == [True, False, True, False]
