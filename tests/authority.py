"""The tests' one certificate authority: certificates, CRLs and OCSP responses, good or as wrong as wanted.

    root = Authority.root("Test Root")
    sub = root.intermediate("Test Sub")
    client = sub.issue("device-1", serial=0x1234)
    crl = sub.crl([Revoked(client.serial, reason=1)], number=7)
    answer = sub.ocsp(client.cert, status=OCSPCertStatus.GOOD)

CRLs are written byte by byte and not by cryptography's builder, which refuses
much of what CAs really issue: serials that are negative or longer than 20
octets, lists without nextUpdate or number, and lists of a million entries.
Keys are made when the test runs. Times are seconds since 1970; `NOW` is when the
tests began.
"""

from __future__ import annotations

import base64
import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    NameOID,
    ObjectIdentifier,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

NOW = int(time.time())
HOUR = 3600
DAY = 24 * HOUR

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
KeyKind = Literal["ec", "rsa", "ed25519", "ed448"]
Hash = hashes.SHA1 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER

# AlgorithmIdentifiers (RFC 4055, 5758, 8410), whole TLVs.
ECDSA_SHA1 = bytes.fromhex("300906072a8648ce3d0401")
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
RSA_MD5 = bytes.fromhex("300d06092a864886f70d0101040500")
RSA_SHA1 = bytes.fromhex("300d06092a864886f70d0101050500")
RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
RSA_PSS_SHA256 = bytes.fromhex(
    "304106092a864886f70d01010a3034a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
)
ED25519 = bytes.fromhex("300506032b6570")
ED448 = bytes.fromhex("300506032b6571")


def tlv(tag: int, *contents: bytes) -> bytes:
    """One DER element of `tag` around the joined contents."""
    content = b"".join(contents)
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | octets]) + length.to_bytes(octets, "big") + content


