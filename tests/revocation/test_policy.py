"""What is said of a client that does not come in: at which level, why, and who it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.model import Duration, Revocation
from gateway.names import serial_hex
from gateway.native import Check, Entry, OnUnavailable, Verdict, VerdictKind
from gateway.revocation import policy
from gateway.tls.handshake import Handshake
from gateway.upstream.balance import identity
from gateway.upstream.client import common_name as common_name_in
from tests.authority import Authority, common_name, tlv

if TYPE_CHECKING:
    from gateway.revocation.policy import Level

CA = Authority.root("Fleet CA")
DEVICE = CA.issue("device-1", serial=0x0ABC)
REVOKED_AT, NEXT_UPDATE = 1_800_000_000, 1_900_000_000
CLIENT = {"subject": "CN=device-1", "issuer": "CN=Fleet CA", "serial": "0ABC"}

X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT = 2


def refusal(
    kind: VerdictKind, *, depth: int = 0, reason: int = 1, leaf: bytes = DEVICE.der, error: str = "alert sent"
) -> tuple[Level, str, dict[str, object]]:
    verdict = Verdict(
        kind,
        let_in=False,
        depth=depth,
        error_code=X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
        entry=Entry(REVOKED_AT, reason),
        next_update=NEXT_UPDATE,
    )
    info = Handshake(verdict, resumed=False, version="TLSv1.3", chain=(leaf,))
    return policy.describe_refusal(info, error)


def test_a_revoked_client_is_named_with_date_and_reason() -> None:
    assert refusal(VerdictKind.REVOKED) == (
        "warning",
        "client refused",
        {
            "reason": "certificate_revoked",
            "tls": "TLSv1.3",
            "resumed": False,
            **CLIENT,
            "revoked_at": "2027-01-15T08:00:00Z",
            "revocation_reason": "keyCompromise",
        },
    )


def test_a_revocation_without_a_reason_is_unspecified() -> None:
    assert refusal(VerdictKind.REVOKED, reason=-1)[2]["revocation_reason"] == "unspecified"


def test_where_a_ca_of_the_client_is_revoked_its_depth_is_told() -> None:
    assert refusal(VerdictKind.REVOKED, depth=2)[2]["depth"] == 2
    assert "depth" not in refusal(VerdictKind.REVOKED)[2]


def test_a_client_without_a_list_is_named() -> None:
    level, event, values = refusal(VerdictKind.NO_LIST)
    assert (level, event) == ("warning", "client refused")
    assert values == {"reason": "no_list", "tls": "TLSv1.3", "resumed": False, **CLIENT}


def test_of_a_list_that_has_ended_it_is_told_when() -> None:
    values = refusal(VerdictKind.STALE)[2]
    assert (values["reason"], values["next_update"]) == ("list_expired", "2030-03-17T17:46:40Z")


def test_of_a_chain_that_is_not_trusted_openssl_says_why() -> None:
    level, _event, values = refusal(VerdictKind.UNTRUSTED)
    assert level == "warning"
    assert (values["reason"], values["error"]) == ("untrusted", "unable to get issuer certificate")


@pytest.mark.parametrize("kind", [VerdictKind.NONE, VerdictKind.GOOD])
def test_what_any_stranger_can_cause_is_for_debugging_only(kind: VerdictKind) -> None:
    assert refusal(kind) == ("debug", "handshake failed", {"error": "alert sent"})
    assert refusal(kind, error="") == (
        "debug",
        "handshake failed",
        {"error": "the peer closed the connection"},
    )


def test_every_verdict_can_be_described() -> None:
    assert {refusal(kind)[0] for kind in VerdictKind} == {"debug", "warning"}


def test_every_refusal_by_a_list_or_a_responder_has_a_counter_of_its_own() -> None:
    assert len(set(policy.REFUSED.values())) == len(policy.REFUSED) == 4


def test_a_client_without_a_certificate_is_not_described() -> None:
    assert policy.describe_client(b"") == {}


@given(st.binary(min_size=1, max_size=60))
def test_a_certificate_that_cannot_be_read_is_said_to_be_so(garbage: bytes) -> None:
    assert list(policy.describe_client(garbage)) == ["certificate"]


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("serial", [1, 0x80, -3, 1 << 180])
def test_the_serial_is_as_openssl_prints_it(serial: int) -> None:
    assert policy.describe_client(CA.issue(serial=serial).der)["serial"] == serial_hex(serial)


def test_a_name_with_control_characters_is_escaped() -> None:
    subject = policy.describe_client(CA.issue(common_name("two\nlines\x1b")).der)["subject"]
    assert isinstance(subject, str)
    assert subject.isprintable()


NAME = tlv(0x0C, b"device")
V3, V4 = bytes.fromhex("a003020102"), bytes.fromhex("a003020103")


@pytest.mark.parametrize(
    ("said", "instead", "key", "told"),
    [
        (NAME, tlv(0x03, b"\0evice"), "subject", "#3011310f300d06035504030306006576696365"),
        (NAME, tlv(0x0C, b"d\xffvice"), "subject", "#3011310f300d06035504030c0664ff76696365"),
        (V3, V4, "certificate", "cannot be read: 3 is not a valid X509 version"),
    ],
    ids=["a BIT STRING as a name", "a name that is no UTF-8", "a version that there is not"],
)
def test_what_openssl_reads_and_cryptography_does_not_ends_nobody(
    said: bytes, instead: bytes, key: str, told: str
) -> None:
    der = CA.issue("device").der
    assert said in der
    hostile = der.replace(said, instead)
    assert policy.describe_client(hostile)[key] == told
    assert policy.distribution_points(hostile) == ()
    assert common_name_in(hostile) == ""
    assert identity(hostile)


def test_the_words_of_the_configuration_are_those_of_the_lookup() -> None:
    assert policy.rules(Revocation()) == (Check.CHAIN, OnUnavailable.REJECT, 0.0)
    settings = Revocation(check="leaf", on_unavailable="wait", grace=Duration(60))
    assert policy.rules(settings) == (Check.LEAF, OnUnavailable.WAIT, 60.0)
    assert policy.rules(Revocation(check="off", on_unavailable="accept"))[:2] == (
        Check.OFF,
        OnUnavailable.ACCEPT,
    )


def test_distribution_points_are_all_urls_in_their_order() -> None:
    urls = (
        "http://crl.example/a.crl",
        "ldap://crl.example/cn=ca",
        "https://crl.example/b.crl",
        "file:///etc",
    )
    leaf = CA.issue(crl_urls=urls).der
    assert policy.distribution_points(leaf) == urls


def test_deltas_are_told_apart_from_lists() -> None:
    url = x509.UniformResourceIdentifier("http://crl.example/delta.crl")
    freshest = x509.FreshestCRL([x509.DistributionPoint([url], None, None, None)])
    leaf = CA.issue(crl_urls=["http://crl.example/a.crl"], extensions=[freshest]).der
    assert policy.delta_points(leaf) == (url.value,)
    assert set(policy.distribution_points(leaf)) == {url.value, "http://crl.example/a.crl"}


def test_a_distribution_point_by_relative_name_is_none() -> None:
    name = x509.RelativeDistinguishedName([x509.NameAttribute(x509.NameOID.COMMON_NAME, "crl1")])
    points = x509.CRLDistributionPoints([x509.DistributionPoint(None, name, None, None)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(common_name("device"))
        .issuer_name(CA.cert.subject)
        .public_key(DEVICE.key.public_key())
        .serial_number(1)
        .not_valid_before(CA.cert.not_valid_before_utc)
        .not_valid_after(CA.cert.not_valid_after_utc)
        .add_extension(points, critical=False)
    )
    leaf = builder.sign(DEVICE.key, hashes.SHA256()).public_bytes(Encoding.DER)
    assert policy.distribution_points(leaf) == ()


def test_a_certificate_without_distribution_points_has_none() -> None:
    assert policy.distribution_points(DEVICE.der) == ()


def test_distribution_points_that_cannot_be_read_are_none() -> None:
    good = CA.issue(crl_urls=["http://crl.example/a.crl"]).der
    # Of the same length, so that the certificate around it stays whole: its signature is not asked here.
    broken = good.replace(b"\x86\x18http://crl", b"\x86\x30http://crl")
    assert broken != good
    assert policy.distribution_points(broken) == ()


@given(st.binary(max_size=200))
def test_garbage_has_no_distribution_points(garbage: bytes) -> None:
    assert policy.distribution_points(garbage) == ()


def test_a_moment_beyond_the_calendar_is_a_number() -> None:
    assert policy.moment(0) == "1970-01-01T00:00:00Z"
    assert policy.moment(1 << 62) == str(1 << 62)
