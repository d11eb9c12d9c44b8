"""Keys, certificates and CRLs for a measurement, made when it runs.

One P-256 CA signs the server's certificate, the clients', and the CRLs.
Certificates and CRLs are written byte by byte: five thousand clients, each with
a key of its own, in about a second, a million entries too.

Serials tell what a thing is, so that no two ever collide: what the CA issued
has 15 octets, of which the first is its role and the last four its number; the
random serials in a list have 20.
"""

from __future__ import annotations

import base64
import datetime as dt
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# The longest that RFC 5280 allows (section 4.1.2.2): a million of them make 39 MB.
SERIAL_OCTETS = 20

Role = Literal["authority", "server", "client", "revoked"]

_ROLE_OCTET: dict[Role, int] = {"authority": 0x10, "server": 0x20, "client": 0x30, "revoked": 0x40}
_RANDOM_OCTETS = 10
_NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
_YESTERDAY = _NOW - dt.timedelta(days=1)
_NEXT_MONTH = _NOW + dt.timedelta(days=30)
_SIGNING = ec.ECDSA(hashes.SHA256())
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
# Positive and minimal as DER wants it: the first octet from 0x40 to 0x7f.
_FIRST_OCTET = bytes(octet & 0x3F | 0x40 for octet in range(256))
# PEM lines have 64 characters, that is 48 octets (RFC 7468, section 2); so many lines are encoded at once.
_PEM_OCTETS, _PEM_LINE, _PEM_LINES = 48, 64, 1 << 16

_PAIR_END = b"-----END CERTIFICATE-----\n"


class Leaf(NamedTuple):
    """An issued certificate: its serial, and the certificate and its key in PEM."""

    serial: int
    cert: bytes
    key: bytes


@dataclass(frozen=True)
class Material:
    """A CA and what it issued; every path is a PEM file in `directory`.

    `client_cert` and `client_key` are one client of its own. `clients` and
    `revoked` are bundles of others (key, certificate, key, …), made for as many
    as were asked for; `revoked_serials` are those that a list is to name.
    """

    directory: Path
    authority: x509.Certificate
    authority_key: ec.EllipticCurvePrivateKey
    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path
    clients: Path
    client_serials: tuple[int, ...]
    revoked: Path
    revoked_serials: tuple[int, ...]

    @classmethod
    def make(cls, directory: Path, clients: int = 1, revoked: int = 1) -> Material:
        """Make everything but the CRLs in `directory`, which exists."""
        key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(key)
        issuer = _Issuer(authority, key)
        paths = {
            name: directory / name
            for name in (
                "ca.pem",
                "server.pem",
                "server.key",
                "client.pem",
                "client.key",
                "clients.pem",
                "revoked.pem",
            )
        }
        paths["ca.pem"].write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        server, client = issuer.issue("server", 0), issuer.issue("client", 0)
        paths["server.pem"].write_bytes(server.cert)
        paths["server.key"].write_bytes(server.key)
        # haproxy looks for the key of FILE in FILE.key.
        (directory / "server.pem.key").write_bytes(server.key)
        paths["client.pem"].write_bytes(client.cert)
        paths["client.key"].write_bytes(client.key)
        return cls(
            directory,
            authority,
            key,
            ca=paths["ca.pem"],
            server_cert=paths["server.pem"],
            server_key=paths["server.key"],
            client_cert=paths["client.pem"],
            client_key=paths["client.key"],
            clients=paths["clients.pem"],
            client_serials=_write_bundle(paths["clients.pem"], issuer, "client", clients),
            revoked=paths["revoked.pem"],
            revoked_serials=_write_bundle(paths["revoked.pem"], issuer, "revoked", revoked),
        )

    def many_clients(self, count: int) -> Path:
        """A bundle of the first `count` of `clients`.

        Raises:
            BenchError: there are not so many.
        """
        if count > len(self.client_serials):
            raise BenchError(f"{count} clients are wanted, Material.make made {len(self.client_serials)}")
        if count == len(self.client_serials):
            return self.clients
        path = self.directory / f"clients-{count}.pem"
        pairs = self.clients.read_bytes().split(_PAIR_END)[:count]
        path.write_bytes(b"".join(pair + _PAIR_END for pair in pairs))
        return path

    def crl(self, entries: int, number: int = 1, listing: Sequence[int] = ()) -> bytes:
        """DER of a CRL of this CA, valid from an hour ago for a week.

        It lists `entries` random serials, and besides them those of `listing`.
        """
        listed = _random_entries(entries) + b"".join(map(_entry, listing))
        tbs = _tlv(
            0x30,
            b"\x02\x01\x01",
            _ECDSA_SHA256,
            self.authority.subject.public_bytes(),
            _time(_NOW - dt.timedelta(hours=1)),
            _time(_NOW + dt.timedelta(days=7)),
            _tlv(0x30, listed) if listed else b"",
            _tlv(0xA0, _tlv(0x30, _key_identifier(self.authority_key), _extension(x509.CRLNumber(number)))),
        )
        return _signed(tbs, self.authority_key)

    def write_crl(self, entries: int, number: int = 1, listing: Sequence[int] = ()) -> Path:
        """Write `crl` in PEM, which every peer reads, in one step; returns its path."""
        path = self.directory / f"crl-{entries}-{number}-{len(listing)}.pem"
        unfinished = path.with_suffix(".new")
        with unfinished.open("wb") as file:
            file.writelines(_pem("X509 CRL", self.crl(entries, number, listing)))
        return unfinished.rename(path)


