"""The table of cases is about what is really there."""

from __future__ import annotations

from collections import Counter

import pytest
from cryptography import x509

from tests.pkits.cases import CASES, KINDS, TRUST_ANCHOR, Case
from tests.pkits.material import certificate, crl, directory, key

SECTIONS = {"4.4": 21, "4.5": 8, "4.7": 5, "4.14": 35, "4.15": 10}
# Whose signature is what the case is about.
BADLY_SIGNED = {"BadCRLSignatureCACRL"}

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.number)


def test_there_are_79_cases_numbered_without_a_gap() -> None:
    assert len(CASES) == 79
    assert Counter(case.section for case in CASES) == SECTIONS
    expected = [f"{section}.{number + 1}" for section, count in SECTIONS.items() for number in range(count)]
    assert expected == [case.number for case in CASES]


@each_case
def test_the_title_says_whether_the_path_is_valid(case: Case) -> None:
    assert case.valid == case.title.startswith("Valid ")
    assert case.valid != case.title.startswith("Invalid ")
    assert case.valid != (case.kind in KINDS)


@each_case
def test_every_file_exists(case: Case) -> None:
    files = [
        *(f"certs/{name}.crt" for name in (TRUST_ANCHOR, *case.path, *case.signers)),
        *(f"crls/{name}.crl" for name in case.crls),
        f"pkcs12/{case.end_entity}.p12",
    ]
    assert [name for name in files if not (directory() / name).is_file()] == []
    assert len(set(files)) == len(files)


@each_case
def test_the_path_links_up_from_the_trust_anchor_to_the_end_entity(case: Case) -> None:
    issuer = certificate(TRUST_ANCHOR)
    for name in case.path:
        issued = certificate(name)
        issued.verify_directly_issued_by(issuer)
        issuer = issued


@each_case
def test_a_signer_beside_the_path_is_issued_from_it(case: Case) -> None:
    above = [certificate(name) for name in (TRUST_ANCHOR, *case.issuers.path)]
    for name in case.signers:
        assert any(issued(certificate(name), issuer) for issuer in above), name


@each_case
def test_every_list_is_signed_with_a_key_of_the_case(case: Case) -> None:
    keys = [certificate(name).public_key() for name in (TRUST_ANCHOR, *case.issuers.path, *case.signers)]
    for name in case.crls:
        listed = x509.load_der_x509_crl(crl(name))
        signed = any(listed.is_signature_valid(public) for public in keys)  # type: ignore[arg-type]  # all are RSA
        assert signed == (name not in BADLY_SIGNED), name


@each_case
def test_the_end_entity_has_the_key_of_its_certificate(case: Case) -> None:
    assert certificate(case.end_entity).public_key() == key(case.end_entity).public_key()


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except ValueError:
        return False
    return True
