"""Durations, sizes and addresses as text: parsed, and written so that they parse to the same value.

No I/O. `parse_*` raise ValueError alone, whatever the text, and its message begins with
"expected": the caller puts file and key in front of it and what stood there behind it.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.config.model import Address, Duration, Size

if TYPE_CHECKING:
    from collections.abc import Iterable

DURATION = 'a duration such as "500ms", "15s", "5m" or "1h30m"'
SIZE = 'a size such as 4096, "64KiB" or "256MiB"'
ADDRESS = '"host:port", "[IPv6]:port" or "unix:/path"'
PORT = "a port from 1 to 65535"

# RFC 5280, section 4.2.1.12.
_USAGES = {
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timeStamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING,
}

# Digits are bounded so that no text makes a number that the rest cannot hold.
_DURATION = re.compile(
    r"(?:(\d{1,6})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?", re.ASCII
)
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_LONGEST_MS = 3650 * _MILLISECONDS["d"]

_SIZE = re.compile(r"(\d{1,15})(B|KiB|MiB|GiB)?", re.ASCII)
_BYTES = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_LARGEST = 1 << 40

# No library resolves a label of more octets (RFC 1035, section 2.3.4): getaddrinfo raises UnicodeError.
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_ONLY_DIGITS_AND_DOTS = re.compile(r"[\d.]+", re.ASCII)
_LONGEST_HOST_NAME = 253  # RFC 1035, section 2.3.4
_LONGEST_SOCKET_PATH = 107  # sockaddr_un holds 108 bytes, one of them the end
_HIGHEST_PORT = 65535


def parse_duration(text: str) -> Duration:
    """Seconds from "15s", "500ms", "1h30m"; units from the largest to the smallest, each at most once."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"expected {DURATION}")
    total = sum(int(n or 0) * ms for n, ms in zip(match.groups(), _MILLISECONDS.values(), strict=True))
    if total > _LONGEST_MS:
        raise ValueError("expected a duration of at most 3650d")
    return Duration(total / 1000)


def format_duration(value: float) -> str:
    """The duration in the form that people write: the one unit that divides it, else a sum."""
    rest = round(value * 1000)
    if rest == 0:
        return "0s"
    for unit, ms in _MILLISECONDS.items():
        # 90 minutes read better as "90m" than as "1h30m"; 61 seconds do not read better as "61000ms".
        if rest % ms == 0 and rest // ms < 1000:  # noqa: PLR2004 - past three digits a sum reads better
            return f"{rest // ms}{unit}"
    parts = []
    for unit, ms in _MILLISECONDS.items():
        count, rest = divmod(rest, ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_size(value: str | int) -> Size:
    """Bytes from 4096, "4096", "64KiB", "256MiB" or "1GiB"."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if isinstance(value, str) and match is None:
        raise ValueError(f"expected {SIZE}")
    size = int(match[1]) * _BYTES[match[2] or "B"] if match else int(value)
    if not 1 <= size <= _LARGEST:
        raise ValueError("expected a size from 1 byte to 1024GiB")
    return Size(size)


def format_size(value: int) -> str:
    """The size in the largest unit that divides it."""
    unit, factor = next((u, f) for u, f in _BYTES.items() if value % f == 0)
    return f"{value // factor}{unit}" if factor > 1 else str(value)


def parse_usage(text: str) -> x509.ObjectIdentifier:
    """A value of extendedKeyUsage from its name, "clientAuth", or from an OID as "1.3.6.1.5.5.7.3.2"."""
    try:
        return _USAGES.get(text) or x509.ObjectIdentifier(text)
    except ValueError as exc:
        names = ", ".join(f'"{name}"' for name in _USAGES)
        raise ValueError(f'expected {names} or an OID such as "1.3.6.1.5.5.7.3.2"') from exc


def parse_address(text: str) -> Address:
    """An address from "host:port", "[IPv6]:port", ":port" or "unix:/path"; IPv6 in its short form."""
    if text.startswith("unix:"):
        return _parse_socket_path(text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"expected {ADDRESS}")
    if not (port.isascii() and port.isdigit() and len(port) <= len(str(_HIGHEST_PORT))):
        raise ValueError(f"expected {PORT} behind the last ':'")
    if not 1 <= int(port) <= _HIGHEST_PORT:
        raise ValueError(f"expected {PORT}")
    return Address(host=_parse_host(host), port=int(port))


def _parse_socket_path(path: str) -> Address:
    if not path.startswith("/") or "\0" in path:
        raise ValueError('expected an absolute path behind "unix:"')
    if len(path.encode(errors="surrogateescape")) > _LONGEST_SOCKET_PATH:
        raise ValueError(f"expected a socket path of at most {_LONGEST_SOCKET_PATH} bytes")
    return Address(path=path)


def _parse_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        return _parse_ip(host[1:-1], "an IPv6 address in brackets", ipaddress.IPv6Address)
    if ":" in host:
        raise ValueError('expected brackets around an IPv6 address, as in "[::1]:8883"')
    if _ONLY_DIGITS_AND_DOTS.fullmatch(host):
        return _parse_ip(host, "an IPv4 address", ipaddress.IPv4Address)
    if host and (len(host) > _LONGEST_HOST_NAME or not _HOST_NAME.fullmatch(host)):
        raise ValueError(f"expected {ADDRESS}")
    return host.lower()


def _parse_ip(text: str, what: str, kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> str:
    try:
        return str(kind(text))
    except ValueError as exc:
        raise ValueError(f"expected {what}") from exc


def show(value: object) -> str:
    """A value as an error message quotes it: one line, as it stands in the file, cut at 60 characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "a number of more than 64 bits"  # and of so many digits that str() may refuse
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
    return one_line(text if len(text) <= 60 else text[:59] + "…")  # noqa: PLR2004 - the docstring's number


def one_line(text: str) -> str:
    """The text with everything escaped that would break its line, or that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.7) -> str:
    """' (did you mean "X"?)' when a known name is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f' (did you mean "{close[0]}"?)' if close else ""
