"""Is this signature good? One answer for CRLs, OCSP responses and certificates; bytes in, text out.

Known are RSA (PKCS #1 v1.5 and PSS), ECDSA, Ed25519 and Ed448 with SHA-2 or
SHA-3. SHA-1 and MD5 are refused: whoever can make two texts of one hash can have
the harmless one signed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import SignatureAlgorithmOID

from gateway import der

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

_WEAK = (hashes.MD5, hashes.SHA1)
_EDDSA = {
    SignatureAlgorithmOID.ED25519: ed25519.Ed25519PublicKey,
    SignatureAlgorithmOID.ED448: ed448.Ed448PublicKey,
}


def find_fault(
    key: CertificatePublicKeyTypes, algorithm: bytes, signature: bytes, signed: bytes | memoryview
) -> str | None:
    """What is wrong with `signature` of `key` over `signed`, to end a sentence with; None when it is good.

    `algorithm` is an AlgorithmIdentifier in DER (RFC 5280, section 4.1.1.2).
    """
    try:
        parsed = _parse(algorithm)
        digest = parsed.signature_hash_algorithm
        parameters = parsed.signature_algorithm_parameters
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        return f"signature algorithm is not supported: {exc}"
    oid = parsed.signature_algorithm_oid
    if isinstance(digest, _WEAK):
        return f"signature uses {digest.name}, which can be forged"
    try:
        match key, parameters:
            case rsa.RSAPublicKey(), padding.PKCS1v15() | padding.PSS() if digest is not None:
                # Any buffer will do, whatever the stub says: a large list is not copied.
                key.verify(signature, signed, parameters, digest)  # type: ignore[arg-type] # see above
            case ec.EllipticCurvePublicKey(), ec.ECDSA():
                key.verify(signature, signed, parameters)
            case ((ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey()), None) if isinstance(
                key, _EDDSA.get(oid, ())
            ):
                key.verify(signature, signed)
            case _:
                return f"signature algorithm {oid.dotted_string} does not fit the key"
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return "signature does not verify"
    return None


def certificate_fault(certificate: x509.Certificate, issuer: x509.Certificate) -> str | None:
    """What is wrong with the signature of `issuer`'s key on `certificate`; None when it is good.

    Nothing else of the two is looked at.
    """
    try:
        data = certificate.public_bytes(Encoding.DER)
        listed, algorithm = der.children(data, der.read(data), 2)
        key = issuer.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        return f"certificate cannot be read: {exc}"
    return find_fault(
        key, data[algorithm.at : algorithm.end], certificate.signature, data[listed.at : listed.end]
    )


def _parse(algorithm: bytes) -> x509.CertificateRevocationList:
    """An AlgorithmIdentifier in the smallest thing around it that cryptography reads: an empty CRL."""
    no_name, epoch = b"\x30\x00", b"\x17\x0d700101000000Z"
    listed = der.encode(der.SEQUENCE, algorithm, no_name, epoch)
    return x509.load_der_x509_crl(der.encode(der.SEQUENCE, listed, algorithm, b"\x03\x02\x00\x00"))