def der_integer(value: int) -> bytes:
    """A DER INTEGER of any size and sign."""
    return tlv(
        0x02,
        value.to_bytes(value.bit_length() // 8 + 1 if value >= 0 else _octets(value), "big", signed=True),
    )


def _octets(negative: int) -> int:
    return (negative + 1).bit_length() // 8 + 1


def der_time(seconds: int) -> bytes:
    """UTCTime before 2050, GeneralizedTime from then on (RFC 5280, section 5.1.2.4)."""
    moment = _when(seconds)
    if moment.year < 2050:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


def der_extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    """One Extension with the DER in `value` as its content."""
    identifier = tlv(0x06, _oid_content(oid))
    return tlv(0x30, identifier, b"\x01\x01\xff" if critical else b"", tlv(0x04, value))


def extension(value: x509.ExtensionType, *, critical: bool = False) -> bytes:
    """One Extension that cryptography knows how to write."""
    return der_extension(value.oid.dotted_string, value.public_bytes(), critical=critical)


def to_pem(der: bytes, label: str = "X509 CRL") -> bytes:
    """PEM armour (RFC 7468) around any DER."""
    text = base64.b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join(
        [b"-----BEGIN %s-----" % label.encode(), *lines, b"-----END %s-----" % label.encode(), b""]
    )


def make_key(kind: KeyKind = "ec") -> Key:
    """A new private key: P-256, RSA of 2048 bits, Ed25519 or Ed448."""
    match kind:
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()


def common_name(name: str) -> x509.Name:
    """The Name CN=`name`."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@dataclass(frozen=True)
class Revoked:
    """An entry of revokedCertificates; `extensions` are whole Extension TLVs."""

    serial: int
    at: int = NOW - HOUR
    reason: int | None = None
    extensions: bytes = b""

    def der(self) -> bytes:
        """The entry's DER."""
        extensions = self.extensions
        if self.reason is not None:
            extensions += der_extension("2.5.29.21", tlv(0x0A, bytes([self.reason])))
        return tlv(
            0x30, der_integer(self.serial), der_time(self.at), tlv(0x30, extensions) if extensions else b""
        )


@dataclass(frozen=True)
class Credential:
    """A certificate with its private key and the certificates above it, nearest first, without the root."""

    cert: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def serial(self) -> int:
        """The certificate's serial number."""
        return self.cert.serial_number

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.cert.public_bytes(DER)

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.cert.public_bytes(PEM)

    @property
    def chain_pem(self) -> bytes:
        """The certificate and those above it, as a server or client file has them."""
        return b"".join(cert.public_bytes(PEM) for cert in (self.cert, *self.chain))

    @property
    def key_pem(self) -> bytes:
        """The private key in PEM (PKCS #8, unencrypted)."""
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def write(self, directory: Path, stem: str) -> tuple[Path, Path]:
        """Write `stem`.pem (with its chain) and `stem`.key into `directory`; returns both paths."""
        cert, key = directory / f"{stem}.pem", directory / f"{stem}.key"
        cert.write_bytes(self.chain_pem)
        key.write_bytes(self.key_pem)
        return cert, key


class Authority(Credential):
    """A CA: its certificate, its key, and everything that it signs."""

    @classmethod
    def root(
        cls,
        name: str | x509.Name = "Test Root",
        *,
        kind: KeyKind = "ec",
        key: Key | None = None,
        not_before: int = NOW - DAY,
        not_after: int = NOW + 365 * DAY,
        crl_sign: bool = True,
        key_usage: bool = True,
        ca: bool = True,
    ) -> Authority:
        """A self-signed CA. `crl_sign`, `key_usage` and `ca` make it one that must not sign CRLs."""
        key = key or make_key(kind)
        subject = common_name(name) if isinstance(name, str) else name
        builder = _builder(subject, subject, key, None, not_before, not_after)
        builder = _ca_extensions(builder, ca=ca, key_usage=key_usage, crl_sign=crl_sign)
        return cls(builder.sign(key, _default_hash(key)), key)

    def intermediate(
        self,
        name: str | x509.Name = "Test Sub",
        *,
        kind: KeyKind = "ec",
        key: Key | None = None,
        serial: int | None = None,
        not_before: int = NOW - DAY,
        not_after: int = NOW + 365 * DAY,
        crl_sign: bool = True,
        crl_urls: Sequence[str] = (),
        ocsp_urls: Sequence[str] = (),
    ) -> Authority:
        """A CA below this one; with this CA's name and key it is a cross-certificate."""
        key = key or make_key(kind)
        subject = common_name(name) if isinstance(name, str) else name
        builder = _builder(subject, self.cert.subject, key, serial, not_before, not_after)
        builder = _points(
            _ca_extensions(builder, ca=True, key_usage=True, crl_sign=crl_sign), crl_urls, ocsp_urls
        )
        builder = builder.add_extension(self._authority_key_id(), critical=False)
        return Authority(builder.sign(self.key, _default_hash(self.key)), key, self._chain_below())

    def issue(
        self,
        name: str | x509.Name = "device",
        *,
        kind: KeyKind = "ec",
        key: Key | None = None,
        serial: int | None = None,
        hosts: Sequence[str] = ("localhost",),
        usages: Sequence[ObjectIdentifier] = (
            ExtendedKeyUsageOID.CLIENT_AUTH,
            ExtendedKeyUsageOID.SERVER_AUTH,
        ),
        not_before: int = NOW - DAY,
        not_after: int = NOW + 90 * DAY,
        crl_urls: Sequence[str] = (),
        ocsp_urls: Sequence[str] = (),
        must_staple: bool = False,
        extensions: Sequence[x509.ExtensionType] = (),
        critical: Sequence[x509.ExtensionType] = (),
    ) -> Credential:
        """A certificate for client and server; a serial that RFC 5280 forbids is written all the same.

        `must_staple` demands a stapled response (RFC 7633); `extensions` and
        `critical` stand behind the usual ones.
        """
        key = key or make_key(kind)
        subject = common_name(name) if isinstance(name, str) else name
        allowed = serial is None or (serial > 0 and serial.bit_length() < 160)
        builder = _builder(subject, self.cert.subject, key, serial if allowed else 1, not_before, not_after)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = _points(builder, crl_urls, ocsp_urls).add_extension(
            self._authority_key_id(), critical=False
        )
        if must_staple:
            extensions = [x509.TLSFeature([x509.TLSFeatureType.status_request]), *extensions]
        for value in (*extensions, *critical):
            builder = builder.add_extension(value, critical=value in critical)
        cert = builder.sign(self.key, _default_hash(self.key))
        if serial is not None and not allowed:
            cert = self._with_serial(cert, serial)
        return Credential(cert, key, self._chain_below())

    def crl(
        self,
        entries: Iterable[Revoked] = (),
        *,
        number: int | None = 1,
        this_update: int = NOW - 60,
        next_update: int | None = NOW + DAY,
        extensions: bytes = b"",
        authority_key_id: bool = True,
        version: bytes = b"\x02\x01\x01",
        issuer: bytes | None = None,
        inner_algorithm: bytes | None = None,
        algorithm: bytes | None = None,
        raw_entries: bytes = b"",
    ) -> bytes:
        """A CRL in DER, signed by this CA.

        `raw_entries` stand before `entries`, `extensions` (whole TLVs) behind the usual ones.
        `algorithm` signs and is named in both places, `inner_algorithm` only inside; `issuer`
        replaces this CA's name (DER).
        """
        algorithm = algorithm or _default_algorithm(self.key)
        if authority_key_id:
            extensions = extension(self._authority_key_id()) + extensions
        if number is not None:
            extensions = der_extension("2.5.29.20", der_integer(number)) + extensions
        revoked = raw_entries + b"".join(entry.der() for entry in entries)
        listed = tlv(
            0x30,
            version,
            inner_algorithm or algorithm,
            issuer or self.cert.subject.public_bytes(),
            der_time(this_update),
            der_time(next_update) if next_update is not None else b"",
            tlv(0x30, revoked) if revoked else b"",
            tlv(0xA0, tlv(0x30, extensions)) if extensions else b"",
        )
        return tlv(0x30, listed, algorithm, tlv(0x03, b"\0", sign(self.key, algorithm, listed)))

    def ocsp(
        self,
        cert: x509.Certificate,
        *,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        this_update: int = NOW - 60,
        next_update: int | None = NOW + DAY,
        revoked_at: int = NOW - HOUR,
        reason: x509.ReasonFlags | None = None,
        issuer: x509.Certificate | None = None,
        signer: Credential | None = None,
        include: Sequence[x509.Certificate] | None = None,
        by_name: bool = False,
        cert_id_hash: hashes.HashAlgorithm | None = None,
        algorithm: Hash | None = None,
    ) -> bytes:
        """An OCSP response in DER (RFC 6960), signed by this CA or by `signer`.

        The certificate of `signer` is sent along, unless `include` says what is. `issuer` replaces
        this CA in the CertID. SHA-1 is the default there as with RFC 5019 responders: it names, it
        does not sign.
        """
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert,
            issuer or self.cert,
            cert_id_hash or hashes.SHA1(),
            status,
            _when(this_update),
            None if next_update is None else _when(next_update),
            _when(revoked_at) if revoked else None,
            reason if revoked else None,
        )
        by = signer or self
        encoding = ocsp.OCSPResponderEncoding.NAME if by_name else ocsp.OCSPResponderEncoding.HASH
        builder = builder.responder_id(encoding, by.cert)
        if include is None and signer is not None:
            include = [signer.cert]
        if include:
            builder = builder.certificates(include)
        return builder.sign(by.key, algorithm or _default_hash(by.key)).public_bytes(DER)

    def _authority_key_id(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())

    def _chain_below(self) -> tuple[x509.Certificate, ...]:
        return () if self.cert.subject == self.cert.issuer else (self.cert, *self.chain)

    def _with_serial(self, cert: x509.Certificate, serial: int) -> x509.Certificate:
        """The certificate with a serial that cryptography's builder refuses, in place of a serial of 1."""
        content = cert.tbs_certificate_bytes.partition(b"\xa0\x03\x02\x01\x02\x02\x01\x01")[2]
        algorithm = _default_algorithm(self.key)
        listed = tlv(0x30, b"\xa0\x03\x02\x01\x02", der_integer(serial), content)
        return x509.load_der_x509_certificate(
            tlv(0x30, listed, algorithm, tlv(0x03, b"\0", sign(self.key, algorithm, listed)))
        )


