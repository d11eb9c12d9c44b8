"""What is read from a certificate's extensions, whatever stands there."""

from __future__ import annotations

import pytest
from cryptography import x509

from gateway.extensions import has_nocheck, must_staple, responder_url
from tests.authority import Authority

CA = Authority.root("Test CA")


def test_the_responder_is_the_first_http_url_of_the_certificate() -> None:
    urls = ("ldap://ca.example/ocsp", "HTTP://ca.example/ocsp", "https://ca.example/ocsp")

    assert responder_url(CA.issue(ocsp_urls=urls).cert) == "HTTP://ca.example/ocsp"
    assert responder_url(CA.issue(ocsp_urls=urls[:1]).cert) is None
    assert responder_url(CA.issue().cert) is None


@pytest.mark.parametrize("feature", x509.TLSFeatureType)
def test_a_certificate_that_demands_a_staple_is_known(feature: x509.TLSFeatureType) -> None:
    assert must_staple(CA.issue(extensions=[x509.TLSFeature([feature])]).cert)


def test_a_certificate_without_that_feature_demands_nothing() -> None:
    assert not must_staple(CA.issue().cert)


def test_a_responder_that_is_not_to_be_checked_is_known() -> None:
    assert has_nocheck(CA.issue(extensions=[x509.OCSPNoCheck()]).cert)
    assert not has_nocheck(CA.issue().cert)


@pytest.mark.parametrize("oid", ["1.3.6.1.5.5.7.1.24", "1.3.6.1.5.5.7.1.1"])
def test_an_extension_that_cannot_be_read_says_nothing(oid: str) -> None:
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), b"\x30\x01")
    broken = CA.issue(extensions=[extension]).cert

    assert not must_staple(broken)
    assert responder_url(broken) is None
