"""What is stapled: to each certificate its own response, also where two generations of contexts live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from OpenSSL import SSL

from gateway import native
from gateway.config.certificates import ServerCertificate
from gateway.metrics import Counter, Counters, gauge_index
from gateway.names import fingerprint
from gateway.tls import openssl
from gateway.tls.context import ServerContext, enter_process, make_context
from tests.authority import NOW, Authority, Credential
from tests.listeners import listener
from tests.tls.hands import client_context, shake_hands

if TYPE_CHECKING:
    from gateway.native import StapleSlot

openssl.install()

CA = Authority.root("CA")
VERSIONS = [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION]


class Generation:
    """The contexts of one configuration, with the slots of a process."""

    def __init__(self, *credentials: Credential) -> None:
        self.counters = Counters(1, 1)
        self.server: ServerContext = make_context(
            listener(verify="none"),
            certificates=[ServerCertificate((each.cert,), each.key) for each in credentials],
            client_cas=[],
        )
        self.slots: list[tuple[str, StapleSlot]]
        self._listener, self.slots = enter_process(
            self.server,
            native.World(),
            check=native.Check.OFF,
            on_unavailable=native.OnUnavailable.REJECT,
            grace=0,
            disconnect_revoked=False,
            counters=self.counters.pages[0],
            gauge=gauge_index(0),
        )

    def fill(self, staples: dict[str, bytes]) -> None:
        for key, slot in self.slots:
            slot.set(staples.get(key, b""), NOW + 3600)

    def given(self, version: int, signatures: str | None = None) -> bytes:
        """What a client that asks for "localhost" and for a status is given."""
        client = client_context(version)
        if signatures is not None:
            assert openssl._binding.lib.SSL_CTX_set1_sigalgs_list(client._context, signatures.encode())
        given: list[bytes] = []

        def take(_connection: SSL.Connection, response: bytes, _data: object) -> bool:
            given.append(response)
            return True

        client.set_ocsp_client_callback(take)
        _server, end = shake_hands(self.server, client, status=True)
        assert end.get_peer_certificate(as_cryptography=True) is not None
        (response,) = given
        return response


@pytest.fixture(scope="module")
def pair() -> tuple[Credential, Credential]:
    """Of one name, with keys of two kinds."""
    return CA.issue("ec"), CA.issue("rsa", kind="rsa")


@pytest.mark.parametrize("version", VERSIONS)
def test_each_kind_of_key_comes_with_its_own_response(
    version: int, pair: tuple[Credential, Credential]
) -> None:
    generation = Generation(CA.issue("first", hosts=["other"]), *pair)
    ec, rsa = (CA.ocsp(each.cert) for each in pair)
    generation.fill({fingerprint(pair[0].cert): ec})
    assert generation.given(version) == ec
    assert generation.given(version, "RSA-PSS+SHA256:RSA+SHA256") == b""
    generation.fill({fingerprint(pair[0].cert): ec, fingerprint(pair[1].cert): rsa})
    assert generation.given(version, "RSA-PSS+SHA256:RSA+SHA256") == rsa
    assert generation.counters.total(Counter.STAPLED) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_renewed_certificate_is_never_given_the_response_of_the_one_before(version: int) -> None:
    """Of the same name and key, as ACME clients may renew it, beside the other in one process."""
    old = CA.issue("server")
    new = CA.issue("server", key=old.key)
    before, after = Generation(old), Generation(new)
    staples = {fingerprint(old.cert): CA.ocsp(old.cert)}
    for generation in (before, after):
        generation.fill(staples)
    assert (before.given(version), after.given(version)) == (staples[fingerprint(old.cert)], b"")
    staples[fingerprint(new.cert)] = CA.ocsp(new.cert)
    for generation in (before, after):
        generation.fill(staples)
    assert [each.given(version) for each in (before, after)] == list(staples.values())
