"""The last good lists and OCSP responses, kept over a restart, and the files of the tables.

    crl/KEY.der   crl/KEY.json    a list, and where it came from; KEY is the SHA-256 of its URL
    ocsp/FINGERPRINT.der          a response, by its certificate
    ca/SHA256.der                 a CA that a client brought along
    local/local.json              what an operator revoked here, with its checksum
    table/KEY-GENERATION.table    what the workers map; KEY names the list and whose certificates are in it

Every file is complete or not there: it is written under another name, flushed
and renamed. A list that does not match its checksum is set aside and reported,
never returned. Whoever loads verifies again: the directory may have been changed
while nobody was looking.

All functions block, up to the time it takes to flush a list: call them in a thread.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway.errors import UNREADABLE, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_TEMPORARY = ".new-"
_CORRUPT = re.compile(r"\.corrupt-(\d+)\Z")
_CORRUPT_KEPT = 3
_GENERATION = re.compile(r"-(\d+)\.table\Z", re.ASCII)


class StoredCrl(msgspec.Struct, frozen=True):
    """A list that was accepted once (DER), the validators it came with, and when (seconds since 1970).

    `learnt` says that its URL stood in a certificate, not in the configuration.
    """

    der: bytes
    etag: str | None
    last_modified: str | None
    fetched_at: float
    learnt: bool = False


class Restored(msgspec.Struct, frozen=True):
    """What a load found: a list, or nothing and perhaps a problem that an operator should read of."""

    crl: StoredCrl | None = None
    problem: str | None = None


class Store(Protocol):
    """Where lists and responses outlive the process. Keys of responses are lower-case hexadecimal."""

    def load_crl(self, url: str) -> Restored:
        """The last list saved for `url`; never raises for what it finds."""

    def save_crl(self, url: str, crl: StoredCrl) -> None:
        """Replace the list of `url`; raises StoreError, and then the old one stays."""

    def load_staple(self, fingerprint: str) -> bytes | None:
        """The last response saved for a certificate."""

    def save_staple(self, fingerprint: str, der: bytes) -> None:
        """Replace the response of a certificate; raises StoreError, and then the old one stays."""


class _Meta(msgspec.Struct, frozen=True):
    url: str
    sha256: str
    etag: str | None
    last_modified: str | None
    fetched_at: float
    learnt: bool = False


class _Local(msgspec.Struct, frozen=True):
    sha256: str
    payload: str


class StateStore:
    """A `Store` in `directory`, and the table files beside it. One process writes at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.directories = [directory / name for name in ("crl", "ocsp", "ca", "table", "local")]
        """All of them: in each there are files alone."""
        self._crls = directory / "crl"
        self._staples = directory / "ocsp"
        self._cas = directory / "ca"
        self._tables = directory / "table"
        self._local = directory / "local" / "local.json"

    def prepare(self) -> None:
        """Make the directories and sweep away what a crash left half written; once, before all else.

        Raises:
            StoreError: it cannot be written to.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for directory in self.directories:
                directory.mkdir(mode=0o700, exist_ok=True)
                # Only below: an operator may have named a directory that others use, too.
                directory.chmod(0o700)
                for leftover in directory.glob(f"{_TEMPORARY}*"):
                    leftover.unlink(missing_ok=True)
        except OSError as exc:
            raise _error("prepare", self._directory, exc) from exc

    def load_crl(self, url: str) -> Restored:
        """The last list saved for `url`; one that is damaged is set aside as KEY.der.corrupt-N."""
        path, meta_path = self._crl_paths(url)
        try:
            meta = msgspec.json.decode(meta_path.read_bytes(), type=_Meta)
            der = _matching(path, meta.sha256) if meta.url == url else None
        except FileNotFoundError:
            return Restored()
        except OSError as exc:
            return Restored(problem=str(_error("read", path, exc)))
        except UNREADABLE:
            der = None
        if der is None:
            return Restored(problem=_set_aside(path, meta_path))
        return Restored(StoredCrl(der, meta.etag, meta.last_modified, meta.fetched_at, meta.learnt))

    def save_crl(self, url: str, crl: StoredCrl) -> None:
        """Replace the list of `url`: a crash at any point leaves the old one or the new one."""
        path, meta_path = self._crl_paths(url)
        meta = _Meta(
            url=url,
            sha256=hashlib.sha256(crl.der).hexdigest(),
            etag=crl.etag,
            last_modified=crl.last_modified,
            fetched_at=crl.fetched_at,
            learnt=crl.learnt,
        )
        # Two files cannot be renamed at once. The checksum decides which list is in force: until it
        # is there the old list matches, from then on the new one does, under either of its names.
        _write(_next(path), crl.der)
        _write(meta_path, msgspec.json.encode(meta))
        try:
            _rename(_next(path), path)
        except OSError as exc:
            raise _error("write", path, exc) from exc

    def learnt_urls(self) -> list[str]:
        """The URLs of the learnt lists that are kept; one whose description cannot be read is left out."""
        urls = []
        for path in sorted(self._crls.glob("*.json")):
            with suppress(OSError, *UNREADABLE):
                meta = msgspec.json.decode(path.read_bytes(), type=_Meta)
                if meta.learnt:
                    urls.append(meta.url)
        return urls

    def load_cas(self) -> list[bytes]:
        """The CAs (DER) that were learnt from clients; what does not match its checksum is removed."""
        found = []
        for path in sorted(self._cas.glob("*.der")):
            with suppress(OSError):
                der = path.read_bytes()
                if hashlib.sha256(der).hexdigest() == path.stem:
                    found.append(der)
                else:
                    path.unlink(missing_ok=True)
        return found

    def save_ca(self, der: bytes) -> None:
        """Keep a CA that a client brought along; raises StoreError."""
        _write(self._cas / f"{hashlib.sha256(der).hexdigest()}.der", der)

    def load_local(self) -> tuple[bytes | None, str | None]:
        """What `save_local` kept last, and a problem that an operator should read of.

        None where there is nothing; what is damaged is set aside as local.json.corrupt-N.
        """
        try:
            kept = msgspec.json.decode(self._local.read_bytes(), type=_Local)
            payload = kept.payload.encode()
        except FileNotFoundError:
            return None, None
        except OSError as exc:
            return None, str(_error("read", self._local, exc))
        except UNREADABLE:
            return None, _set_aside(self._local)
        if hashlib.sha256(payload).hexdigest() != kept.sha256:
            return None, _set_aside(self._local)
        return payload, None

    def save_local(self, payload: bytes) -> None:
        """Replace what was kept; `payload` is UTF-8. Raises StoreError, and then the old one stays."""
        kept = _Local(hashlib.sha256(payload).hexdigest(), payload.decode())
        _write(self._local, msgspec.json.encode(kept))

    def set_local_aside(self) -> str:
        """Set aside what matches its checksum and means nothing all the same; say what was done."""
        return _set_aside(self._local)

    def load_staple(self, fingerprint: str) -> bytes | None:
        """The last response saved for a certificate; None too when it cannot be read."""
        try:
            return self._staple_path(fingerprint).read_bytes()
        except OSError:
            return None

    def save_staple(self, fingerprint: str, der: bytes) -> None:
        """Replace the response of a certificate."""
        _write(self._staple_path(fingerprint), der)

    def new_table_file(self) -> tuple[int, Path]:
        """An empty file to compile a table into, open for reading and writing; the caller closes it.

        Raises:
            StoreError: there is no room or no permission.
        """
        try:
            descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=self._tables)
        except OSError as exc:
            raise _error("write", self._tables, exc) from exc
        return descriptor, self._tables / name

    def install_table(self, temporary: Path, key: str, generation: int) -> Path:
        """Flush a compiled table and give it its name.

        Raises:
            StoreError: it is not there; the temporary file is gone.
        """
        path = self._tables / f"{key}-{generation}.table"
        try:
            _flush(temporary)
            _rename(temporary, path)
        except OSError as exc:
            temporary.unlink(missing_ok=True)
            raise _error("write", path, exc) from exc
        return path

    def find_tables(self, key: str) -> list[Path]:
        """The tables of a key, newest generation first; none of them is trusted for being here."""
        found = ((_GENERATION.search(path.name), path) for path in self._tables.glob(f"{key}-*.table"))
        generations = [(int(match[1]), path) for match, path in found if match]
        return [path for _generation, path in sorted(generations, reverse=True)]

    def sweep_tables(self, keep: Iterable[Path]) -> None:
        """Remove every table but these. Workers that still map one keep it until they let go.

        Raises:
            StoreError: one cannot be removed.
        """
        kept = set(keep)
        for path in self._tables.glob("*.table"):
            if path not in kept:
                try:
                    path.unlink(missing_ok=True)
                except OSError as exc:
                    raise _error("remove", path, exc) from exc

    def _crl_paths(self, url: str) -> tuple[Path, Path]:
        key = hashlib.sha256(url.encode()).hexdigest()
        return self._crls / f"{key}.der", self._crls / f"{key}.json"

    def _staple_path(self, fingerprint: str) -> Path:
        return self._staples / f"{fingerprint}.der"


def _next(path: Path) -> Path:
    return path.with_name(f"{path.name}.next")


def _matching(path: Path, sha256: str) -> bytes | None:
    """The list with this checksum, under either name; afterwards it has the right one."""
    for candidate in (path, _next(path)):
        with suppress(FileNotFoundError):
            der = candidate.read_bytes()
            if hashlib.sha256(der).hexdigest() == sha256:
                if candidate != path:
                    _rename(candidate, path)
                return der
    return None


def _write(path: Path, content: bytes) -> None:
    """Put `content` at `path`, all of it or none; raises StoreError."""
    temporary = None
    try:
        # mkstemp makes it readable by its owner alone.
        descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            _write_all(file.fileno(), content)
            os.fsync(file.fileno())
        _rename(path.parent / temporary, path)
    except OSError as exc:
        if temporary is not None:
            (path.parent / temporary).unlink(missing_ok=True)
        raise _error("write", path, exc) from exc


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _flush(path: Path) -> None:
    """Flush a file or the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(source: Path, target: Path) -> None:
    source.replace(target)
    _flush(target.parent)


def _set_aside(path: Path, meta_path: Path | None = None) -> str:
    """Rename a file that cannot be trusted, keeping a bounded number of such; say what was done."""
    try:
        if meta_path is not None:
            meta_path.unlink(missing_ok=True)
        _next(path).unlink(missing_ok=True)
        found = ((_CORRUPT.search(other.name), other) for other in path.parent.iterdir())
        kept = sorted((int(match[1]), other) for match, other in found if match)
        aside = path.with_name(f"{path.name}.corrupt-{kept[-1][0] + 1 if kept else 1}")
        path.replace(aside)
        for _number, oldest in kept[: len(kept) + 1 - _CORRUPT_KEPT]:
            oldest.unlink(missing_ok=True)
    except FileNotFoundError:
        return f"{path}: the list is gone that {path.with_suffix('.json').name} described"
    except OSError as exc:
        return f"{path}: damaged, not used, and it cannot be set aside: {exc.strerror}"
    return f"{path}: damaged, not used, and set aside as {aside.name}"


def _error(what: str, path: Path, exc: OSError) -> StoreError:
    return StoreError(f"cannot {what} {path}: {exc.strerror or exc}; what was there stays")
