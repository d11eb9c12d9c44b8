"""What is handed out: built as pip does it, installed where the source tree cannot be reached, run there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import gateway
from tests.test_layers import ROOT

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="what belongs into it is what git keeps: run it in a clone"
)
NAME = f"tls_gateway-{gateway.__version__}"
# Made by working in the tree: not what somebody who builds a release has.
LEFTOVERS = shutil.ignore_patterns(
    ".?*_cache", ".git", ".venv", ".scanner", ".hypothesis", "*.egg-info", "build", "*.so"
)


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and with the wheel that was built from the sdist alone."""
    place = tmp_path_factory.mktemp("distribution")
    shutil.copytree(ROOT, place / "source", ignore=LEFTOVERS)
    run(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        place / "dist",
        place / "source",
        cwd=place,
    )
    return place / "dist"


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin/ of an environment that has the wheel; its dependencies are those that the tests run with."""
    place = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=place)
    (wheel,) = built.glob("*.whl")
    run(
        sys.executable, "-m", "pip", "--python", place / "bin" / "python",
        "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=place,
    )  # fmt: skip
    (site,) = place.glob("lib/python3*/site-packages")
    # A .pth in a directory that is added by one is not read: the editable install stays out of it.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


def tracked() -> set[str]:
    return set(run("git", "ls-files", cwd=ROOT).split("\n")) - {""}


def test_the_source_distribution_has_every_file_that_is_kept(built: Path) -> None:
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        names = {member.name.removeprefix(f"{NAME}/") for member in archive if member.isfile()}
    assert tracked() - names == {".gitignore"}
    assert {name for name in names - tracked() if "egg-info" not in name} == {"PKG-INFO", "setup.cfg"}


def test_the_wheel_has_the_package_its_data_and_its_extension_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    # One for every Python from 3.11 on.
    assert re.fullmatch(rf"{NAME}-cp311-abi3-linux_\w+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    ours = {name for name in tracked() if name.startswith("gateway/")}
    assert names == {*ours, "gateway/_native.abi3.so"}


def test_the_version_is_the_same_everywhere(built: Path, installed: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))
    assert metadata["Version"] == gateway.__version__
    said = run(installed / "tls-gateway", "--version", cwd=installed)
    assert said.split()[-1] == gateway.__version__


def test_what_was_installed_is_what_runs(installed: Path) -> None:
    said = run(installed / "python", "-c", "import gateway; print(gateway.__file__)", cwd=installed)
    assert Path(said.strip()).is_relative_to(installed.parent)


def test_the_demonstration_runs_outside_of_the_source_tree(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "tls-gateway", "demo", "--once", cwd=tmp_path)
    assert "device-1 is refused when it comes again" in said
    assert re.search(r"^  ok  the log says why$", said, re.MULTILINE)
