"""A file of `revoked_serials`: bytes in, lines out, and how such a file is read.

    # stolen from a van
    0A:8E:A1:AD  CN=Fleet CA,O=Example
    0x1005       # of every CA in client_ca

A line has a serial number in hexadecimal and, where not every CA is meant, the
issuer's name as RFC 4514 writes it and the log shows it. A comment begins a line or
follows a serial number alone: within a name "#" is a character like others.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from gateway import names
from gateway.config.values import one_line, show
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MOST = 100_000
"""Certificates that one file may revoke; for more there are CRLs."""
_LONGEST = 16 << 20
_BOM = b"\xef\xbb\xbf"
# What looks like a comment behind a name, where it would have to be a part of it.
_COMMENT = re.compile(r"(?<!\\)\s#")


class Line(NamedTuple):
    """The certificate that a line revokes: its serial, and its issuer's Name (DER); None is every CA's."""

    number: int
    serial: int
    issuer: bytes | None


class Raw(NamedTuple):
    """A file as it was found; `identity` is another one as soon as it has been written to or replaced."""

    identity: tuple[int, ...]
    changed_at: int
    """Seconds since 1970."""
    writable: bool
    """By everyone on the machine."""
    data: bytes


class SerialFile(NamedTuple):
    """A file that can be used."""

    path: Path
    changed_at: int
    writable: bool
    lines: tuple[Line, ...]


def parse(data: bytes, cas: int) -> tuple[Line, ...]:
    """The lines of a file; `cas` is of how many CAs a serial without an issuer is.

    Raises:
        ValueError: it cannot be used as a whole; one line, with the number of the first bad one.
    """
    lines = []
    known: dict[str, bytes] = {}
    for number, octets in enumerate(data.removeprefix(_BOM).split(b"\n"), 1):
        try:
            line = _parse_line(number, octets, known)
        except ValueError as exc:
            raise ValueError(f"line {number}: {exc}") from exc
        if line is not None:
            lines.append(line)
    revoked = sum(cas if line.issuer is None else 1 for line in lines)
    if revoked > MOST:
        raise ValueError(
            f"expected at most {MOST} certificates, got {len(lines)} lines, {cas} CAs: {revoked}"
        )
    return tuple(lines)


def stamp(path: Path) -> tuple[int, ...] | None:
    """The identity of what is there now; None where it cannot be told. Blocking."""
    try:
        return _identity(path.stat())
    except OSError:
        return None


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def load(path: Path, known: tuple[int, ...] | None = None) -> Raw | None:
    """What is in a file, or None if it is still the one with the identity `known`. Blocking.

    Raises:
        ConfigError: it cannot be read, or is longer than any that could be used.
    """
    try:
        # Not to wait for somebody to write into a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            identity = _identity(found)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{one_line(str(path))}: expected a file")
            if identity == known:
                return None
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(_LONGEST + 1)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise ConfigError(f"{one_line(str(path))}: cannot be read: {exc.strerror}") from exc
    if len(data) > _LONGEST:
        raise ConfigError(f"{one_line(str(path))}: expected at most {_LONGEST >> 20} MiB")
    return Raw(identity, int(found.st_mtime), bool(found.st_mode & stat.S_IWOTH), data)


def read(path: Path, cas: int) -> SerialFile:
    """Load and parse. Blocking. Raises ConfigError."""
    raw = load(path)
    assert raw is not None
    return understand(path, raw, cas)


def understand(path: Path, raw: Raw, cas: int) -> SerialFile:
    """Parse what was loaded. Raises ConfigError."""
    try:
        return SerialFile(path, raw.changed_at, raw.writable, parse(raw.data, cas))
    except ValueError as exc:
        raise ConfigError(f"{one_line(str(path))}: {exc}") from exc


def _parse_line(number: int, octets: bytes, known: dict[str, bytes]) -> Line | None:
    """None where there is only a comment, or nothing. Raises ValueError."""
    try:
        text = _stripped(octets.decode())
    except UnicodeDecodeError as exc:
        raise ValueError("expected UTF-8 text") from exc
    if not text or text.startswith("#"):
        return None
    digits, *rest = text.split(maxsplit=1)
    try:
        serial = names.parse_serial(digits)
        if not rest or rest[0].startswith("#"):
            return Line(number, serial, None)
        if rest[0] not in known:
            known[rest[0]] = _parse_issuer(rest[0])
        return Line(number, serial, known[rest[0]])
    except ValueError as exc:
        raise ValueError(f"{exc}, got {show(text)}") from exc


def _stripped(text: str) -> str:
    stripped = text.strip()
    # The last space of a name may be one that is escaped.
    escapes = len(stripped) - len(stripped.rstrip("\\"))
    return f"{stripped} " if escapes % 2 and text.lstrip() != stripped else stripped


def _parse_issuer(text: str) -> bytes:
    if _COMMENT.search(text):
        raise ValueError('expected no comment behind an issuer (a "#" of its name is written "\\#")')
    return names.parse_name(text)
