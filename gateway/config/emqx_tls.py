"""What Erlang's names of cipher suites, curves and key usages are here. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of Erlang's suites those that OpenSSL offers with a certificate alone: ephemeral ECDH. Without forward
# secrecy (AES128-SHA), with parameters in a file (DHE) or of ciphers long gone the rest is.
_CIPHER = re.compile(
    r"ECDHE-(?:ECDSA|RSA)-(?:AES128-(?:GCM-SHA256|SHA256|SHA)|AES256-(?:GCM-SHA384|SHA384|SHA)|CHACHA20-POLY1305)"
    r"|ECDHE-ECDSA-AES(?:128|256)-CCM"
)
_CIPHERSUITES = (
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
)
_GROUPS = {
    "x25519": "X25519",
    "x448": "X448",
    "secp256r1": "P-256",
    "secp384r1": "P-384",
    "secp521r1": "P-521",
    "brainpoolP256r1": "brainpoolP256r1",
    "brainpoolP384r1": "brainpoolP384r1",
    "brainpoolP512r1": "brainpoolP512r1",
}


class Suites(NamedTuple):
    """A list of cipher suites, in its order: of TLS 1.2, of TLS 1.3, and what is not offered."""

    ciphers: list[str]
    ciphersuites: list[str]
    dropped: list[str]


def suites(names: Iterable[str]) -> Suites:
    """Part Erlang's list for both versions, and what OpenSSL does not have, or should not."""
    found = Suites([], [], [])
    for name in names:
        if _CIPHER.fullmatch(name):
            found.ciphers.append(name)
        elif name in _CIPHERSUITES:
            found.ciphersuites.append(name)
        else:
            found.dropped.append(name)
    return found


def groups(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """OpenSSL's groups of Erlang's curves, in their order, and the curves that it does not have."""
    listed = list(names)
    return [_GROUPS[name] for name in listed if name in _GROUPS], [
        name for name in listed if name not in _GROUPS
    ]


def usages(names: Iterable[str]) -> list[str]:
    """Our names of EMQX's key usages; what is none of them is left as it stands."""
    return ["OCSPSigning" if name == "ocspSigning" else name.removeprefix("OID:") for name in names]
