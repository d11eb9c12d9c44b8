"""The backup of docs/operations.md, made by its own commands while the gateway runs, is enough to start."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.end_to_end.clients import client, echoes
from tests.end_to_end.gateways import configure
from tests.end_to_end.parts import TIMEOUT, Gateway, Web, refused, until_revoked
from tests.test_layers import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.clients import Echo
    from tests.end_to_end.parts import OpensslCa


def documented(directory: Path) -> list[list[str]]:
    """The page's two uses of tar, for a state directory that is `directory`/state."""
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page.partition("\n## Backup\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^tar .*$", section, re.MULTILINE)
    return [
        shlex.split(line.replace("/var/lib", str(directory)).replace("tls-gateway", "state"))
        for line in lines
    ]


def test_a_backup_is_enough_to_start_while_the_ca_cannot_be_reached(
    tmp_path: Path, ca: OpensslCa, echo: Echo
) -> None:
    ca.issue("listed")
    ca.issue("good")
    ca.revoke("listed")
    ca.publish()
    back_up, restore = documented(tmp_path)
    with Web(ca.web) as web:
        config, port = configure(tmp_path, ca, web, echo.port)
        with Gateway(config, port):
            until_revoked(port, ca, "listed")
            revoke = [sys.executable, "-m", "gateway", "revoke", "--config", str(config)]
            subprocess.run(
                [*revoke, "--cert", str(ca.cert("device"))], check=True, capture_output=True, timeout=TIMEOUT
            )
            subprocess.run(back_up, check=True, cwd=tmp_path, timeout=TIMEOUT)
    shutil.rmtree(tmp_path / "state")
    subprocess.run(restore, check=True, cwd=tmp_path, timeout=TIMEOUT)
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"ca", "crl", "local", "ocsp"}
    with Gateway(config, port) as gateway:
        for stem in ("listed", "device"):
            assert "alert certificate revoked" in refused(port, ca, stem)
        with client(port, ca, "good") as connection:
            assert echoes(connection)
        gateway.wait_for("list not refreshed")