class _Issuer:
    """What all certificates of the CA have in common, encoded once."""

    def __init__(self, authority: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._name = authority.subject.public_bytes()
        self._validity = _tlv(0x30, _time(_YESTERDAY), _time(_NEXT_MONTH))
        usages = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
        self._extensions = {
            name: b"".join(
                [
                    _extension(x509.SubjectAlternativeName([x509.DNSName("localhost")])),
                    _extension(x509.ExtendedKeyUsage([usage])),
                    _key_identifier(key),
                ]
            )
            for name, usage in usages.items()
        }

    def issue(self, role: Role, number: int) -> Leaf:
        """A certificate for a new key, named after its role and number."""
        key = ec.generate_private_key(ec.SECP256R1())
        serial = _serial(role, number)
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        tbs = _tlv(
            0x30,
            b"\xa0\x03\x02\x01\x02",
            _integer(serial),
            _ECDSA_SHA256,
            self._name,
            self._validity,
            _common_name(f"{role}-{number}"),
            public,
            _tlv(0xA3, _tlv(0x30, self._extensions["server" if role == "server" else "client"])),
        )
        cert = b"".join(_pem("CERTIFICATE", _signed(tbs, self._key)))
        return Leaf(serial, cert, _private_pem(key))


def _write_bundle(path: Path, issuer: _Issuer, role: Role, count: int) -> tuple[int, ...]:
    """Issue `count` certificates of a role into one file; their serials. Number 0 is not in it."""
    leaves = [issuer.issue(role, number) for number in range(1, count + 1)]
    path.write_bytes(b"".join(leaf.key + leaf.cert for leaf in leaves))
    return tuple(leaf.serial for leaf in leaves)


def _serial(role: Role, number: int) -> int:
    octets = bytes([_ROLE_OCTET[role]]) + os.urandom(_RANDOM_OCTETS) + number.to_bytes(4, "big")
    return int.from_bytes(octets, "big")


def _entry(serial: int) -> bytes:
    return _tlv(0x30, _integer(serial), _time(_YESTERDAY))


def _random_entries(count: int) -> bytes:
    """So many entries of one size, filled column by column: a loop over ten million would take minutes."""
    when = _time(_YESTERDAY)
    head = bytes([0x30, 2 + SERIAL_OCTETS + len(when), 0x02, SERIAL_OCTETS])
    entries = bytearray((head + bytes(SERIAL_OCTETS) + when) * count)
    size = len(head) + SERIAL_OCTETS + len(when)
    for column in range(SERIAL_OCTETS):
        octets = os.urandom(count)
        entries[len(head) + column :: size] = octets if column else octets.translate(_FIRST_OCTET)
    return bytes(entries)


def _signed(tbs: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    return _tlv(0x30, tbs, _ECDSA_SHA256, _tlv(0x03, b"\x00", key.sign(tbs, _SIGNING)))


def _extension(value: x509.ExtensionType) -> bytes:
    """One Extension, not critical; all that are used here have two-octet identifiers below 2.5.29."""
    last = int(value.oid.dotted_string.removeprefix("2.5.29."))
    return _tlv(0x30, bytes([0x06, 0x03, 0x55, 0x1D, last]), _tlv(0x04, value.public_bytes()))


def _key_identifier(key: ec.EllipticCurvePrivateKey) -> bytes:
    return _extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()))


def _integer(value: int) -> bytes:
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _tlv(tag: int, *contents: bytes) -> bytes:
    length = sum(map(len, contents))
    if length < 0x80:
        return b"".join((bytes([tag, length]), *contents))
    octets = (length.bit_length() + 7) // 8
    return b"".join((bytes([tag, 0x80 | octets]), length.to_bytes(octets, "big"), *contents))


def _time(when: dt.datetime) -> bytes:
    return _tlv(0x17, when.strftime("%y%m%d%H%M%SZ").encode())


def _pem(label: str, der: bytes) -> Iterator[bytes]:
    """PEM armour in pieces: the text of ten million entries would take a gigabyte."""
    yield f"-----BEGIN {label}-----\n".encode()
    for start in range(0, len(der), _PEM_OCTETS * _PEM_LINES):
        text = base64.b64encode(der[start : start + _PEM_OCTETS * _PEM_LINES])
        yield b"".join(text[at : at + _PEM_LINE] + b"\n" for at in range(0, len(text), _PEM_LINE))
    yield f"-----END {label}-----\n".encode()


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _common_name(text: str) -> bytes:
    """What `_name(text)` encodes to, without the objects between."""
    return _tlv(0x30, _tlv(0x31, _tlv(0x30, b"\x06\x03\x55\x04\x03", _tlv(0x0C, text.encode()))))


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("Bench CA")
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
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(_serial("authority", 0))
        .not_valid_before(_YESTERDAY)
        .not_valid_after(_NEXT_MONTH)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
