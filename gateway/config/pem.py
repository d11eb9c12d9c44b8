"""PEM files, read and checked to the end: certificates and private keys.

A failure names the key, the file and what was expected; what is hardly meant is gathered as a warning.
"""

from __future__ import annotations

import datetime as dt
import stat
from typing import TYPE_CHECKING, NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from gateway.config.certificates import PrivateKey
from gateway.config.validity import ending
from gateway.config.values import one_line
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.config.model import Listener


class PemFiles:
    """Reads the files of one listener. Methods raise ConfigError, whose line begins with `place(key)`."""

    def __init__(self, listener: Listener, place: Callable[[str], str]) -> None:
        self.listener = listener
        self.place = place
        self.warnings: list[str] = []

    def fail(self, key: str, path: Path | None, problem: str, cause: Exception | None = None) -> NoReturn:
        """Raise it: the problem of a key, and of its file if it has one."""
        file = f" {one_line(str(path))}:" if path is not None else ""
        raise ConfigError(f"{self.place(key)}:{file} {one_line(problem)}") from cause

    def warn(self, key: str, path: Path, text: str) -> None:
        """Gather something that would work but is hardly meant."""
        self.warnings.append(one_line(f'listener "{self.listener.name}": {key}: {path}: {text}'))

    def read(self, key: str, path: Path) -> bytes:
        """The file as it is."""
        try:
            return path.read_bytes()
        except OSError as exc:
            self.fail(key, path, f"cannot be read: {exc.strerror}", exc)

    def certificates(self, key: str, path: Path) -> tuple[x509.Certificate, ...]:
        """Every certificate of a PEM file, at least one, each of which can be decoded to the end."""
        data = self.read(key, path)
        if b"-----BEGIN CERTIFICATE-----" not in data:
            found = "PEM without one" if b"-----BEGIN " in data else "no PEM"
            self.fail(key, path, f"expected a certificate in PEM, got {_der_or(data, found)}")
        try:
            found_certs = tuple(x509.load_pem_x509_certificates(data))
            for cert in found_certs:
                cert.public_key()
                _ = cert.extensions
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as exc:
            self.fail(key, path, f"expected a certificate in PEM, got one that cannot be decoded: {exc}", exc)
        now = dt.datetime.now(dt.UTC)
        for cert in found_certs:
            match ending(cert, now):
                case "certificate has expired":
                    until = _moment(cert.not_valid_after_utc)
                    self.warn(key, path, f"{named(cert)} expired at {until}; nobody accepts it any more")
                case "certificate about to expire":
                    self.warn(key, path, f"{named(cert)} expires at {_moment(cert.not_valid_after_utc)}")
            if cert.not_valid_before_utc > now:
                self.warn(
                    key,
                    path,
                    f"{named(cert)} is not valid before {_moment(cert.not_valid_before_utc)}, "
                    f"and it is {_moment(now)} here: whose clock is wrong?",
                )
        return found_certs

    def private_key(self, key: str, path: Path) -> PrivateKey:
        """A private key that signs, without a passphrase."""
        data = self.read(key, path)
        if b"PRIVATE KEY-----" not in data:
            found = "PEM without one" if b"-----BEGIN " in data else "no PEM"
            self.fail(key, path, f"expected a private key in PEM, got {_der_or(data, found)}")
        try:
            private_key = load_pem_private_key(data, None)
        except TypeError as exc:
            self.fail(
                key,
                path,
                "expected a private key without a passphrase: encrypted ones are not supported",
                exc,
            )
        except (ValueError, UnsupportedAlgorithm) as exc:
            self.fail(key, path, "expected a private key in PEM, got one that cannot be decoded", exc)
        if not isinstance(private_key, PrivateKey):
            kind = type(private_key).__name__.removesuffix("PrivateKey").lstrip("_")
            self.fail(key, path, f"expected a key that signs (EC, RSA, Ed25519 or Ed448), got {kind}")
        if path.stat().st_mode & stat.S_IROTH:
            self.warn(key, path, f"everyone on this machine may read the private key: chmod o-r {path}")
        return private_key


def named(cert: x509.Certificate) -> str:
    """The common name, or else the whole name, quoted."""
    names = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return one_line(f'"{names[0].value!s}"' if names else f'"{cert.subject.rfc4514_string()}"')


def _der_or(data: bytes, otherwise: str) -> str:
    return "DER" if data.startswith(b"\x30") else otherwise


def _moment(when: dt.datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
