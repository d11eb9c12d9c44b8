"""The admin interface needs a token where it is on a port, and the token is a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.config.load import Loaded, load
from gateway.config.material import load_token
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

LISTENER = """\
[[listeners]]
name = "external"
bind = ["{bind}"]
upstreams = ["127.0.0.1:1883"]
certificates = [{{ cert = "server.pem", key = "server.key" }}]
client_ca = "ca.pem"

[admin]
{admin}
"""
TOKEN = "0123456789abcdef"


def loaded(directory: Path, admin: str, bind: str = "0.0.0.0:8883") -> Loaded:
    path = directory / "gateway.toml"
    path.write_text(LISTENER.format(bind=bind, admin=admin))
    return load(path)


@pytest.mark.parametrize(
    "admin",
    [
        "",
        'bind = "127.0.0.1:9443"\ntoken_file = "token"',
        'bind = "localhost:9443"\ntoken_file = "token"',
        'bind = "[::1]:9443"\ntoken_file = "token"\nhosts = ["admin.example"]',
        'bind = "unix:/run/admin.sock"',
    ],
)
def test_what_is_meant_is_taken_without_a_word(tmp_path: Path, admin: str) -> None:
    assert loaded(tmp_path, admin).warnings == []


@pytest.mark.parametrize(
    ("admin", "problem"),
    [
        ('bind = "127.0.0.1:9443"', "admin.token_file: expected a file with a bearer token, "),
        ('bind = ":8883"\ntoken_file = "t"', "admin.bind: expected an address of its own"),
        ('bind = "0.0.0.0:8883"\ntoken_file = "t"', 'got "0.0.0.0:8883" as in listener "external"'),
        ('bind = "9443"', 'admin.bind: expected "host:port"'),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path: Path, admin: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, admin)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("admin", "warning"),
    [
        ('bind = "0.0.0.0:9443"\ntoken_file = "t"', 'admin.bind: "0.0.0.0:9443" is more than loopback'),
        ('bind = ":9443"\ntoken_file = "t"', 'admin.bind: ":9443" is more than loopback'),
        ('token_file = "t"', "admin.token_file: without admin.bind there is no admin interface"),
        ('hosts = ["a"]', "admin.hosts: without admin.bind there is no admin interface"),
    ],
)
def test_what_is_hardly_meant_is_warned_of(tmp_path: Path, admin: str, warning: str) -> None:
    (found,) = loaded(tmp_path, admin).warnings
    assert found.startswith(warning)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_token_is_what_is_in_its_file(tmp_path: Path, end: str) -> None:
    path = tmp_path / "token"
    path.touch(0o640)
    path.write_bytes(f"{TOKEN}{end}".encode())
    assert load_token(path) == TOKEN.encode()


@pytest.mark.parametrize(
    "content", ["", "short", f"{TOKEN} {TOKEN}", f"{TOKEN}\n{TOKEN}", f"{TOKEN}é", "a" * 4097, f"\n{TOKEN}"]
)
def test_what_is_no_token_is_refused_and_not_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(content)
    with pytest.raises(ConfigError, match="expected 16 to 4096 printable ASCII") as caught:
        load_token(path)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601])
def test_a_token_that_everyone_may_read_is_none(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"expected a file that others cannot read, got mode {mode:04o}"):
        load_token(path)


def test_a_token_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"admin.token_file: .*: cannot be read: No such file"):
        load_token(tmp_path / "token")
