"""House rules on imports, kept by a test because nobody re-reads a rule."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gateway"

# Top to bottom: a module may import from its own line and from those below it.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"cli_live"},
    {"demo"},
    {"inspection", "offline"},
    {"supervisor"},
    {"premises"},
    {"worker", "control"},
    {"admin"},
    {"operations", "journal", "broadcast"},
    {"refresh"},
    {"status_text"},
    {"status"},
    {"session", "in_force", "sightings", "correspondence"},
    {"introduction", "access_log"},
    {"revocation", "stapling"},
    {"upstream"},
    {"generations", "run_directory"},
    {"reading"},
    {"tls"},
    {"schedule", "refusals", "inquiries"},
    {"fetch", "store", "publish", "sockets", "commands"},
    {"addresses", "service", "bell", "children"},
    {"log"},
    {"privileges"},
    {"native"},
    {"config"},
    {"metrics"},
    {"signature", "extensions"},
    {"names"},
    {"proxy_protocol"},
    {"der"},
    {"errors"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The name in the list above that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, in full."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path: Path) -> None:
    own = unit(path)
    if own == "__init__":
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "gateway" or len(parts) < 2 or parts[1] not in RANK or parts[1] == own:
            continue
        assert RANK[parts[1]] >= RANK[own], f"{path.name} imports {name}, which stands above it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_native_imports_the_extension(path: Path) -> None:
    users = {name for name in imports(path) if name.startswith("gateway._native")}
    assert not users or unit(path) == "native"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_tls_openssl_touches_cryptographys_private_binding(path: Path) -> None:
    users = {name for name in imports(path) if "hazmat.bindings" in name}
    assert not users or path.relative_to(PACKAGE) == Path("tls/openssl.py")


@pytest.mark.parametrize("name", ["supervisor", "premises", "generations", "children"])
def test_the_supervisor_can_fork_at_any_time(name: str) -> None:
    assert not {"trio", "threading"} & imports(PACKAGE / f"{name}.py")


@pytest.mark.parametrize("path", sorted((ROOT / "csrc").glob("*.[ch]")), ids=lambda path: path.name)
def test_no_c_file_includes_openssl_or_python(path: Path) -> None:
    text = path.read_text()
    assert "<openssl/" not in text
    assert "Python.h" not in text


def test_the_extension_can_be_read_in_an_afternoon() -> None:
    """Lines of code, without comments and blank ones; the headers are its specification, and not counted."""
    comment = re.compile(r"/\*.*?\*/", re.DOTALL)
    texts = [comment.sub("", path.read_text()) for path in (ROOT / "csrc").glob("*.c")]
    assert sum(bool(line.strip()) for text in texts for line in text.splitlines()) < 2000
