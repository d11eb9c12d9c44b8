"""Started as root, the processes that face the network are another user's."""

from __future__ import annotations

import os
import pwd
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.privileges import Identity
from tests.end_to_end.clients import Echo, client, echoes
from tests.end_to_end.gateways import configure, has_ended
from tests.end_to_end.parts import TIMEOUT, Gateway, OpensslCa, Web, run, until

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "nobody"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """Where another user may go, which pytest's directories are not."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


def who(pid: int) -> tuple[set[int], set[int]]:
    """The user ids and group ids of a process: real, effective, saved, of the file system."""
    uids, gids = (
        {int(number) for number in line.split()[1:]}
        for line in status_of(pid)
        if line.startswith(("Uid:", "Gid:"))
    )
    return uids, gids


def status_of(pid: int) -> list[str]:
    """What the kernel says of a process, a line each."""
    return (Path("/proc") / str(pid) / "status").read_text().splitlines()


def test_all_but_the_supervisor_become_the_user_and_everything_works(
    place: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    account = pwd.getpwnam(USER)
    config, port = configure(place, ca, web, echo.port, extra=f'user = "{USER}"')
    with Gateway(config, port) as gateway, client(port, ca) as held:
        assert len(gateway.children()) == 3
        for pid in gateway.children().values():
            assert who(pid) == ({account.pw_uid}, {account.pw_gid})
            assert {"CapEff:\t0000000000000000", "NoNewPrivs:\t1"} <= set(status_of(pid))
        assert (place / "state" / "crl").stat().st_uid == account.pw_uid
        # Keys that root alone may read are read again by the supervisor.
        ca.key("server").chmod(0o600)
        answer = run(sys.executable, "-m", "gateway", "reload", "--state-dir", place / "state")
        assert answer.stdout == "asked for; the log tells what comes of it\n"
        gateway.wait_for(" reloaded ")
        assert echoes(held)
        ca.revoke("device")
        ca.publish()
        assert held.recv(1) == b""
        children = gateway.children().values()
        gateway.process.kill()
        gateway.process.wait(TIMEOUT)
        until(lambda: all(has_ended(pid) for pid in children), "nobody to be left")


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ('user = "no-such-user"', 'user: expected a user of this machine, got "no-such-user"'),
        ('user = "nobody"\ngroup = "no-such-group"', "group: expected a group of this machine"),
        ('group = "root"', "group"),
    ],
)
def test_who_cannot_be_become_is_told_at_the_start(
    tmp_path: Path, ca: OpensslCa, web: Web, echo: Echo, extra: str, complaint: str
) -> None:
    config, _ = configure(tmp_path, ca, web, echo.port, extra=extra)
    done = run(sys.executable, "-m", "gateway", "serve", "--config", config, check=False)
    assert (done.returncode, complaint in done.stderr) == (1, True)


def test_what_root_left_in_the_state_directory_is_the_users_from_then_on(
    place: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, port = configure(place, ca, web, echo.port)
    with Gateway(config, port), client(port, ca):
        pass
    config.write_text(f'user = "{USER}"\n{config.read_text()}')
    with Gateway(config, port) as gateway, client(port, ca):
        assert gateway.lines(" not used ") == []
    kept = list((place / "state").rglob("*"))
    assert {path.stat().st_uid for path in kept} == {pwd.getpwnam(USER).pw_uid}
    assert "crl" in {path.parent.name for path in kept}


def test_what_the_user_cannot_read_is_found_and_root_is_root_again(place: Path) -> None:
    account = pwd.getpwnam(USER)
    user = Identity(USER, account.pw_uid, account.pw_gid)
    locked = place / "locked"
    locked.mkdir(0o700)
    files = [place / "open.py", locked / "shut.py"]
    for file in files:
        file.touch(0o644)
    assert user.cannot_read(files) == files[1]
    assert user.cannot_read(files[:1]) is None
    assert (os.geteuid(), os.getegid()) == (0, os.getgid())


def test_a_directory_that_is_anothers_or_a_link_is_given_to_nobody(place: Path) -> None:
    account = pwd.getpwnam(USER)
    user = Identity(USER, account.pw_uid, account.pw_gid)
    theirs, ours = place / "theirs", place / "ours"
    for directory in (theirs, ours):
        directory.mkdir()
        (directory / "secret").touch()
    os.chown(theirs, account.pw_uid, account.pw_gid)
    user.inherit(theirs)
    (place / "link").symlink_to(ours)
    with pytest.raises(OSError, match="link"):
        user.inherit(place / "link")
    assert {path.stat().st_uid for path in (ours, ours / "secret", theirs / "secret")} == {0}
    user.inherit(ours)
    assert {path.stat().st_uid for path in (ours, ours / "secret")} == {account.pw_uid}


def test_a_link_in_the_place_of_the_lock_is_not_followed(
    place: Path, ca: OpensslCa, web: Web, echo: Echo
) -> None:
    config, _ = configure(place, ca, web, echo.port, extra=f'user = "{USER}"')
    (place / "state" / "run").mkdir(parents=True)
    (place / "state" / "run" / "lock").symlink_to(place / "nologin")
    done = run(sys.executable, "-m", "gateway", "serve", "--config", config, check=False)
    assert (done.returncode, "state_dir: cannot be locked" in done.stderr) == (1, True)
    assert not (place / "nologin").exists()
