"""The page on migration: the programs take their files of before, the gateway takes those of after."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config.load import load
from tests.authority import Authority
from tests.end_to_end.parts import TIMEOUT, free_port, program, run
from tests.test_layers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "migration.md").read_text()
SECTIONS = {
    heading.removeprefix("From "): text
    for heading, text in re.findall(r"^## (From [^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}


def block(section: str, language: str) -> str:
    """The first block of a language in a section."""
    found = re.search(rf"^```{language}\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all files that the page takes to be in /etc/mqtt."""
    directory = tmp_path_factory.mktemp("mqtt")
    root = Authority.root("Fleet CA")
    cert, key = root.issue("gateway.example").write(directory, "server")
    key.chmod(0o600)
    (directory / "haproxy.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    (directory / "ca.pem").write_bytes(root.pem)
    (directory / "issuer.pem").write_bytes(root.pem)
    (directory / "ca.der").write_bytes(root.crl([]))
    run("openssl", "crl", "-inform", "DER", "-in", directory / "ca.der", "-out", directory / "ca.crl")
    return directory


def before(place: Path, section: str, language: str, name: str) -> Path:
    """The file of before, with its paths in `place`, and a port that is free."""
    path = place / name
    text = block(section, language).replace("/etc/mqtt/", f"{place}/")
    path.write_text(text.replace("0.0.0.0:8883", f"127.0.0.1:{free_port()}"))
    return path


def test_every_old_front_door_has_a_section() -> None:
    assert list(SECTIONS) == ["EMQX's own TLS", "haproxy", "nginx", "stunnel"]


@pytest.mark.parametrize("section", SECTIONS)
def test_what_comes_after_passes_check_without_a_warning(section: str, place: Path) -> None:
    path = place / "gateway.toml"
    path.write_text(block(section, "toml"))
    state = str(place / "state")
    result = CliRunner().invoke(main, ["check", "--config", str(path), "--state-dir", state])
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output


def test_what_comes_after_emqx_is_what_its_file_means(place: Path) -> None:
    text = block("EMQX's own TLS", "properties").replace("/etc/mqtt/", f"{place}/")
    old, new = place / "emqx.conf", place / "gateway.toml"
    old.write_text(text + "listener.tcp.external.proxy_protocol = on\n")
    new.write_text(block("EMQX's own TLS", "toml"))
    assert load(new).config == load(old).config


def test_haproxy_takes_the_file_of_before(place: Path) -> None:
    run("haproxy", "-c", "-f", before(place, "haproxy", "haproxy", "haproxy.cfg"))


def test_nginx_takes_the_file_of_before(place: Path) -> None:
    path = before(place, "nginx", "nginx", "nginx.conf")
    run("nginx", "-t", "-c", path, "-e", "stderr", "-g", f"pid {place}/nginx.pid;")


def test_stunnel_takes_the_file_of_before(place: Path) -> None:
    """It has no option to check one alone: it is started, and told that it is good."""
    path = before(place, "stunnel", "ini", "stunnel.conf")
    path.write_text(f"foreground = yes\npid =\nsyslog = no\n{path.read_text()}")
    stunnel = subprocess.Popen([program("stunnel"), path], stderr=subprocess.PIPE, text=True)
    assert stunnel.stderr is not None
    try:
        said = []
        for line in stunnel.stderr:
            said.append(line)
            if "Configuration successful" in line:
                break
        else:
            pytest.fail("".join(said))
    finally:
        stunnel.terminate()
        stunnel.communicate(timeout=TIMEOUT)
