"""What a list says that it is about, as the lookup has it."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from gateway import der
from gateway.errors import CrlError
from gateway.native import name_digest
from gateway.revocation.scope import issuer_digest, read_scope


def rdn(common_name: str) -> x509.RelativeDistinguishedName:
    return x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def name(*common_names: str) -> x509.Name:
    return x509.Name([rdn(each) for each in common_names])


def relative_digest(common_name: str) -> int:
    """As csrc/certificate.c takes it of nameRelativeToCRLIssuer: what the SET contains."""
    whole = name(common_name).public_bytes()
    one = der.read(whole, der.read(whole).content_at)
    return name_digest(0x31, whole[one.content])


def points(*, full: x509.Name | None = None, relative: str | None = None) -> frozenset[int]:
    """Of a list that the CA named "a" signs."""
    point = x509.IssuingDistributionPoint(
        full_name=None if full is None else [x509.DirectoryName(full)],
        relative_name=None if relative is None else rdn(relative),
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
    return read_scope(point, name("a").public_bytes()).points


def test_a_relative_name_is_found_by_certificates_that_spell_it_out_and_by_those_that_do_not() -> None:
    assert points(relative="b") == {issuer_digest(name("a", "b").public_bytes()), relative_digest("b")}


def test_a_directory_name_right_below_the_issuers_is_found_by_its_relative_name_too() -> None:
    assert points(full=name("a", "b")) == points(relative="b")


@pytest.mark.parametrize("full", [name("a"), name("b"), name("x", "b"), name("a", "b", "c")], ids=str)
def test_another_directory_name_is_not(full: x509.Name) -> None:
    assert points(full=full) == {issuer_digest(full.public_bytes())}


def test_a_name_that_no_certificate_can_be_compared_with_is_refused() -> None:
    point = x509.IssuingDistributionPoint(
        full_name=[x509.RegisteredID(NameOID.COMMON_NAME)],
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
    with pytest.raises(CrlError, match="of a kind that is not known"):
        read_scope(point, name("a").public_bytes())
