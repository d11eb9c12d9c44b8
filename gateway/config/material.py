"""The files that a listener's configuration names, read and checked: all that can be known before listening.

Every failure is a ConfigError whose line names the key, the file and what was
expected. What would work but is hardly meant (a certificate that has expired, a
key that anyone may read) is a warning.
"""

from __future__ import annotations

import itertools
import os
import re
import ssl
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.config import serials
from gateway.config.certificates import ServerCertificate, completed, issued_by, present
from gateway.config.pem import PemFiles, named
from gateway.config.values import one_line
from gateway.errors import ConfigError
from gateway.extensions import must_staple, responder_url
from gateway.names import canonical_name, issuer_id, printable_der

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from gateway.config.model import Listener
    from gateway.config.serials import SerialFile

_LONGEST_TOKEN = 4096
_TOKEN = re.compile(rb"[!-~]{16,%d}" % _LONGEST_TOKEN)


@dataclass(frozen=True)
class ListenerMaterial:
    """What a listener needs from files.

    `certificates` are in the configuration's order, at least one; `client_cas`
    holds CA certificates alone, `crl_signers` others that sign lists and no
    certificates; `revoked_serials` is what the file of this name revokes.
    `warnings` are one line each.
    """

    certificates: tuple[ServerCertificate, ...]
    client_cas: tuple[x509.Certificate, ...]
    crl_signers: tuple[x509.Certificate, ...]
    revoked_serials: SerialFile | None
    warnings: tuple[str, ...]
    upstream_tls: ssl.SSLContext | None = None
    """What brokers are spoken to with; None where they speak plain TCP."""

    def all_certificates(self) -> Iterator[x509.Certificate]:
        """Those that are presented, their issuers, and the client CAs."""
        for certificate in self.certificates:
            yield from certificate.chain
        yield from self.client_cas


def load_material(listener: Listener, place: Callable[[str], str]) -> ListenerMaterial:
    """Read and check every file that the listener names. Raises ConfigError.

    `place` says where a key of the listener stands, as an error begins: for
    "client_ca" "gateway.toml: listeners[0].client_ca", or what an EMQX file has there.
    """
    return _Files(listener, place).load()


def check_state_dir(path: Path) -> None:
    """Raise ConfigError unless `path` is a directory that can be written, or could be made. Makes nothing."""
    place = f"state_dir: {one_line(str(path))}"
    existing = path
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        is_directory = existing.is_dir()
    except OSError as exc:
        raise ConfigError(f"{place}: cannot be used: {exc.strerror}") from exc
    found = "it" if existing == path else one_line(str(existing))
    if not is_directory:
        raise ConfigError(f"{place}: expected a directory, but {found} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{place}: expected a directory that can be written, but {found} cannot")


def load_token(path: Path) -> bytes:
    """The admin interface's token: 16 to 4096 printable ASCII characters without spaces, alone in its file.

    Raises:
        ConfigError: it is not that, or everyone on this machine may read it.
    """
    place = f"admin.token_file: {one_line(str(path))}"
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(_LONGEST_TOKEN + 2).rstrip(b"\r\n")
    except OSError as exc:
        raise ConfigError(f"{place}: cannot be read: {exc.strerror}") from exc
    if mode & stat.S_IRWXO:
        raise ConfigError(f"{place}: expected a file that others cannot read, got mode {mode & 0o777:04o}")
    if not _TOKEN.fullmatch(token):
        # Not a word of what is there: it is, or was to be, a secret.
        raise ConfigError(
            f"{place}: expected 16 to {_LONGEST_TOKEN} printable ASCII characters on one line, without spaces"
        )
    return token


