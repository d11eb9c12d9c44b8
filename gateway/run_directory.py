"""`run/` in the state directory: a lock for the one gateway there may be, and the sockets to control.

Blocking, for the supervisor. Where other processes become another user, they are given it.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from gateway import commands, publish
from gateway.errors import ConfigError
from gateway.store import StateStore

if TYPE_CHECKING:
    import socket
    from contextlib import ExitStack
    from pathlib import Path

    from gateway.privileges import Identity


class RunDirectory:
    """Locked for as long as this process lives, or `resources` are held."""

    def __init__(self, state_dir: Path, resources: ExitStack) -> None:
        """Make and lock it. Raises ConfigError where another gateway has it."""
        self._state_dir = state_dir
        self._resources = resources
        self.path = state_dir / "run"
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock()

    def _lock(self) -> None:
        path = self.path / "lock"
        try:
            # The directory is the user's that we shall become, who may have put a link there.
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise ConfigError(f"state_dir: cannot be locked: {path}: {exc.strerror}") from exc
        self._resources.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigError(
                f"state_dir: {self._state_dir} is in use by another gateway; give each its own"
            ) from exc

    def bind(self) -> tuple[socket.socket, socket.socket]:
        """Where control listens to workers, and to operators."""
        enter = self._resources.enter_context
        return enter(publish.bind(self.path)), enter(publish.bind(self.path, commands.SOCKET_NAME))

    def give(self, identity: Identity) -> None:
        """Give it, with what is bound by now and all of the state, to whom the others become.

        Raises:
            ConfigError: that cannot be.
        """
        bound = [self.path / name for name in ("lock", publish.SOCKET_NAME, commands.SOCKET_NAME)]
        try:
            identity.own(self._state_dir, self.path, *bound)
            for directory in StateStore(self._state_dir).directories:
                identity.inherit(directory)
        except OSError as exc:
            raise ConfigError(
                f"state_dir: cannot be given to {identity.user}: {exc.filename}: {exc.strerror}"
            ) from exc