def sign(key: Key, algorithm: bytes, data: bytes) -> bytes:
    """Sign `data` as `algorithm` (AlgorithmIdentifier) says, or by the key's default if that does not fit."""
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(data, ec.ECDSA(hashes.SHA1() if algorithm == ECDSA_SHA1 else hashes.SHA256()))
        case rsa.RSAPrivateKey():
            if algorithm == RSA_PSS_SHA256:
                return key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
            digest = hashes.SHA1() if algorithm == RSA_SHA1 else hashes.SHA256()
            return key.sign(data, padding.PKCS1v15(), digest)
        case _:
            return key.sign(data)


def _default_algorithm(key: Key) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey():
            return ECDSA_SHA256
        case rsa.RSAPrivateKey():
            return RSA_SHA256
        case ed25519.Ed25519PrivateKey():
            return ED25519
        case _:
            return ED448


def _default_hash(key: Key) -> hashes.SHA256 | None:
    return hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None


def _when(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, serial: int | None, not_before: int, not_after: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(_when(not_before))
        .not_valid_after(_when(not_after))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _ca_extensions(
    builder: x509.CertificateBuilder, *, ca: bool, key_usage: bool, crl_sign: bool
) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if not key_usage:
        return builder
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
    return builder.add_extension(usage, critical=True)


def _points(
    builder: x509.CertificateBuilder, crl_urls: Sequence[str], ocsp_urls: Sequence[str]
) -> x509.CertificateBuilder:
    if crl_urls:
        names = [x509.UniformResourceIdentifier(url) for url in crl_urls]
        points = [x509.DistributionPoint([name], None, None, None) for name in names]
        builder = builder.add_extension(x509.CRLDistributionPoints(points), critical=False)
    if ocsp_urls:
        builder = builder.add_extension(
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(
                        AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url)
                    )
                    for url in ocsp_urls
                ]
            ),
            critical=False,
        )
    return builder


def _oid_content(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return b"".join(_base128(arc) for arc in (40 * first + second, *rest))


def _base128(value: int) -> bytes:
    octets = [value & 0x7F]
    while value := value >> 7:
        octets.append(0x80 | value & 0x7F)
    return bytes(reversed(octets))
