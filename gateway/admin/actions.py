"""What a request asks for, as a `Command` of the command socket, which has the one implementation. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from cryptography import x509

from gateway import commands, names
from gateway.config.values import one_line
from gateway.errors import UNREADABLE, GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.commands import Command


class RefreshBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /refresh`: a source by its URL; without it all of them."""

    url: str | None = None


class RevokeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /revoke`: a certificate in PEM, or its issuer as `/status` has it and its hexadecimal serial."""

    certificate: str = ""
    issuer: str = ""
    serial: str = ""
    reason: str = "unspecified"
    note: str = ""


class UnrevokeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /unrevoke`: as `/revoke`."""

    certificate: str = ""
    issuer: str = ""
    serial: str = ""


class Meant(msgspec.Struct, frozen=True):
    """Which certificate: its issuer's Name (DER), None where it is not said, and its serial."""

    issuer: bytes | None
    serial: int


def command(path: str, body: bytes, issuers: Iterable[bytes]) -> Command:
    """What `POST path` asks for; `issuers` are the Names (DER) of the known CAs.

    Raises:
        GatewayError: it makes no sense; the line says what was expected.
    """
    try:
        match path:
            case "/drain":
                return commands.Drain()
            case "/reload":
                return commands.Reload()
            case "/refresh":
                return commands.Refresh(msgspec.json.decode(body or b"{}", type=RefreshBody).url)
            case "/revoke":
                wanted = msgspec.json.decode(body, type=RevokeBody)
                issuer, serial = _certificate(wanted, issuers)
                return commands.Revoke(issuer, f"{serial:x}", wanted.reason, wanted.note)
            case _:
                issuer, serial = _certificate(msgspec.json.decode(body, type=UnrevokeBody), issuers)
                return commands.Unrevoke(issuer, f"{serial:x}")
    except UNREADABLE as exc:
        raise GatewayError(f"body: {one_line(str(exc))}; nothing is done") from None


def meant(fields: Mapping[str, str], issuers: Iterable[bytes]) -> Meant:
    """The certificate that is asked about with `certificate`, or with `serial` and perhaps `issuer`.

    Raises:
        GatewayError: there is none.
    """
    certificate, issuer = fields.get("certificate", ""), fields.get("issuer", "")
    if certificate:
        return Meant(*_of_pem(certificate))
    name = _known(issuer, issuers) if issuer else None
    return Meant(name, _serial(fields.get("serial", "")))


def _certificate(body: RevokeBody | UnrevokeBody, issuers: Iterable[bytes]) -> tuple[bytes, int]:
    if body.certificate and not body.issuer and not body.serial:
        return _of_pem(body.certificate)
    if body.issuer and body.serial and not body.certificate:
        return _known(body.issuer, issuers), _serial(body.serial)
    raise GatewayError("expected either certificate, or issuer and serial; nothing is done")


def _of_pem(text: str) -> tuple[bytes, int]:
    try:
        certificate = x509.load_pem_x509_certificate(text.encode())
        return names.issuer_name_der(certificate), certificate.serial_number
    except ValueError:
        raise GatewayError("certificate: expected one in PEM; nothing is done") from None


def _known(text: str, issuers: Iterable[bytes]) -> bytes:
    for name in issuers:
        if names.printable_der(name) == text:
            return name
    raise GatewayError(
        f"issuer {one_line(text[:80])}: expected the name of a known CA, as /status has it; nothing is done"
    )


def _serial(text: str) -> int:
    try:
        return names.parse_serial(text.strip())
    except ValueError as exc:
        raise GatewayError(f"serial {one_line(text[:80])}: {exc}; nothing is done") from None
