"""What a listener's context allows, and to whom its sessions belong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from gateway.config.certificates import ServerCertificate
from gateway.errors import ConfigError
from gateway.names import fingerprint
from gateway.tls import openssl
from gateway.tls.context import ServerContext, _session_id_context, make_context
from tests.authority import Authority, Credential
from tests.listeners import listener
from tests.tls.hands import client_context, shake_hands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

openssl.install()

CA = Authority.root("Client CA")
OTHER_CA = Authority.root("Other CA")
SERVER = CA.issue("server")
CLIENT = CA.issue("device")


def context(
    *servers: Credential,
    cas: Sequence[x509.Certificate] = (CA.cert,),
    **options: Any,
) -> ServerContext:
    return make_context(
        listener(**{"verify": "none", **options}),
        certificates=[
            ServerCertificate((server.cert, *server.chain), server.key) for server in servers or (SERVER,)
        ],
        client_cas=cas,
    )


def test_nothing_is_compressed_and_nothing_renegotiated() -> None:
    options = context().context.set_options(0)
    assert options & SSL.OP_NO_COMPRESSION
    assert options & SSL.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_both_versions_are_spoken_with_forward_secrecy(version: int) -> None:
    server, client = shake_hands(context(), client_context(version))
    assert server.get_protocol_version() == client.get_protocol_version() == version
    cipher = client.get_cipher_name()
    assert cipher is not None
    assert cipher.startswith(("ECDHE-", "TLS_"))
    assert "GCM" in cipher or "CHACHA20" in cipher


@pytest.mark.parametrize(("allowed", "spoken"), [("1.2", SSL.TLS1_3_VERSION), ("1.3", SSL.TLS1_2_VERSION)])
def test_a_version_that_is_not_configured_is_not_spoken(allowed: str, spoken: int) -> None:
    with pytest.raises(SSL.Error):
        shake_hands(context(tls_versions=(allowed,)), client_context(spoken))


def test_the_whole_chain_is_sent() -> None:
    sub = CA.intermediate("Sub CA")
    _server, client = shake_hands(context(sub.issue("server")), client_context(SSL.TLS1_3_VERSION))
    chain = client.get_peer_cert_chain(as_cryptography=True)
    assert chain is not None
    assert sub.cert in chain


OTHERS = CA.issue("others", hosts=["other.example"])


def shown(server: ServerContext, client: SSL.Context) -> str:
    """The common name in the certificate that a client who asks for "localhost" is shown."""
    _server, end = shake_hands(server, client)
    certificate = end.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    return certificate.subject.rfc4514_string()


def test_the_certificate_of_the_name_is_shown_also_after_a_second_client_hello() -> None:
    """The first has a key share that the server does not take: HelloRetryRequest (RFC 8446, 4.1.4)."""
    server = context(OTHERS, SERVER, groups=("P-256",))
    client = client_context(SSL.TLS1_3_VERSION)
    assert openssl.set_groups(client, "X25519:P-256")
    assert shown(server, client) == "CN=server"


def test_a_listener_of_one_choice_has_one_context_and_looks_no_name_up() -> None:
    server = context(SERVER, CA.issue("rsa", kind="rsa"))
    assert (len(server.presenting), server.names) == (1, None)
    assert len(server.presenting[0].certificates) == 2


def test_each_choice_has_a_context_and_each_certificate_its_address_in_it() -> None:
    rsa = CA.issue("rsa", kind="rsa")
    server = context(OTHERS, SERVER, rsa)
    assert [list(one.certificates) for one in server.presenting] == [
        [fingerprint(OTHERS.cert)],
        [fingerprint(SERVER.cert), fingerprint(rsa.cert)],
    ]
    assert server.names is not None
    assert server.names.find(b"localhost") == server.presenting[1].address
    assert server.names.find(b"other.example") == server.presenting[0].address == server.address


def test_what_a_listener_says_of_tls_holds_under_every_name() -> None:
    """The client CAs, which are asked for late in a handshake, and the groups, early."""
    server = context(OTHERS, SERVER, verify="optional", groups=("P-384",), tls_versions=("1.2",))
    _server, client = shake_hands(server, client_context(SSL.TLS1_2_VERSION))
    assert [name.CN for name in client.get_client_ca_list()] == ["Client CA"]
    assert client.get_group_name() == "secp384r1"


def test_no_chain_is_made_up_in_a_handshake() -> None:
    """Whatever `client_cas` holds: of what is missing `config.certificates.completed` has taken care."""
    _server, client = shake_hands(context(cas=[CA.cert]), client_context(SSL.TLS1_3_VERSION))
    assert client.get_peer_cert_chain(as_cryptography=True) == [SERVER.cert]


def test_the_client_is_told_which_cas_are_trusted_each_once() -> None:
    server = context(cas=(CA.cert, OTHER_CA.cert, CA.cert), verify="optional")
    assert [trusted.certificate for trusted in server.client_cas] == [CA.cert, OTHER_CA.cert]
    _server, client = shake_hands(server, client_context(SSL.TLS1_2_VERSION))
    assert [name.CN for name in client.get_client_ca_list()] == ["Client CA", "Other CA"]


def test_the_client_is_told_no_names_where_they_are_switched_off() -> None:
    server = context(verify="optional", client_ca_names=False)
    _server, client = shake_hands(server, client_context(SSL.TLS1_2_VERSION))
    assert client.get_client_ca_list() == []


def test_sessions_are_in_tickets_alone() -> None:
    assert context().context.get_session_cache_mode() == SSL.SESS_CACHE_OFF


def test_a_session_belongs_to_a_listener_its_rule_and_its_cas() -> None:
    contexts = [
        _session_id_context(listener("external"), [CA.cert]),
        _session_id_context(listener("internal"), [CA.cert]),
        _session_id_context(listener("external", verify="optional"), [CA.cert]),
        _session_id_context(listener("external", verify_depth=0), [CA.cert]),
        _session_id_context(listener("external", trust="intermediate"), [CA.cert]),
        _session_id_context(listener("external", client_extended_key_usage=("clientAuth",)), [CA.cert]),
        _session_id_context(listener("external"), [CA.cert, OTHER_CA.cert]),
        _session_id_context(listener("external"), [OTHER_CA.cert]),
        _session_id_context(listener("external"), []),
    ]
    assert len(set(contexts)) == len(contexts)
    assert contexts[0] == _session_id_context(listener("external"), [CA.cert])
    # The longest that OpenSSL takes (SSL_MAX_SID_CTX_LENGTH).
    assert {len(context) for context in contexts} == {32}


def test_a_key_that_does_not_match_names_the_listener() -> None:
    wrong = Credential(SERVER.cert, CLIENT.key)
    with pytest.raises(ConfigError, match=r"listener external: OpenSSL does not accept its certificates: .+"):
        context(wrong)


def test_a_key_that_openssl_finds_too_small_names_the_listener() -> None:
    small = CA.issue("server", key=rsa.generate_private_key(65537, 1024))
    with pytest.raises(ConfigError, match="listener small: OpenSSL does not accept"):
        context(small, name="small")


def test_early_data_is_never_offered() -> None:
    """RFC 8446, section 8: 0-RTT data can be replayed, and a PUBLISH must not be."""
    server = context()
    assert _early_data(server) == 0
    # The same question where it is offered: the answer above means something.
    openssl._binding.lib.SSL_CTX_set_max_early_data(server.context._context, 1000)
    assert _early_data(server) == 1000


def _early_data(server: ServerContext) -> int:
    """How many bytes of early data the ticket that a client is given allows."""
    _, client = shake_hands(server, client_context(SSL.TLS1_3_VERSION))
    with pytest.raises(SSL.WantReadError):  # nothing to read, but the ticket has been
        client.recv(1)
    session = client.get_session()
    assert session is not None
    return int(openssl._binding.lib.SSL_SESSION_get_max_early_data(session._session))
