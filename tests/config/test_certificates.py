"""Which certificates are for which name, and which of them is presented."""

from __future__ import annotations

import datetime as dt
import ipaddress
from functools import cache
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.certificates import Presentation, ServerCertificate, completed, present, server_names
from tests.authority import Authority, Credential, KeyKind, common_name, make_key

if TYPE_CHECKING:
    from collections.abc import Sequence

CA = Authority.root("CA")
KEYS = {kind: make_key(kind) for kind in ("ec", "rsa")}


@cache
def certificate(kind: KeyKind, *hosts: str) -> ServerCertificate:
    made = CA.issue("server", key=KEYS[kind], hosts=hosts)
    return ServerCertificate((made.cert,), made.key)


def chosen(presentation: Presentation, name: str) -> tuple[ServerCertificate, ...]:
    """By the rules of RFC 9525, section 6.3, said once more."""
    for known in (name, "*." + name.partition(".")[2]):
        if known in presentation.choices:
            return presentation.choices[known]
    return presentation.default


def names_of(cert: Credential) -> list[str]:
    return list(server_names(cert.cert))


def test_names_are_the_dns_names_in_lower_case_without_a_dot_at_their_end() -> None:
    assert names_of(CA.issue("cn.example", hosts=["WWW.Example.com", "*.b.example.com."])) == [
        "www.example.com",
        "*.b.example.com",
    ]


@pytest.mark.parametrize(
    "name",
    ["", ".", "a..b", "*", "f*.example.com", "www.*.com", "*.*.com", "a b", "a\0b", "a" * 64, "a" * 300],
)
def test_what_is_no_host_name_is_left_out(name: str) -> None:
    assert names_of(CA.issue("x", hosts=[name, "good.example"])) == ["good.example"]


def test_the_common_name_counts_where_there_is_no_dns_name() -> None:
    assert names_of(CA.issue("Old.Example", hosts=[])) == ["old.example"]
    assert names_of(CA.issue("A fleet's server", hosts=[])) == []


def test_an_address_is_no_name_that_anybody_asks_for() -> None:
    now = dt.datetime.now(dt.UTC)
    key = KEYS["ec"]
    builder = x509.CertificateBuilder(common_name("A server"), common_name("A server"), key.public_key(), 7)
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("192.0.2.1"))])
    made = builder.add_extension(address, critical=False).sign(key, SHA256())
    assert list(server_names(made)) == []


def test_each_name_has_its_own_certificate_and_the_first_is_for_the_rest() -> None:
    a, b = certificate("ec", "a.example"), certificate("ec", "b.example", "*.b.example")
    found = present([a, b])
    assert found.default == (a,)
    assert found.choices == {"a.example": (a,), "b.example": (b,), "*.b.example": (b,)}
    assert not found.lost(a)


def test_a_name_of_two_kinds_of_key_has_both() -> None:
    ec, rsa = certificate("ec", "a.example"), certificate("rsa", "a.example", "b.example")
    found = present([ec, rsa])
    assert found.default == (ec, rsa)
    assert found.choices == {"a.example": (ec, rsa), "b.example": (rsa,)}


def test_who_cannot_verify_the_certificate_of_the_name_may_have_that_of_its_wildcard() -> None:
    exact, wild = certificate("ec", "a.example.com"), certificate("rsa", "*.example.com")
    assert present([wild, exact]).choices == {"a.example.com": (exact, wild), "*.example.com": (wild,)}


def test_of_several_of_one_kind_the_first_is_presented_and_the_others_have_lost() -> None:
    first, second = certificate("ec", "a.example", "b.example"), certificate("ec", "a.example", "c.example")
    found = present([first, second])
    assert found.choices["a.example"] == (first,)
    assert (found.lost(first), found.lost(second)) == ([], [("a.example", first)])


def test_a_wildcard_beside_the_name_itself_loses_nothing() -> None:
    wild, exact = certificate("ec", "*.example.com"), certificate("ec", "a.example.com")
    found = present([wild, exact])
    assert (found.lost(wild), found.lost(exact)) == ([], [])


def test_a_certificate_without_any_name_is_for_those_who_name_none() -> None:
    nameless = certificate("ec")
    with_name = certificate("rsa", "a.example")
    assert present([with_name, nameless]).default == (with_name,)
    only = CA.issue("no host at all", hosts=[])
    one = ServerCertificate((only.cert,), only.key)
    assert present([one, with_name]).default == (one,)


LABELS = st.sampled_from(["a", "b", "com"])
HOSTS = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
NAMES = st.one_of(HOSTS, HOSTS.map("*.{}".format))
CERTIFICATES = st.builds(
    lambda kind, hosts: certificate(kind, *hosts),
    st.sampled_from(["ec", "rsa"]),
    st.lists(NAMES, min_size=1, max_size=3, unique=True),
)


@given(st.lists(CERTIFICATES, min_size=1, max_size=4), HOSTS)
def test_what_is_presented_is_for_the_name_and_nothing_better_is_left(
    certificates: Sequence[ServerCertificate], host: str
) -> None:
    def fits(one: ServerCertificate) -> int:
        """0 for the name itself, 1 by a wildcard, 2 not at all."""
        own = set(server_names(one.leaf))
        return 0 if host in own else 1 if "*." + host.partition(".")[2] in own else 2

    found = chosen(present(certificates), host)
    assert len({one.kind for one in found}) == len(found) > 0
    if all(fits(one) == 2 for one in certificates):
        assert certificates[0] in found
        return
    for kind in {one.kind for one in certificates}:
        of_kind = [one for one in certificates if one.kind == kind and fits(one) < 2]
        best = min(of_kind, key=fits, default=None)
        assert [one for one in found if one.kind == kind] == ([] if best is None else [best])


def test_missing_intermediates_are_taken_from_those_that_are_known_but_never_a_root() -> None:
    sub = CA.intermediate("Sub")
    low = sub.intermediate("Low")
    server = low.issue("server")
    known = [CA.cert, low.cert, sub.cert]
    assert completed((server.cert,), known) == (server.cert, low.cert, sub.cert)
    assert completed((server.cert, low.cert), known) == (server.cert, low.cert, sub.cert)
    assert completed((server.cert,), [CA.cert, sub.cert]) == (server.cert,)
    assert completed((sub.issue("b").cert,), [sub.cert])[1:] == (sub.cert,)
    assert completed((CA.issue("c").cert, CA.cert), known)[1:] == (CA.cert,)


def test_a_root_ends_a_chain_although_it_was_certified_by_another_root_as_well() -> None:
    cross = Authority.root("Old Root").intermediate("CA", key=CA.key)
    server = CA.issue("server").cert
    assert completed((server,), [cross.cert, CA.cert]) == (server,)
    assert completed((server,), [cross.cert]) == (server, cross.cert)


def test_cas_that_certified_each_other_make_no_endless_chain() -> None:
    one, two = make_key(), make_key()
    a, b = Authority.root("A", key=one), Authority.root("B", key=two)
    known = [b.intermediate("A", key=one).cert, a.intermediate("B", key=two).cert]
    assert completed((a.issue("server").cert,), known)[1:] == tuple(known)
