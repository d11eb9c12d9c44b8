"""NIST's PKITS material, as cryptography-vectors carries it: certificates, CRLs and keys, by file name.

    certificate("GoodCACert")           # certs/GoodCACert.crt
    crl("GoodCACRL")                    # crls/GoodCACRL.crl, DER
    key("InvalidRevokedEETest3EE")      # of pkcs12/InvalidRevokedEETest3EE.p12

Where a case is not about its dates, everything is valid from 2010 to the end of 2030.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.utils import CryptographyDeprecationWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

# NIST's, the same for every .p12.
_PASSWORD = b"password"


@cache
def directory() -> Path:
    """Where the installed package keeps the material."""
    return Path(str(resources.files("cryptography_vectors"))) / "x509" / "PKITS_data"


@cache
def certificate(name: str) -> x509.Certificate:
    """The certificate in certs/."""
    with _negative_serials_allowed():
        return x509.load_der_x509_certificate(_read("certs", f"{name}.crt"))


@cache
def crl(name: str) -> bytes:
    """The CRL in crls/, as DER."""
    return _read("crls", f"{name}.crl")


@cache
def key(name: str) -> RSAPrivateKey:
    """The private key in pkcs12/ of the certificate with that name."""
    with _negative_serials_allowed():
        loaded = pkcs12.load_key_and_certificates(_read("pkcs12", f"{name}.p12"), _PASSWORD)[0]
    assert isinstance(loaded, RSAPrivateKey)
    return loaded


def _read(folder: str, name: str) -> bytes:
    return (directory() / folder / name).read_bytes()


@contextmanager
def _negative_serials_allowed() -> Iterator[None]:
    # 4.4.15 is about a serial of -1, of which cryptography warns, and warnings are errors.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Parsed a serial number", CryptographyDeprecationWarning)
        yield
