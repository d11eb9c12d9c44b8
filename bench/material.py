"""Keys, certificates and CRLs for a measurement, made when it runs.

One P-256 CA signs the server's certificate, the client's, and the CRLs. Big
CRLs are written byte by byte: a million entries in about a second. No serial in
them is the client's, which has another length.
"""

from __future__ import annotations

import base64
import datetime as dt
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

# The longest that RFC 5280 allows (section 4.1.2.2): a million of them make 39 MB.
SERIAL_OCTETS = 20

_NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
# Positive and minimal as DER wants it: the first octet from 0x40 to 0x7f.
_FIRST_OCTET = bytes(octet & 0x3F | 0x40 for octet in range(256))


@dataclass(frozen=True)
class Material:
    """A CA and what it issued; every path is a PEM file in `directory`."""

    directory: Path
    authority: x509.Certificate
    authority_key: ec.EllipticCurvePrivateKey
    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path

    @classmethod
    def make(cls, directory: Path) -> Material:
        """Make everything but the CRLs in `directory`, which exists."""
        key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(key)
        names = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")
        paths = {name: directory / name for name in names}
        paths["ca.pem"].write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        usages = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
        for name, usage in usages.items():
            leaf_key = ec.generate_private_key(ec.SECP256R1())
            leaf = _leaf(authority, key, leaf_key, name, usage)
            paths[f"{name}.pem"].write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
            paths[f"{name}.key"].write_bytes(_private_pem(leaf_key))
        # haproxy looks for the key of FILE in FILE.key.
        (directory / "server.pem.key").write_bytes(paths["server.key"].read_bytes())
        return cls(directory, authority, key, *paths.values())

    def crl(self, entries: int) -> bytes:
        """DER of a CRL of this CA with so many random serials, valid from an hour ago for a week."""
        listed = _tlv(0x30, _entries(entries)) if entries else b""
        tbs = _tlv(
            0x30,
            b"\x02\x01\x01",
            _ECDSA_SHA256,
            self.authority.subject.public_bytes(),
            _time(_NOW - dt.timedelta(hours=1)),
            _time(_NOW + dt.timedelta(days=7)),
            listed,
            _tlv(0xA0, _tlv(0x30, self._authority_key_identifier(), _crl_number(1))),
        )
        signature = self.authority_key.sign(tbs, ec.ECDSA(hashes.SHA256()))
        return _tlv(0x30, tbs, _ECDSA_SHA256, _tlv(0x03, b"\x00", signature))

    def write_crl(self, entries: int) -> Path:
        """Write `crl` in PEM, which every peer reads; returns its path."""
        path = self.directory / f"crl-{entries}.pem"
        text = base64.b64encode(self.crl(entries))
        lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
        path.write_bytes(b"-----BEGIN X509 CRL-----\n" + lines + b"\n-----END X509 CRL-----\n")
        return path

    def _authority_key_identifier(self) -> bytes:
        public_key = self.authority_key.public_key()
        value = x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key).public_bytes()
        return _tlv(0x30, b"\x06\x03\x55\x1d\x23", _tlv(0x04, value))


def _crl_number(number: int) -> bytes:
    return _tlv(0x30, b"\x06\x03\x55\x1d\x14", _tlv(0x04, x509.CRLNumber(number).public_bytes()))


def _entries(count: int) -> bytes:
    serials = bytearray(os.urandom(SERIAL_OCTETS * count))
    serials[::SERIAL_OCTETS] = serials[::SERIAL_OCTETS].translate(_FIRST_OCTET)
    when = _time(_NOW - dt.timedelta(days=1))
    head = bytes([0x30, 2 + SERIAL_OCTETS + len(when), 0x02, SERIAL_OCTETS])
    pieces = [bytes(serials[at : at + SERIAL_OCTETS]) for at in range(0, len(serials), SERIAL_OCTETS)]
    return head + (when + head).join(pieces) + when


def _tlv(tag: int, *contents: bytes) -> bytes:
    length = sum(map(len, contents))
    if length < 0x80:
        return b"".join((bytes([tag, length]), *contents))
    octets = (length.bit_length() + 7) // 8
    return b"".join((bytes([tag, 0x80 | octets]), length.to_bytes(octets, "big"), *contents))


def _time(when: dt.datetime) -> bytes:
    return _tlv(0x17, when.strftime("%y%m%d%H%M%SZ").encode())


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        # Another length than any serial in a list of ours.
        .serial_number(int.from_bytes(os.urandom(15)) | 1)
        .not_valid_before(_NOW - dt.timedelta(days=1))
        .not_valid_after(_NOW + dt.timedelta(days=30))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder("Bench CA", key, _name("Bench CA"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    name: str,
    usage: x509.ObjectIdentifier,
) -> x509.Certificate:
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        _builder(name, key, authority.subject)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
