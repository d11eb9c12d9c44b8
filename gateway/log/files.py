"""Where lines go: standard error, or a file that others may rename, remove, truncate or fill up.

Several processes append to one file, each with whole lines in one write(2) on a
descriptor that is open for O_APPEND: their lines do not mix. Nothing here raises
for what may befall a file: what it does not take goes to standard error.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.privileges import Identity

_MODE = 0o640
# Looks that may find no file before that is told of.
_PATIENCE = 2
# A pipe that nobody reads must not stop us, and a link in a directory of another user's lead nowhere.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class Outage(NamedTuple):
    """Why the file does not take lines; "" when it does again, after `lines` that went to standard error."""

    error: str
    lines: int


class LogFile:
    """One process's descriptor of the file at `path`; a file that it makes belongs to `owner`."""

    def __init__(self, path: Path, owner: Identity | None = None) -> None:
        self.path = path
        self._owner = owner
        self._opened = -1
        self._cut = False
        """The last line is not whole: the disk was full in its midst."""
        self._misses = 0
        """Looks in a row that found no file to open."""
        self._not_opened = self._not_written = self._told = ""
        self._elsewhere = 0
        self.look()

    def look(self) -> None:
        """Open the file that has the name now, if that is another one than until now, or there is none."""
        if self._is_there():
            self._misses, self._not_opened = 0, ""
            return
        try:
            opened = self._open()
        except OSError as exc:
            # Whoever rotates logs needs a moment for it, and may give us the new file only then.
            self._misses += 1
            if self._opened >= 0 and not os.fstat(self._opened).st_nlink:
                self.close()
            if self._misses >= _PATIENCE or self._opened < 0:
                self._not_opened = _reason(exc)
            return
        self.close()
        self._opened, self._cut = opened, False
        self._misses, self._not_opened, self._not_written = 0, "", ""

    def write(self, lines: bytes) -> bool:
        """Append whole lines; False where they have to go elsewhere."""
        if self._opened >= 0:
            left = b"\n" + lines if self._cut else lines
            try:
                while left:
                    left = left[os.write(self._opened, left) :]
                    self._cut = bool(left)
            except OSError as exc:
                self._not_written = _reason(exc)
            else:
                self._not_written = ""
                return True
        self._elsewhere += lines.count(b"\n")
        return False

    def outage(self) -> Outage | None:
        """What is to be told of how it is, once for each change."""
        error = self._not_written or self._not_opened
        if error == self._told:
            return None
        self._told, found = error, Outage(error, self._elsewhere)
        if not error:
            self._elsewhere = 0
        return found

    def close(self) -> None:
        """Idempotent."""
        if self._opened >= 0:
            os.close(self._opened)
        self._opened = -1

    def _is_there(self) -> bool:
        if self._opened < 0:
            return False
        try:
            named, own = self.path.stat(follow_symlinks=False), os.fstat(self._opened)
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)

    def _open(self) -> int:
        with suppress(FileExistsError):
            # Alone of a file that we make ourselves it is certain what it is.
            made = os.open(self.path, _FLAGS | os.O_CREAT | os.O_EXCL, _MODE)
            with suppress(OSError):
                os.fchmod(made, _MODE)
                if self._owner is not None and os.geteuid() == 0:
                    os.fchown(made, self._owner.uid, self._owner.gid)
            return made
        return os.open(self.path, _FLAGS)


def check(path: Path, key: str) -> None:
    """Whether lines can be appended there, as far as that can be known without making a file.

    Raises:
        ConfigError: they cannot; names `key`.
    """
    try:
        opened = os.open(path, _FLAGS)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ConfigError(f"{key}: expected a file in a directory that exists, got {path}") from None
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise ConfigError(f"{key}: {path} cannot be made: its directory cannot be written to") from None
        return
    except OSError as exc:
        raise ConfigError(f"{key}: {path} cannot be opened: {_reason(exc)}") from exc
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise ConfigError(f"{key}: expected the path of a file, got {path}, which is none")
    finally:
        os.close(opened)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
