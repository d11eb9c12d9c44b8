"""What a listener's options do in a handshake, and what OpenSSL does not know."""

from __future__ import annotations

from typing import Any

import pytest
from OpenSSL import SSL

from gateway.config import emqx_tls
from gateway.config.certificates import ServerCertificate
from gateway.errors import ConfigError
from gateway.tls import openssl, options
from gateway.tls.context import ServerContext, make_context
from tests.authority import Authority
from tests.listeners import listener
from tests.tls.hands import client_context, resumes, shake_hands

openssl.install()

CA = Authority.root("CA")
SERVER = CA.issue("server")
RSA_SERVER = CA.issue("server", kind="rsa")
V12, V13 = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION
AES_128, CHACHA, AES_256 = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_256_GCM_SHA384",
)


def context(*, rsa: bool = False, **keys: Any) -> ServerContext:
    server = RSA_SERVER if rsa else SERVER
    return make_context(
        listener(**{"verify": "none", **keys}),
        certificates=[ServerCertificate((server.cert,), server.key)],
        client_cas=(CA.cert,),
    )


def refusal(**keys: Any) -> str:
    def place(key: str) -> str:
        return f"gateway.toml: listeners[0].{key}"

    with pytest.raises(ConfigError) as caught:
        options.check(listener(**keys), place)
    return str(caught.value)


def suite(server: ServerContext, client: SSL.Context) -> str | None:
    return shake_hands(server, client)[1].get_cipher_name()


def group(server: ServerContext, client: SSL.Context) -> str:
    pointer = shake_hands(server, client)[1]._ssl
    return bytes(openssl._binding.ffi.string(openssl._binding.lib.SSL_get0_group_name(pointer))).decode()


def test_the_defaults_are_known_to_openssl() -> None:
    options.check(listener(), str)


def test_a_ciphersuite_of_tls_1_3_is_spoken_only_where_it_is_listed() -> None:
    server = context(ciphersuites=(AES_256,))
    assert suite(server, client_context(V13)) == AES_256
    only_128 = client_context(V13)
    only_128.set_tls13_ciphersuites(AES_128.encode())
    with pytest.raises(SSL.Error):
        shake_hands(server, only_128)


def test_a_cipher_of_tls_1_2_is_spoken_only_where_it_is_listed() -> None:
    old = "ECDHE-RSA-AES128-SHA256"
    client = client_context(V12)
    client.set_cipher_list(old.encode())
    with pytest.raises(SSL.Error):
        shake_hands(context(rsa=True), client)
    assert suite(context(rsa=True, ciphers=(old,)), client) == old


def test_the_order_is_the_listeners() -> None:
    for order in ((AES_256, AES_128), (AES_128, AES_256)):
        assert suite(context(ciphersuites=order), client_context(V13)) == order[0]


@pytest.mark.parametrize(("first", "second"), [(CHACHA, AES_128), (AES_128, CHACHA)])
def test_a_client_without_aes_instructions_gets_chacha20(first: str, second: str) -> None:
    client = client_context(V13)
    client.set_tls13_ciphersuites(f"{first}:{second}".encode())
    assert suite(context(), client) == first


@pytest.mark.parametrize(
    ("groups", "spoken"),
    [(("P-384",), "secp384r1"), (("X25519", "P-256"), "x25519"), (("P-256",), "secp256r1")],
)
def test_a_group_is_one_that_is_listed(groups: tuple[str, ...], spoken: str) -> None:
    assert group(context(groups=groups), client_context(V13)) == spoken


def test_the_first_choice_by_default_withstands_quantum_computers() -> None:
    assert group(context(), client_context(V13)) == "X25519MLKEM768"


CIPHER = "a cipher suite of TLS 1.2 by OpenSSL's name"
SUITE = "a cipher suite of TLS 1.3 by OpenSSL's name"
GROUP = 'a group that OpenSSL knows, such as "P-256"'


