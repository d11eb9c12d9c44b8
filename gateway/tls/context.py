"""TLS contexts: pyOpenSSL builds and owns them, the extension's callbacks decide in them.

They are made before the fork, so that all workers share the ticket keys and a
session resumes on any of them; what is of one process (the tables in force, the
rules bound to them, the staples) is attached after the fork, by `enter_process`.

A listener has a context for each choice of certificates, alike in all else: a
handshake begins in the first, and goes on in the one of the name that the client
asks for (csrc/sni.h).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import X509

from gateway import native
from gateway.config.certificates import present
from gateway.config.rules import RuleError
from gateway.errors import ConfigError, GatewayError
from gateway.names import fingerprint
from gateway.signature import certificate_fault
from gateway.tls import openssl, options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from mmap import mmap

    from cryptography import x509

    from gateway.config.certificates import Choice, ServerCertificate
    from gateway.config.material import ListenerMaterial
    from gateway.config.model import Listener

    Made = tuple[Sequence[Listener], Sequence[ListenerMaterial], Sequence["ServerContext"]]

# SSL_MODE_NO_AUTO_CHAIN of OpenSSL's headers, which the binding does not have. Without it OpenSSL builds and
# verifies the chain of a certificate that has none behind it in each handshake: a tenth of its time.
_MODE_NO_AUTO_CHAIN = 0x8


@dataclass(frozen=True)
class TrustedCa:
    """A client CA as the context's store holds it."""

    certificate: x509.Certificate
    stored: X509


@dataclass(frozen=True)
class Presenting:
    """An SSL_CTX with the certificates that it presents: the addresses of their X509s, by fingerprint."""

    context: SSL.Context
    certificates: Mapping[str, int]

    @property
    def address(self) -> int:
        """The SSL_CTX, as the extension takes it."""
        return openssl.context_address(self.context)


@dataclass(frozen=True)
class ServerContext:
    """One listener's SSL_CTXs, the client CAs in the store of each, and who is presented which.

    It has to live as long as handshakes that began in it.
    """

    presenting: tuple[Presenting, ...]
    client_cas: tuple[TrustedCa, ...]
    names: native.ServerNames | None
    """None where every client is presented the same."""
    protocols: native.Protocols | None
    """What is selected from when a client offers protocols (RFC 7301); None where they are ignored."""
    usages: bytes
    """What a client's extendedKeyUsage must name: OBJECT IDENTIFIERs in DER, one behind the other."""
    partial_chains: bool
    """Whether each of the client CAs is a trust anchor, not only those that issued themselves."""

    @property
    def context(self) -> SSL.Context:
        """The one that handshakes begin in."""
        return self.presenting[0].context

    @property
    def address(self) -> int:
        """That one, as the extension takes it."""
        return self.presenting[0].address


def make_contexts(
    listeners: Sequence[Listener], materials: Sequence[ListenerMaterial], like: Made | None = None
) -> list[ServerContext]:
    """The contexts of each listener, in the configuration's order.

    Those of `like` are taken where nothing has changed: then tickets that they gave out stay good.

    Raises:
        ConfigError: OpenSSL does not take a certificate, a key, a CA or an option.
        UnsupportedOpenSSLError: it is not one that was tested.
    """
    openssl.install()
    made = []
    for listener, material in zip(listeners, materials, strict=True):
        unchanged = None
        for old_listener, old_material, server in zip(*like, strict=True) if like else ():
            if old_listener == listener and _presented(old_material) == _presented(material):
                unchanged = server
        made.append(
            unchanged
            or make_context(listener, certificates=material.certificates, client_cas=material.client_cas)
        )
    return made


def _presented(material: ListenerMaterial) -> tuple[object, ...]:
    return ([one.chain for one in material.certificates], material.client_cas)


def make_context(
    listener: Listener,
    *,
    certificates: Sequence[ServerCertificate],
    client_cas: Sequence[x509.Certificate],
) -> ServerContext:
    """Build the contexts of `listener`.

    Raises:
        ConfigError: OpenSSL does not take a certificate, a key, a CA or an option.
    """
    presentation = present(certificates)
    # A CA that stands twice in the file is stored once, and only the stored
    # object is ever met in a chain, whichever context it was verified in.
    cas = tuple(TrustedCa(ca, X509.from_cryptography(ca)) for ca in dict.fromkeys(client_cas))
    made: dict[Choice, Presenting] = {}
    for choice in dict.fromkeys((presentation.default, *presentation.choices.values())):
        context = _without_certificate(listener, cas)
        try:
            addresses = {fingerprint(one.leaf): _add(context, one) for one in choice}
        except SSL.Error as exc:
            raise ConfigError(
                f"listener {listener.name}: OpenSSL does not accept its certificates: {exc}"
            ) from exc
        made[choice] = Presenting(context, addresses)
    names = None
    if len(made) > 1:
        names = native.ServerNames(
            {name: made[choice].address for name, choice in presentation.choices.items()}
        )
        names.attach(made[presentation.default].address)
    protocols = native.Protocols(name.encode() for name in listener.alpn) if listener.alpn else None
    if protocols is not None:
        for one in made.values():
            protocols.attach(one.address)
    return ServerContext(
        presenting=tuple(made.values()),
        client_cas=cas,
        names=names,
        protocols=protocols,
        usages=options.usages(listener),
        partial_chains=listener.trust == "intermediate",
    )


