"""What a listener's configuration says of TLS, put into a context.

OpenSSL itself is asked what it knows: a cipher suite or group is refused by name,
where OpenSSL would drop it from a list in silence.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509StoreFlags

from gateway import der
from gateway.config.rules import RuleError
from gateway.config.values import did_you_mean, parse_usage, show
from gateway.errors import ConfigError
from gateway.tls import openssl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from gateway.config.model import Listener

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
# SSL_OP_PRIORITIZE_CHACHA, which pyOpenSSL does not name: who puts ChaCha20 first has no AES
# instructions, and gets it although the order is ours.
_PRIORITIZE_CHACHA = 1 << 21
# What authenticates by certificate, needs nothing that the gateway does not have (a PSK, DH parameters),
# is not below OpenSSL's security level, as tags of 8 octets are, and is of TLS 1.2, as IDEA is not.
_USABLE = b"ALL:!aNULL:!eNULL:!PSK:!SRP:!kDHE:!aDSS:!AESCCM8:!IDEA"
_TLS13_CIPHERSUITES = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
)
"""RFC 8446, section B.4, without TLS_AES_128_CCM_8_SHA256, as above."""


def check(listener: Listener, place: Callable[[str], str]) -> None:
    """Raise ConfigError for what OpenSSL does not know; `place` names a key of the listener, and its file."""
    try:
        apply(SSL.Context(SSL.TLS_SERVER_METHOD), listener)
    except RuleError as exc:
        raise ConfigError(f"{place(exc.key)}: {exc.problem}") from exc


def apply(context: SSL.Context, listener: Listener) -> None:
    """Put all of it that does not depend on a file into `context`.

    Raises:
        RuleError: OpenSSL does not know a name: the key below the listener, and what was expected.
    """
    versions = sorted(_VERSIONS[version] for version in listener.tls_versions)
    context.set_min_proto_version(versions[0])
    context.set_max_proto_version(versions[-1])
    context.set_options(
        SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | _PRIORITIZE_CHACHA
    )
    if not listener.session_tickets:
        context.set_options(SSL.OP_NO_TICKET)
    # Sessions live in tickets alone: any worker can open one, none keeps a cache.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_timeout(int(listener.session_lifetime))
    context.set_verify_depth(listener.verify_depth)
    store = context.get_cert_store()
    if listener.trust == "intermediate" and store is not None:
        store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    _refuse_unknown("ciphers", "a cipher suite of TLS 1.2", listener.ciphers, _tls12_ciphers())
    context.set_cipher_list(":".join(listener.ciphers).encode())
    _refuse_unknown("ciphersuites", "a cipher suite of TLS 1.3", listener.ciphersuites, _TLS13_CIPHERSUITES)
    context.set_tls13_ciphersuites(":".join(listener.ciphersuites).encode())
    _set_groups(context, listener.groups)


def usages(listener: Listener) -> bytes:
    """What the listener asks of extendedKeyUsage (RFC 5280, section 4.2.1.12), as it stands there."""
    wanted = [parse_usage(name) for name in listener.client_extended_key_usage]
    extension = x509.ExtendedKeyUsage(wanted).public_bytes() if wanted else der.encode(der.SEQUENCE)
    return extension[der.read(extension).content]


def _refuse_unknown(key: str, what: str, names: Sequence[str], known: Collection[str]) -> None:
    for number, name in enumerate(names):
        if name not in known:
            raise RuleError(
                f"{key}[{number}]",
                f"expected {what} by OpenSSL's name, got {show(name)}{did_you_mean(name, known)}",
            )


def _set_groups(context: SSL.Context, groups: Sequence[str]) -> None:
    # Letters, digits and hyphens alone: in a list OpenSSL takes other signs for its own.
    plain = [group.replace("-", "").isalnum() for group in groups]
    if all(plain) and openssl.set_groups(context, ":".join(groups)):
        return
    number = next(
        (n for n, group in enumerate(groups) if not plain[n] or not openssl.set_groups(context, group)), 0
    )
    raise RuleError(
        f"groups[{number}]",
        f'expected a group that OpenSSL knows, such as "P-256", got {show(groups[number])}',
    )


@functools.cache
def _tls12_ciphers() -> frozenset[str]:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(_USABLE)
    return frozenset(SSL.Connection(context, None).get_cipher_list()) - frozenset(_TLS13_CIPHERSUITES)
