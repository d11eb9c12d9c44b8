"""What a service manager is told (sd_notify(3)), and the sockets that it hands over (sd_listen_fds(3)).

Blocking, for the supervisor. Without a service manager nothing is told, and there are none.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

_FIRST_FD = 3
_MICROSECONDS = 1_000_000


class Service:
    """The service manager that started this process, if one did.

    Its variables are taken out of the environment: they are meant for this process alone.
    """

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        interval = os.environ.pop("WATCHDOG_USEC", "")
        meant = os.environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self._every = int(interval) / _MICROSECONDS / 2 if interval.isdecimal() and meant else 0.0
        self.next_sign = time.monotonic() if self._every else float("inf")
        """When it next expects a sign of life, on the monotonic clock."""

    def ready(self, status: str) -> None:
        """Clients are let in; after a reload: by the new configuration, or still by the one before."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Another configuration is being taken."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def extend(self, seconds: float) -> None:
        """The end may take so long."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(seconds * _MICROSECONDS)}")

    def live(self) -> None:
        """Give the sign of life that is due."""
        if time.monotonic() >= self.next_sign:
            self._tell("WATCHDOG=1")
            self.next_sign = time.monotonic() + self._every

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # An abstract address begins with a zero octet, written as "@". Who does not listen misses it.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.sendto("\n".join(lines).encode(), address)


def inherited() -> list[socket.socket]:
    """The listening TCP sockets that the service manager has bound for this process; not blocking."""
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
        handed = socket.socket(fileno=fd)
        os.set_inheritable(fd, False)  # noqa: FBT003 - the library's own signature
        handed.setblocking(False)  # noqa: FBT003 - likewise
        found.append(handed)
    return found