def _without_certificate(listener: Listener, cas: Sequence[TrustedCa]) -> SSL.Context:
    """A context with all that those of `listener` have in common."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    try:
        options.apply(context, listener)
    except RuleError as exc:
        raise ConfigError(f"listener {listener.name}: {exc}") from exc
    # An idle connection then holds no record buffers; partial writes and moving
    # buffers, which the relay relies on, are pyOpenSSL's own defaults.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | _MODE_NO_AUTO_CHAIN)
    store = context.get_cert_store()
    if store is None:
        raise ConfigError("OpenSSL gave a context without a certificate store")
    for ca in cas:
        store.add_cert(ca.stored)
        if listener.client_ca_names:
            context.add_client_ca(ca.certificate)

    # The id context ties a ticket to this listener and these CAs: a session must
    # not carry a client past another listener's trust (CVE-2015-0209 and others).
    context.set_session_id(_session_id_context(listener, [ca.certificate for ca in cas]))

    mode = {
        "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
        "optional": SSL.VERIFY_PEER,
        "none": SSL.VERIFY_NONE,
    }[listener.verify]
    native.arm_verification(openssl.context_address(context), mode)
    return context


def _add(context: SSL.Context, certificate: ServerCertificate) -> int:
    """Add a certificate to those that `context` presents; returns the address of its X509 there."""
    # Only a file gives a certificate a chain of its own: what add_extra_chain_cert adds is sent with all.
    with os.fdopen(os.memfd_create("chain"), "wb", buffering=0) as file:
        file.write(b"".join(one.public_bytes(Encoding.PEM) for one in certificate.chain))
        context.use_certificate_chain_file(f"/proc/self/fd/{file.fileno()}")
    context.use_privatekey(certificate.private_key)
    context.check_privatekey()
    return openssl.added_certificate_address(context)


def enter_process(
    server: ServerContext,
    world: native.World,
    *,
    check: native.Check,
    on_unavailable: native.OnUnavailable,
    grace: float,
    disconnect_revoked: bool,
    counters: mmap,
    gauge: int,
    answers: native.Answers | None = None,
    require_answer: bool = False,
) -> tuple[native.Listener, list[tuple[str, native.StapleSlot]]]:
    """Bind contexts to this process's tables and staples; after the fork, before the first connection.

    Returns the listener's rules, and with the fingerprint of its certificate an empty
    slot for the staple of each, in each context.
    """
    listener = native.Listener(
        world,
        check,
        on_unavailable,
        grace=grace,
        disconnect_revoked=disconnect_revoked,
        gauge=(counters, gauge),
        usages=server.usages,
        answers=answers,
        require_answer=require_answer,
    )
    for ca in server.client_cas:
        # No list covers a trust anchor: a resumed session is looked up no further than a full handshake.
        parent = None if server.partial_chains else _issuer_index(ca.certificate, server.client_cas)
        listener.add_ca(openssl.certificate_address(ca.stored), parent=parent)
    slots: list[tuple[str, native.StapleSlot]] = []
    for one in server.presenting:
        slot = None
        for key, x509_address in one.certificates.items():
            slot = native.StapleSlot(x509_address, counters, another=slot)
            slots.append((key, slot))
        if slot is not None:
            slot.attach(one.address)
    return listener, slots


def learn_ca(listener: native.Listener, known: list[TrustedCa], certificate: x509.Certificate) -> bool:
    """Add a CA that a client brought along to those that resumed sessions are looked up below.

    It must hang below one of `known`, which it joins. False where it does not, or there
    is no room; it is trusted no more than before: chains are built without it.
    """
    parent = _issuer_index(certificate, known)
    if parent is None or any(ca.certificate == certificate for ca in known):
        return False
    learnt = TrustedCa(certificate, X509.from_cryptography(certificate))
    try:
        listener.add_ca(openssl.certificate_address(learnt.stored), parent=parent)
    except GatewayError:
        return False
    known.append(learnt)
    return True


def _session_id_context(listener: Listener, cas: Sequence[x509.Certificate]) -> bytes:
    rules = (
        listener.name,
        listener.verify,
        listener.trust,
        listener.verify_depth,
        listener.client_extended_key_usage,
    )
    digest = hashlib.sha256(repr(rules).encode())
    for certificate in cas:
        digest.update(certificate.public_bytes(Encoding.DER))
    return digest.digest()


def _issuer_index(certificate: x509.Certificate, cas: Sequence[TrustedCa]) -> int | None:
    """Which of `cas` issued this one; None where it issued itself or its issuer is not among them."""
    if _issued(certificate, certificate):
        # Checked first: a root may stand beside a cross-certificate of its own name and key.
        return None
    return next((index for index, ca in enumerate(cas) if _issued(certificate, ca.certificate)), None)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    return certificate.issuer == issuer.subject and certificate_fault(certificate, issuer) is None
