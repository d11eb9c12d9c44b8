"""Which certificates are asked about, and whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.config.model import Duration, Revocation
from gateway.names import issuer_id
from gateway.revocation.authorities import Authorities
from gateway.revocation.subjects import subjects
from tests.authority import DAY, NOW, Authority, make_key

if TYPE_CHECKING:
    from gateway.revocation.subjects import Subject
    from tests.authority import Credential

OWN, ABOVE, CONFIGURED = "http://own.example", "http://above.example", "http://configured.example"

ROOT = Authority.root("Root")
SUB = ROOT.intermediate("Sub", ocsp_urls=[ABOVE])
DEVICE = SUB.issue("device", ocsp_urls=["ldap://own.example", OWN, "http://second.example"])
CHAIN = [DEVICE.der, SUB.der, ROOT.der]
KNOWN = Authorities([ROOT.cert], [SUB.cert])
ASKING = Revocation(ocsp="prefer", ocsp_timeout=Duration(3))


def asked(one: Subject) -> tuple[object, ...]:
    return one.certificate, one.issuer, one.url, one.learnt


def test_all_of_a_chain_but_its_anchor_are_asked_about_where_each_says() -> None:
    found = subjects(CHAIN, KNOWN, ASKING, NOW)
    assert [asked(one) for one in found] == [
        (DEVICE.cert, SUB.cert, OWN, True),
        (SUB.cert, ROOT.cert, ABOVE, True),
    ]
    assert {one.timeout for one in found} == {3}


def test_a_client_that_brings_its_certificate_alone_has_the_cas_above_it_that_are_known() -> None:
    assert subjects([DEVICE.der], KNOWN, ASKING, NOW) == subjects(CHAIN, KNOWN, ASKING, NOW)


def test_where_the_leaf_alone_is_checked_it_alone_is_asked_about() -> None:
    rules = Revocation(ocsp="prefer", check="leaf", ocsp_timeout=Duration(3))
    for chain in (CHAIN, [DEVICE.der]):
        assert subjects(chain, KNOWN, rules, NOW) == subjects(CHAIN, KNOWN, ASKING, NOW)[:1]


def test_a_configured_responder_is_for_the_clients_own_certificates_and_trusted() -> None:
    rules = Revocation(ocsp="prefer", ocsp_responder_url=CONFIGURED)
    assert [asked(one)[2:] for one in subjects(CHAIN, KNOWN, rules, NOW)] == [
        (CONFIGURED, False),
        (ABOVE, True),
    ]


def test_who_names_no_responder_has_none() -> None:
    device = ROOT.issue("device")
    [one] = subjects([device.der, ROOT.der], KNOWN, ASKING, NOW)
    assert one.url is None


@pytest.mark.parametrize(
    "stranger", [Authority.root("Sub").issue("device"), ROOT], ids=["stranger", "anchor"]
)
def test_of_whom_nobody_known_is_the_issuer_nobody_is_asked(stranger: Credential) -> None:
    known = Authorities([Authority.root("Other").cert], [SUB.cert])
    assert subjects([stranger.der], known, ASKING, NOW) == []


def test_an_answer_counts_for_the_keys_that_are_one_ca_and_for_no_namesake() -> None:
    renewed = ROOT.intermediate("Sub", key=make_key())
    namesake = Authority.root("Other").intermediate("Sub")
    known = Authorities([ROOT.cert], [SUB.cert, renewed.cert, namesake.cert])
    [one, _] = subjects(CHAIN, known, ASKING, NOW)
    assert one.identities == {issuer_id(SUB.cert), issuer_id(renewed.cert)}


def test_a_ca_that_has_expired_since_is_no_way_up() -> None:
    assert [one.certificate for one in subjects([DEVICE.der], KNOWN, ASKING, NOW + 999 * DAY)] == [
        DEVICE.cert
    ]


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="parsing"):
        subjects([b"garbage"], KNOWN, ASKING, NOW)
