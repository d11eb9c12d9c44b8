"""Which certificates of a client responders are asked about, and which responders. No I/O.

A client that has just been verified brings its whole chain, in the very order that
OpenSSL has verified. A resumed session, and a connection that lives, has its own
certificate alone: those above it are found among the CAs that are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from gateway.extensions import responder_url
from gateway.names import issuer_id, load_untrusted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography import x509

    from gateway.config.model import Revocation
    from gateway.names import IssuerId
    from gateway.revocation.authorities import Authorities

# Ways up from the issuer of a certificate that stands alone: OpenSSL takes one of them.
_MOST_PATHS = 4


@dataclass(frozen=True)
class Subject:
    """A certificate to ask about, and whom: `url` is None where nobody can be asked.

    `learnt` says that the URL is the certificate's word; `timeout` is in seconds. The
    answer counts under all `identities` of the issuer (RFC 5280, section 6.3.3, knows it by name).
    """

    certificate: x509.Certificate
    issuer: x509.Certificate
    url: str | None
    learnt: bool
    timeout: float
    identities: frozenset[IssuerId]


def subjects(
    chain: Sequence[bytes], authorities: Authorities, rules: Revocation, now: float
) -> list[Subject]:
    """Whom to ask about the certificates (DER) of `chain`, the client's own first.

    `rules.ocsp_responder_url` is for the clients' own certificates; CAs are asked about where
    they say so themselves. `now` is in seconds since 1970.

    Raises:
        ValueError: a certificate cannot be read.
    """
    certificates = [load_untrusted(each) for each in chain]
    found = pairwise(certificates) if len(certificates) > 1 else _above(certificates[0], authorities, now)
    pairs = list(dict.fromkeys(found))
    return [
        _subject(certificate, issuer, authorities, rules, own=certificate == certificates[0])
        for certificate, issuer in (pairs[:1] if rules.check == "leaf" else pairs)
    ]


def _above(
    leaf: x509.Certificate, authorities: Authorities, now: float
) -> Iterator[tuple[x509.Certificate, x509.Certificate]]:
    issuer = authorities.issuer(leaf)
    if issuer is None:
        return
    yield leaf, issuer
    for path in authorities.paths(issuer, now)[:_MOST_PATHS]:
        for certificate in path:
            above = authorities.issuer(certificate)
            if above is not None:
                yield certificate, above


def _subject(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    authorities: Authorities,
    rules: Revocation,
    *,
    own: bool,
) -> Subject:
    configured = rules.ocsp_responder_url if own else None
    return Subject(
        certificate=certificate,
        issuer=issuer,
        url=configured or responder_url(certificate),
        learnt=configured is None,
        timeout=rules.ocsp_timeout,
        identities=authorities.same(issuer_id(issuer)) | {issuer_id(issuer)},
    )
