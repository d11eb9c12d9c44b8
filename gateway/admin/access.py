"""Who may use the admin interface, and from where. No I/O.

- The token is shown as `Authorization: Bearer TOKEN`, or by a browser as the password of
  HTTP Basic: a browser keeps that for this origin (scheme, host and port) alone, where a
  cookie would be sent to every port of the host, and there is no session to steal, fix
  or forget.
- A browser adds a Basic password to whatever any page has it send here. So a request
  that changes something needs, unless it has a Bearer token, the CSRF token, which only
  our own page can read, and an Origin of its own host.
- A name that an attacker rebinds to this address never is a Host that we answer to:
  addresses, localhost and the configured names are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.admin.http import Request

CSRF_HEADER = "x-csrf-token"


class Denied(NamedTuple):
    """Why a request is not answered, as an HTTP status and a line."""

    status: int
    reason: str


class Access:
    """The rules; without a token (on a Unix socket, which is its owner's alone) whoever connects may."""

    def __init__(self, token: bytes | None, hosts: Iterable[str] = ()) -> None:
        self._digest = None if token is None else _digest(token)
        self._hosts = frozenset(host.lower().removesuffix(".") for host in hosts) | {"localhost"}
        # Of the token: a page that is open goes on working when control is started again.
        key = secrets.token_bytes(32) if self._digest is None else self._digest
        self.csrf_token = hmac.digest(key, b"CSRF", "sha256").hex()

    def denies(self, request: Request) -> Denied | None:
        """None when the request may be answered."""
        scheme, token = _credential(request.headers.get("authorization", ""))
        if self._digest is not None and (
            token is None or not hmac.compare_digest(_digest(token), self._digest)
        ):
            return Denied(401, "expected the token of admin.token_file")
        if self._digest is not None and scheme == "bearer":
            # No browser shows one by itself.
            return None
        if not self.knows_host(request):
            return Denied(421, "Host: expected an address, localhost or one of admin.hosts")
        return self._foreign(request) if request.method not in ("GET", "HEAD") else None

    def knows_host(self, request: Request) -> bool:
        """Whether the request is for a host of ours, and not for a name that somebody points at us."""
        host = _hostname(f"//{request.headers.get('host', '')}")
        if host is None:
            return False
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host.removesuffix(".") in self._hosts
        return True

    def _foreign(self, request: Request) -> Denied | None:
        """Whether a page that is not ours may be behind a request that changes something."""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if self._digest is None and origin is None and site is None:
            return None  # no browser
        if site not in (None, "same-origin"):
            return Denied(403, "expected a request of our own page")
        if origin is not None and _authority(origin) != request.headers.get("host", "").lower():
            return Denied(403, "Origin: expected our own")
        shown = request.headers.get(CSRF_HEADER, "").encode("latin-1", "replace")
        if not hmac.compare_digest(shown, self.csrf_token.encode()):
            return Denied(403, "expected a Bearer token, or the page's CSRF token: reload the page")
        return None


def _digest(token: bytes) -> bytes:
    """Of one length, so that comparing takes the same time whatever is compared."""
    return hashlib.sha256(token).digest()


def _credential(header: str) -> tuple[str, bytes | None]:
    """The scheme, and the token in it; None where there is none (RFC 6750, 2.1; RFC 7617, 2)."""
    scheme, _, value = header.partition(" ")
    octets = value.strip().encode("latin-1", "replace")
    match scheme.lower():
        case "bearer":
            return "bearer", octets
        case "basic":
            try:
                _user, colon, password = base64.b64decode(octets, validate=True).partition(b":")
            except binascii.Error:
                return "basic", None
            return "basic", password if colon else None
    return "", None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _authority(origin: str) -> str | None:
    """Host and port of an Origin (RFC 6454, section 7), None for "null" and what is none."""
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return None
    return parts.netloc if parts.scheme in ("http", "https") else None
