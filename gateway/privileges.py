"""Whom the processes that face the network become, once keys are read and ports are bound."""

from __future__ import annotations

import grp
import os
import pwd
from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Identity(NamedTuple):
    """A user of this machine, and the group that it is in first."""

    user: str
    uid: int
    gid: int

    def own(self, *paths: Path) -> None:
        """Give it what is there already. Raises OSError."""
        for path in paths:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def inherit(self, directory: Path) -> None:
        """Give it a directory with its files that we made ourselves, in the days before it. Raises OSError.

        What is its own already it may have filled with links to what it is not to have.
        """
        try:
            opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if os.fstat(opened).st_uid == os.geteuid():
                for name in os.listdir(opened):  # noqa: PTH208 - a Path may lead elsewhere by now
                    os.chown(name, self.uid, self.gid, dir_fd=opened, follow_symlinks=False)
                # Last: cut short, it is done again.
                os.fchown(opened, self.uid, self.gid)
        finally:
            os.close(opened)

    def cannot_read(self, paths: Iterable[Path]) -> Path | None:
        """The first of `paths` that it may not read: asked of the kernel as that user. Raises OSError."""
        groups = os.getgroups()
        os.setgroups(os.getgrouplist(self.user, self.gid))
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            return next((path for path in paths if not os.access(path, os.R_OK, effective_ids=True)), None)
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)

    def become(self) -> None:
        """Give up being root, for good. Raises OSError."""
        os.initgroups(self.user, self.gid)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


def identity(user: str | None, group: str | None) -> Identity | None:
    """Whom `user` and `group` of the configuration mean; None: nobody else than we are.

    Raises:
        ConfigError: there is none of that name, or we are not root and cannot become another.
    """
    if user is None:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError as exc:
        raise ConfigError(f'user: expected a user of this machine, got "{user}"') from exc
    gid = entry.pw_gid
    if group is not None:
        try:
            gid = grp.getgrnam(group).gr_gid
        except KeyError as exc:
            raise ConfigError(f'group: expected a group of this machine, got "{group}"') from exc
    if os.geteuid() == entry.pw_uid and os.getegid() == gid:
        return None
    if os.geteuid() != 0:
        raise ConfigError(f'user: only root can become "{user}"; start as root, or leave it out')
    return Identity(user, entry.pw_uid, gid)