@pytest.mark.parametrize(
    ("key", "good", "bad", "expected"),
    [
        ("ciphers", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA265", CIPHER),
        ("ciphers", "ECDHE-RSA-AES128-GCM-SHA256", "HIGH", CIPHER),
        ("ciphers", "ECDHE-RSA-AES128-GCM-SHA256", "@SECLEVEL=0", CIPHER),
        ("ciphers", "ECDHE-RSA-AES128-GCM-SHA256", "ADH-AES128-SHA", CIPHER),
        ("ciphers", "ECDHE-RSA-AES128-GCM-SHA256", AES_128, CIPHER),
        ("ciphersuites", AES_128, "TLS_AES_128_GCM", SUITE),
        ("ciphersuites", AES_128, "ECDHE-RSA-AES128-GCM-SHA256", SUITE),
        ("groups", "P-256", "P-257", GROUP),
        ("groups", "P-256", "P-256:P-384", GROUP),
        ("groups", "P-256", "?P-256", GROUP),
        ("groups", "P-256", "", GROUP),
    ],
)
def test_what_openssl_does_not_know_is_refused_by_name(key: str, good: str, bad: str, expected: str) -> None:
    said = refusal(**{key: (good, bad)})
    assert said.startswith(f'gateway.toml: listeners[0].{key}[1]: expected {expected}, got "{bad}"')


def test_a_suite_that_is_nearly_right_is_answered_with_the_right_one() -> None:
    assert refusal(ciphersuites=("TLS_AES_128_GCM",)).endswith(f'(did you mean "{AES_128}"?)')


def test_a_context_is_not_made_with_what_openssl_does_not_know() -> None:
    with pytest.raises(ConfigError, match=r"listener external: groups\[0\]: expected a group"):
        context(groups=("nonsense",))


@pytest.mark.parametrize("name", sorted({*options._tls12_ciphers(), *options._TLS13_CIPHERSUITES}))
def test_every_suite_that_is_taken_is_one_that_openssl_would_speak(name: str) -> None:
    """Not anonymous, not without encryption, no PSK: such a listener would serve nobody."""
    version = V13 if name.startswith("TLS_") else V12
    listed = {"ciphersuites" if version == V13 else "ciphers": (name,)}
    client = client_context(version)
    client.set_cipher_list(b"ALL")
    client.set_tls13_ciphersuites(":".join(options._TLS13_CIPHERSUITES).encode())
    assert suite(context(rsa="ECDSA" not in name, **listed), client) == name


@pytest.mark.parametrize("version", [V12, V13])
def test_a_session_resumes_where_tickets_are_on(version: int) -> None:
    assert resumes(context(), client_context(version))
    assert not resumes(context(session_tickets=False), client_context(version))


ERLANG = [
    *emqx_tls._CIPHERSUITES,
    *(f"ECDHE-ECDSA-AES{bits}-CCM" for bits in (128, 256)),
    *(
        f"ECDHE-{kind}-{cipher}"
        for kind in ("ECDSA", "RSA")
        for cipher in (
            *(f"AES128-{rest}" for rest in ("GCM-SHA256", "SHA256", "SHA")),
            *(f"AES256-{rest}" for rest in ("GCM-SHA384", "SHA384", "SHA")),
            "CHACHA20-POLY1305",
        )
    ),
]


def test_what_is_taken_of_emqxs_names_is_known_to_openssl() -> None:
    """So that no such file is refused for a suite or a curve."""
    found = emqx_tls.suites([*ERLANG, "AES128-SHA", "ECDHE-RSA-AES128-SHA384"])
    assert found.dropped == ["AES128-SHA", "ECDHE-RSA-AES128-SHA384"]
    groups, dropped = emqx_tls.groups([*emqx_tls._GROUPS, "sect571r1"])
    assert dropped == ["sect571r1"]
    every = listener(ciphers=found.ciphers, ciphersuites=found.ciphersuites, groups=groups)
    options.check(every, str)


@pytest.mark.parametrize("version", [V12, V13])
def test_the_options_hold_whichever_certificate_a_client_is_presented(version: int) -> None:
    """The handshake begins in the context of the first, and goes on in that of the name."""
    others = CA.issue("others", hosts=["other.example"])
    server = make_context(
        listener(verify="none", alpn=("mqtt",), groups=("P-384",), session_tickets=False),
        certificates=[ServerCertificate((each.cert,), each.key) for each in (others, SERVER)],
        client_cas=(CA.cert,),
    )
    client = client_context(version)
    client.set_alpn_protos([b"h2", b"mqtt"])
    _, shown = shake_hands(server, client)
    assert shown.get_peer_certificate(as_cryptography=True) == SERVER.cert
    assert shown.get_alpn_proto_negotiated() == b"mqtt"
    assert group(server, client) == "secp384r1"
    assert not resumes(server, client)
    stranger = client_context(version)
    stranger.set_alpn_protos([b"h2"])
    with pytest.raises(SSL.Error):
        shake_hands(server, stranger)