class _Files(PemFiles):
    def load(self) -> ListenerMaterial:
        found = list(map(self.server_certificate, range(len(self.listener.certificates))))
        client_cas, crl_signers = self.client_cas()
        certificates = tuple(self.complete(number, each, client_cas) for number, each in enumerate(found))
        self.check_names(certificates)
        self.check_ciphers(certificates)
        return ListenerMaterial(
            certificates=certificates,
            client_cas=client_cas,
            crl_signers=crl_signers,
            revoked_serials=self.revoked_serials(client_cas),
            upstream_tls=self.upstream_tls(),
            warnings=tuple(dict.fromkeys(self.warnings)),
        )

    def upstream_tls(self) -> ssl.SSLContext | None:
        tls = self.listener.upstream_tls
        if not tls.enabled:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not tls.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif tls.ca is None:
            context.load_default_certs()
        else:
            found = self.certificates("upstream_tls.ca", tls.ca)
            context.load_verify_locations(
                cadata="".join(each.public_bytes(Encoding.PEM).decode() for each in found)
            )
        if tls.cert is not None and tls.key is not None:
            self.certificates("upstream_tls.cert", tls.cert)
            self.private_key("upstream_tls.key", tls.key)
            try:
                context.load_cert_chain(tls.cert, tls.key)
            except ssl.SSLError as exc:
                problem = f"expected the key of the certificate in {tls.cert}, got another one"
                self.fail("upstream_tls.key", tls.key, problem, exc)
        return context

    def check_ciphers(self, certificates: Sequence[ServerCertificate]) -> None:
        """Warn where no suite of TLS 1.2 goes with the kind of any certificate."""
        # In a suite's name ECDSA stands for the Edwards curves as well (RFC 8422, section 2.2).
        kinds = {"RSA" if one.kind == "RSA" else "ECDSA" for one in certificates}
        suited = any(("ECDSA" if "ECDSA" in name else "RSA") in kinds for name in self.listener.ciphers)
        if "1.2" in self.listener.tls_versions and not suited:
            self.warnings.append(
                f'listener "{self.listener.name}": ciphers: none goes with an {kinds.pop()} certificate: '
                "clients of TLS 1.2 are refused"
            )

    def server_certificate(self, number: int) -> ServerCertificate:
        place, files = f"certificates[{number}]", self.listener.certificates[number]
        chain = self.certificates(f"{place}.cert", files.cert)
        private_key = self.private_key(f"{place}.key", files.key)
        if _spki(private_key.public_key()) != _spki(chain[0].public_key()):
            self.fail(
                f"{place}.key",
                files.key,
                f"expected the key of {named(chain[0])} in {files.cert}, got another one",
            )
        self.check_order(f"{place}.cert", chain, files.cert)
        issuer, url = self.stapling(f"{place}.cert", chain, files.cert)
        return ServerCertificate(chain, private_key, issuer, url)

    def complete(
        self, number: int, certificate: ServerCertificate, cas: Sequence[x509.Certificate]
    ) -> ServerCertificate:
        known = [*cas, *([certificate.ocsp_issuer] if certificate.ocsp_issuer else [])]
        chain = completed(certificate.chain, known)
        if len(chain) == 1 and not any(issued_by(chain[0], ca) for ca in (*known, *chain)):
            self.warn(
                f"certificates[{number}].cert",
                self.listener.certificates[number].cert,
                f"no CA stands behind {named(chain[0])}: clients refuse it unless they have the one that "
                "issued it",
            )
        return replace(certificate, chain=chain)

    def check_names(self, certificates: Sequence[ServerCertificate]) -> None:
        presentation = present(certificates)
        for number, certificate in enumerate(certificates):
            path = self.listener.certificates[number].cert
            for name, other in presentation.lost(certificate):
                self.warn(
                    f"certificates[{number}].cert",
                    path,
                    f'"{name}" is also in certificates[{certificates.index(other)}], of the same kind of key '
                    f"({other.kind}): that one is presented",
                )

    def check_order(self, key: str, chain: Sequence[x509.Certificate], path: Path) -> None:
        for lower, upper in itertools.pairwise(chain):
            if not issued_by(lower, upper):
                self.warn(
                    key,
                    path,
                    f"{named(upper)} did not issue {named(lower)} before it: clients may refuse it",
                )

    def client_cas(self) -> tuple[tuple[x509.Certificate, ...], tuple[x509.Certificate, ...]]:
        """The CAs, and those that are none but sign lists (RFC 5280, section 6.3.3 (f))."""
        path = self.listener.client_ca
        if path is None:
            return (), ()
        found = self.certificates("client_ca", path)
        cas = tuple(cert for cert in found if _is_ca(cert))
        if not cas:
            self.fail(
                "client_ca",
                path,
                f"expected a CA certificate (basicConstraints cA true), got {named(found[0])}",
            )
        signers = tuple(cert for cert in found if cert not in cas and _signs_crls(cert))
        for cert in found:
            if cert not in cas and cert not in signers:
                self.warn("client_ca", path, f"{named(cert)} is no CA and is left out")
        self.check_cas(cas, path)
        return cas, signers

    def check_cas(self, cas: Sequence[x509.Certificate], path: Path) -> None:
        """Warn of those that let nobody in."""
        if self.listener.trust == "ca":
            for cert in cas:
                if not any(issued_by(cert, upper) for upper in cas if upper.subject == cert.issuer):
                    self.warn(
                        "client_ca",
                        path,
                        f"{named(cert)} is no root, and what issued it is not there: clients below it are "
                        'refused unless trust is "intermediate"',
                    )
        if self.listener.revocation.check != "off" and self.listener.verify != "none":
            for cert in cas:
                if not _may_sign_crls(cert):
                    self.warn(
                        "client_ca",
                        path,
                        f"{named(cert)} may not sign CRLs (keyUsage without cRLSign)",
                    )

    def revoked_serials(self, cas: Sequence[x509.Certificate]) -> SerialFile | None:
        key, path = "revocation.revoked_serials", self.listener.revocation.revoked_serials
        if path is None:
            return None
        try:
            found = serials.read(path, len(cas))
        except ConfigError as exc:
            raise ConfigError(f"{self.place(key)}: {exc}") from exc
        if found.writable:
            self.warn(key, path, f"everyone on this machine may revoke, and take back: chmod o-w {path}")
        known = {canonical_name(issuer_id(ca).name) for ca in cas}
        # Of each name once: the first line that has it.
        named = {line.issuer: line.number for line in reversed(found.lines) if line.issuer is not None}
        for issuer, number in named.items():
            if canonical_name(issuer) not in known:
                self.warn(
                    key,
                    path,
                    f"line {number}: no CA in client_ca is called {printable_der(issuer)}: "
                    "it counts when a client brings that CA along",
                )
        return found

    def stapling(
        self, key: str, chain: Sequence[x509.Certificate], path: Path
    ) -> tuple[x509.Certificate | None, str | None]:
        """The certificate's issuer and its responder; both None where nothing is stapled."""
        stapling = self.listener.stapling
        url = stapling.responder_url or responder_url(chain[0])
        if url is None and stapling.required:
            self.fail(
                "stapling.responder_url",
                None,
                f"expected a URL, because stapling.required is true and {named(chain[0])} names no OCSP "
                "responder; got nothing",
            )
        if not stapling.enabled or url is None:
            if must_staple(chain[0]):
                because = "it names no OCSP responder" if stapling.enabled else "stapling is not enabled"
                self.warn(
                    key,
                    path,
                    f"{named(chain[0])} demands a stapled OCSP response (must-staple), but {because}: "
                    "clients that insist refuse it",
                )
            return None, None
        candidates = chain[1:]
        if stapling.issuer is not None:
            configured = self.certificates("stapling.issuer", stapling.issuer)
            # It may be of one of several certificates; of a single one it has to be.
            candidates = configured if len(self.listener.certificates) == 1 else (*configured, *candidates)
        issuer = next((cert for cert in candidates if issued_by(chain[0], cert)), None)
        if issuer is None and stapling.issuer is not None:
            self.fail(
                "stapling.issuer",
                stapling.issuer,
                f"expected the certificate that issued {named(chain[0])}, got {named(candidates[0])}",
            )
        if issuer is None:
            self.fail(
                "stapling.issuer",
                None,
                f"expected the certificate that issued {named(chain[0])}, because "
                f"{path} has none behind it; got nothing",
            )
        return issuer, url


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_ca(cert: x509.Certificate) -> bool:
    """RFC 5280, section 6.1.4 (k): by basicConstraints; a version 1 root has no extensions to say so."""
    try:
        return cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return cert.version is x509.Version.v1 and issued_by(cert, cert)


def _may_sign_crls(cert: x509.Certificate) -> bool:
    """RFC 5280, section 4.2.1.3: without keyUsage, a key may be used for anything."""
    try:
        return cert.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _signs_crls(cert: x509.Certificate) -> bool:
    """Whether a certificate that is no CA's says that its key signs CRLs: as indirect ones are."""
    try:
        return cert.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return False
