"""The command line as an operator meets it: what is refused, how, and that nothing was begun."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway import __version__
from gateway.cli import main
from gateway.config.load import load
from tests.authority import DAY, NOW, Authority, Revoked

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

COMMANDS = (
    *("serve", "check", "convert", "inspect", "demo"),
    *("revoke", "unrevoke", "revoked", "refresh", "status", "reload", "drain"),
)
TIMEOUT = 30


class Place:
    """A directory with a good configuration, the files it names, and a port that is free."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.directory = directory
        self.authority = authority
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.state = directory / "state"
        authority.issue("server").write(directory, "server")
        (directory / "server.key").chmod(0o600)
        (directory / "ca.pem").write_bytes(authority.pem)
        self.config = self.write("gateway.toml", self.toml())

    def toml(self) -> str:
        return f"""\
workers = 1
state_dir = "state"

[[listeners]]
name = "external"
bind = ["127.0.0.1:{self.port}"]
upstreams = ["127.0.0.1:1883"]
certificates = [{{ cert = "server.pem", key = "server.key" }}]
client_ca = "ca.pem"
proxy_protocol = "off"
handshake_timeout = "15s"

[listeners.revocation]
crl_urls = ["file://{self.directory}/ca.crl"]
"""

    def emqx(self) -> str:
        return f"""\
listener.ssl.external = 127.0.0.1:{self.port}
listener.ssl.external.certfile = server.pem
listener.ssl.external.keyfile = server.key
listener.ssl.external.cacertfile = ca.pem
listener.ssl.external.verify = verify_peer
listener.ssl.external.fail_if_no_peer_cert = true
listener.ssl.external.enable_crl_check = true
listener.ssl.external.crl_cache_urls = http://localhost:8080/ca.crl
listener.tcp.external = 1883
node.data_dir = state
mqtt.max_packet_size = 1MB
"""

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def replace(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.root("Root")


@pytest.fixture
def place(tmp_path: Path, authority: Authority) -> Place:
    return Place(tmp_path, authority)


def run(*arguments: str | Path) -> Result:
    """A command in this process; whatever is no exit of its own is raised here."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def start(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, as `python -m gateway`."""
    root = Path(__file__).resolve().parent.parent
    return subprocess.run(
        [sys.executable, "-m", "gateway", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def only_line(text: str) -> str:
    """The one line that `text` is."""
    assert text.endswith("\n")
    assert text[:-1].isprintable(), text
    return text[:-1]


# What is wrong, and what the one line must name: key path, then what was expected.
def unknown_key(place: Place) -> tuple[str, ...]:
    place.replace("crl_urls", "crl_url")
    return "gateway.toml: listeners[0].revocation.crl_url: unknown key", 'did you mean "crl_urls"?'


def wrong_type(place: Place) -> tuple[str, ...]:
    place.replace("workers = 1", 'workers = "many"')
    return "gateway.toml: workers: expected a whole number from 1 to 1024", 'got "many"'


def bad_duration(place: Place) -> tuple[str, ...]:
    place.replace('"15s"', '"15"')
    return "gateway.toml: listeners[0].handshake_timeout: expected a duration such as", 'got "15"'


def not_toml(place: Place) -> tuple[str, ...]:
    place.replace("[[listeners]]", "[[listeners")
    return "gateway.toml: expected TOML", "line"


def configuration_missing(place: Place) -> tuple[str, ...]:
    place.config.unlink()
    return "gateway.toml: cannot be read", "No such file"


def configuration_is_a_directory(place: Place) -> tuple[str, ...]:
    place.config.unlink()
    place.config.mkdir()
    return "gateway.toml: cannot be read", "Is a directory"


def key_file_missing(place: Place) -> tuple[str, ...]:
    (place.directory / "server.key").unlink()
    return "gateway.toml: listeners[0].certificates[0].key:", "server.key: cannot be read: No such file"


def certificate_file_unreadable(place: Place) -> tuple[str, ...]:
    # Permissions do not stop root, who may be running the tests; this stops anybody.
    (place.directory / "server.pem").unlink()
    (place.directory / "server.pem").mkdir()
    return "gateway.toml: listeners[0].certificates[0].cert:", "server.pem: cannot be read"


def key_of_another_certificate(place: Place) -> tuple[str, ...]:
    place.write("server.key", place.authority.issue("other").key_pem)
    return "gateway.toml: listeners[0].certificates[0].key:", "expected the key of", "got another one"


def ca_file_without_a_ca(place: Place) -> tuple[str, ...]:
    place.write("ca.pem", place.authority.issue("leaf").pem)
    return "gateway.toml: listeners[0].client_ca:", "expected a CA certificate"


def ca_file_missing(place: Place) -> tuple[str, ...]:
    place.replace('client_ca = "ca.pem"\n', "")
    return "gateway.toml: listeners[0].client_ca: expected a file of CA certificates", "got nothing"


def proxy_protocol(place: Place) -> tuple[str, ...]:
    place.replace('proxy_protocol = "off"', 'proxy_protocol = "v1"\nproxy_protocol_certificate = true')
    return "gateway.toml: listeners[0].proxy_protocol_certificate:", 'proxy_protocol is "v1"'


def stapling_without_the_issuer(place: Place) -> tuple[str, ...]:
    settings = 'enabled = true\nresponder_url = "http://ocsp.example"\n'
    place.config.write_text(f"{place.config.read_text()}\n[listeners.stapling]\n{settings}")
    return "gateway.toml: listeners[0].stapling.issuer:", "expected the certificate that issued"


def state_dir_is_a_file(place: Place) -> tuple[str, ...]:
    place.write("afile", b"")
    place.replace('"state"', '"afile"')
    return "gateway.toml: state_dir:", "expected a directory"


def of_no_known_kind(place: Place) -> tuple[str, ...]:
    place.config = place.config.rename(place.directory / "gateway.yaml")
    return ("gateway.yaml: expected a file name that ends in .toml",)


def emqx_key_misspelt(place: Place) -> tuple[str, ...]:
    text = place.emqx().replace("enable_crl_check", "enable_crl_checks")
    place.config = place.write("emqx.conf", text)
    return "emqx.conf: listener.ssl.external.enable_crl_checks", "line 7", "enable_crl_check"


def key_too_short_for_openssl(place: Place) -> tuple[str, ...]:
    short = rsa.generate_private_key(65537, 1024)
    place.authority.issue("server", key=short).write(place.config.parent, "server")
    return "gateway.toml: listener ", "OpenSSL does not accept", "key too small"


def emqx_unreadable_file(place: Place) -> tuple[str, ...]:
    text = place.emqx().replace("cacertfile = ", "cacertfile = /nonexistent/")
    place.config = place.write("emqx.conf", text)
    return "emqx.conf: listener.ssl.external.cacertfile (line ", "/nonexistent", "cannot be read"


def emqx_bad_duration(place: Place) -> tuple[str, ...]:
    place.config = place.write("emqx.conf", place.emqx() + "crl_cache_http_timeout = soon\n")
    return "emqx.conf: crl_cache_http_timeout", "expected a duration", '"soon"'


def cipher_misspelt(place: Place) -> tuple[str, ...]:
    place.replace('proxy_protocol = "off"', 'ciphers = ["ECDHE-RSA-AES128-GCM-SHA265"]')
    return str(place.config), "listeners[0].ciphers[0]: expected a cipher suite of TLS 1.2", "did you mean"


def emqx_key_usage_misspelt(place: Place) -> tuple[str, ...]:
    lines = place.emqx() + "listener.ssl.external.verify_peer_ext_key_usage = clientauth\n"
    place.config = place.write("emqx.conf", lines)
    return "emqx.conf", "listener.ssl.external.verify_peer_ext_key_usage (line 12)", '"clientAuth"'


MISTAKES = [
    cipher_misspelt,
    emqx_key_usage_misspelt,
    unknown_key,
    wrong_type,
    bad_duration,
    not_toml,
    configuration_missing,
    configuration_is_a_directory,
    key_file_missing,
    certificate_file_unreadable,
    key_of_another_certificate,
    ca_file_without_a_ca,
    ca_file_missing,
    proxy_protocol,
    stapling_without_the_issuer,
    state_dir_is_a_file,
    of_no_known_kind,
    emqx_key_misspelt,
    key_too_short_for_openssl,
    emqx_unreadable_file,
    emqx_bad_duration,
]


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize("make", MISTAKES, ids=lambda make: make.__name__)
def test_a_mistake_is_one_line_with_file_key_and_expectation_and_begins_nothing(
    place: Place, make: Callable[[Place], tuple[str, ...]], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = make(place)
    monkeypatch.setattr(socket.socket, "bind", _must_not_bind)
    result = run(command, "--config", place.config)
    assert result.exit_code == 1
    assert result.stdout == ""
    line = only_line(result.stderr)
    assert line.startswith("tls-gateway: ")
    for part in named:
        assert part in line
    assert not place.state.exists()


def _must_not_bind(*_arguments: object) -> None:
    pytest.fail("a socket was bound")


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_process_of_its_own_ends_with_one_line_and_code_1(place: Place, command: str) -> None:
    named = key_of_another_certificate(place)
    ended = start(command, "--config", place.config)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert all(part in only_line(ended.stderr) for part in named)
    assert not place.state.exists()


def test_serve_names_the_file_and_the_address_that_is_taken(place: Place) -> None:
    with socket.create_server(("127.0.0.1", place.port)):
        ended = start("serve", "--config", place.config)
    assert ended.returncode == 1
    line = only_line(ended.stderr)
    assert "gateway.toml: listeners[0].bind[0]:" in line
    assert f"127.0.0.1:{place.port}" in line
    assert "in use" in line


def test_serve_in_a_state_directory_that_is_not_its_own_says_what_is_in_the_way(place: Place) -> None:
    place.state.mkdir()
    (place.state / "run").write_bytes(b"")
    ended = start("serve", "--config", place.config)
    assert ended.returncode == 1
    assert f"gateway.toml: cannot start: [Errno 17] File exists: '{place.state}/run'" in only_line(
        ended.stderr
    )


def test_check_says_good_and_names_the_listeners(place: Place) -> None:
    result = run("check", "--config", place.config)
    assert (result.exit_code, result.stderr) == (0, "")
    assert only_line(result.stdout) == f"{place.config}: good; listeners: external"
    assert not place.state.exists()


def test_check_warns_and_is_content(place: Place) -> None:
    place.authority.issue("server", not_before=NOW - 2 * DAY, not_after=NOW - DAY).write(
        place.directory, "server"
    )
    (place.directory / "server.key").chmod(0o644)
    result = run("check", "--config", place.config)
    assert result.exit_code == 0
    expired, readable = result.stderr.splitlines()
    assert expired.startswith(f"{place.config}: warning: ")
    assert "expired at" in expired
    assert "chmod o-r" in readable


def test_check_tells_of_staples_that_will_be_missed(place: Place) -> None:
    place.config.write_text(place.config.read_text() + "\n[listeners.stapling]\nenabled = true\n")
    result = run("check", "--config", place.config)
    assert (result.exit_code, result.stderr) == (0, "")
    note, _good = result.stdout.splitlines()
    assert note.startswith(f'{place.config}: note: listener "external": CN=server (serial ')
    assert note.endswith(") names no OCSP responder: nothing is stapled for it")

    server = place.authority.issue("server", ocsp_urls=["http://ocsp.example/"], must_staple=True)
    server.write(place.directory, "server")
    place.replace("enabled = true\n", 'enabled = true\nissuer = "ca.pem"\n')
    result = run("check", "--config", place.config)
    assert result.exit_code == 0
    warning = only_line(result.stderr)
    assert warning.startswith(f'{place.config}: warning: listener "external": CN=server (serial ')
    assert "no OCSP response is stored: clients refuse it (must-staple) until http://ocsp" in warning
    assert not place.state.exists()


def test_check_takes_emqxs_keys_and_names_those_that_it_ignores(place: Place) -> None:
    config = place.write("emqx.conf", place.emqx())
    result = run("check", "--config", config)
    assert result.exit_code == 0
    assert "mqtt.max_packet_size" in only_line(result.stderr)


def test_the_option_state_dir_overrides_the_file(place: Place) -> None:
    taken = place.write("afile", b"")
    result = run("check", "--config", place.config, "--state-dir", taken)
    assert result.exit_code == 1
    assert f"state_dir: {taken}: expected a directory" in only_line(result.stderr)


def test_convert_prints_toml_that_loads_to_the_same(place: Place) -> None:
    emqx = place.write("emqx.conf", place.emqx())
    result = run("convert", emqx)
    assert (result.exit_code, result.stderr) == (0, "")
    converted = place.write("converted.toml", result.stdout)
    assert load(converted).config == load(emqx).config
    assert result.stdout.startswith("# Warning: ")


def test_convert_refuses_in_one_line(place: Place) -> None:
    emqx = place.write("emqx.conf", "listener.ssl.external.verify = sometimes\n")
    result = run("convert", emqx)
    assert result.exit_code == 1
    assert "emqx.conf: " in only_line(result.stderr)
    assert result.stdout == ""


def test_inspect_lists_ten_entries_unless_told_otherwise(place: Place) -> None:
    crl = place.write("ca.crl", place.authority.crl([Revoked(serial) for serial in range(1, 31)]))

    def revoked(*options: str) -> list[str]:
        result = run("inspect", crl, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        return [line for line in result.stdout.splitlines() if line.startswith("revoked:")]

    assert len(revoked()) == 11
    assert revoked()[-1].endswith("and 20 more")
    assert len(revoked("--entries", "2")) == 3
    assert len(revoked("--entries", "0")) == 30


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "cannot be read: No such file"), (b"hello", "neither a CRL")]
)
def test_inspect_refuses_in_one_line(place: Place, content: bytes | None, problem: str) -> None:
    path = place.directory / "thing"
    if content is not None:
        path.write_bytes(content)
    result = run("inspect", path)
    assert result.exit_code == 1
    assert f"{path}: {problem}" in only_line(result.stderr)
    assert result.stdout == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    assert run("--help").stdout.count(f"\n  {command} ") == 1
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {command}")


def test_there_is_no_command_that_is_not_listed_here() -> None:
    assert set(main.commands) == set(COMMANDS)


@pytest.mark.parametrize(
    "arguments", [["serve"], ["check", "--confg", "x"], ["inspekt"], ["demo", "--port", "70000"]]
)
def test_a_mistyped_command_line_shows_usage_and_exits_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert "Traceback" not in result.stderr


def test_python_m_gateway_is_the_same_program() -> None:
    ended = start("--version")
    assert (ended.returncode, ended.stdout.strip()) == (0, f"tls-gateway, version {__version__}")


def test_the_installed_command_runs() -> None:
    command = shutil.which("tls-gateway", path=Path(sys.executable).parent)
    if command is None:
        pytest.skip("tls-gateway is not installed in this environment: make test installs it")
    ended = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert ended.returncode == 0
    assert ended.stdout.startswith("Usage: tls-gateway ")


def test_the_demonstration_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gateway.demo", raising=False)
    monkeypatch.delitem(sys.modules, "gateway.demo.story", raising=False)
    monkeypatch.delitem(sys.modules, "gateway.demo.client", raising=False)
    monkeypatch.setitem(sys.modules, "paho", None)
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    result = run("demo", "--once")
    assert result.exit_code == 1
    assert "install tls-gateway[demo]" in only_line(result.stderr)
