"""What the documents promise is there: commands, files, links, targets, log events."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from configparser import ConfigParser
from typing import TYPE_CHECKING

import click
import msgspec
import pytest

from gateway import children
from gateway.cli import main
from gateway.config.load import load
from gateway.config.model import Config
from gateway.revocation import policy
from tests.test_layers import PACKAGE, ROOT, SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").glob("*.md")])
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in DOCUMENTS}
LEVELS = ("debug", "info", "warning", "error", "critical", "exception")
# The demonstration talks to people and keeps no log.
LOGGING = [path for path in SOURCES if "demo" not in path.parts and path.name != "log.py"]


def blocks(language: str) -> list[tuple[str, str]]:
    """Every fenced block of a language, with the document that it is in."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [(name, block) for name, text in TEXTS.items() for block in fence.findall(text)]


def code() -> Iterator[tuple[str, str]]:
    """Every line of shell and every `code` in a sentence, with its document."""
    for name, block in blocks("sh"):
        yield from ((name, line) for line in block.splitlines())
    for name, text in TEXTS.items():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        yield from ((name, span) for span in re.findall(r"`([^`\n]+)`", prose))


def commands() -> list[tuple[str, str]]:
    """Every use of the program, without comments and what its output is piped into."""
    used = []
    for name, line in code():
        words = shlex.split(line.partition("|")[0], comments=True)
        if words and words[0].rpartition("/")[2] == "tls-gateway" and len(words) > 1:
            used.append((name, shlex.join(words[1:])))
    return used


def test_the_documents_show_the_program_in_use() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize(("document", "command"), commands())
def test_a_command_in_the_documents_exists_with_its_options(document: str, command: str) -> None:
    name, *arguments = shlex.split(command)
    assert name in main.commands
    known = {option for parameter in main.commands[name].params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("-")} <= known


def test_every_subcommand_is_in_the_readme_or_the_documents() -> None:
    shown = {shlex.split(command)[0] for _, command in commands()}
    in_makefile = re.findall(r"tls-gateway (\w+)", (ROOT / "Makefile").read_text())
    assert set(main.commands) == shown | set(in_makefile)


@pytest.mark.parametrize(("document", "block"), blocks("toml"))
def test_toml_in_the_documents_loads(document: str, block: str, tmp_path: Path) -> None:
    tomllib.loads(block)
    path = tmp_path / "gateway.toml"
    path.write_text(block)
    config = load(path).config
    for listener in config.listeners:
        assert listener.client_ca is None or listener.client_ca.parent == tmp_path


@pytest.mark.parametrize("document", TEXTS)
def test_links_lead_somewhere(document: str) -> None:
    here = ROOT / document
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[document]):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        path = (here.parent / file).resolve() if file else here
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text()), target


def anchors(text: str) -> set[str]:
    """The anchors that a page gives its headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def targets_used() -> list[tuple[str, str]]:
    used = []
    for name, line in code():
        words = shlex.split(line, comments=True) if name else []
        if words and words[0] == "make":
            used += [(name, word) for word in words[1:] if "=" not in word]
    return used


@pytest.mark.parametrize(("document", "target"), targets_used())
def test_a_make_target_in_the_documents_exists(document: str, target: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE)


# What a command makes, and git ignores.
MADE = {"bench/results/"}


@pytest.mark.parametrize(
    ("document", "path"),
    sorted(
        {
            (name, span)
            for name, span in code()
            if span not in MADE
            and re.fullmatch(r"(gateway|csrc|docs|tests|deploy|bench|\.ci)/[\w./-]+", span)
        }
    ),
)
def test_a_file_that_a_document_names_exists(document: str, path: str) -> None:
    assert (ROOT / path).exists()


# A file, a pattern such as relay.[ch], or a folder.
_LISTED = re.compile(r"\w+(?:\.\w+)*\.(?:\[ch\]|\w+)|\w+/")


def named_in_architecture(directory: str) -> set[str]:
    """The files and folders of `directory` that the page's list names."""
    listed = re.search(rf"^    {directory}/\n((?:      .*\n)+)", TEXTS["docs/architecture.md"], re.MULTILINE)
    assert listed is not None
    named: set[str] = set()
    for line in listed[1].splitlines():
        folder, *files = _LISTED.findall(line)
        # "config/  model.py · load.py" is about the files in a folder, "demo/" about all of them.
        patterns = [folder + file for file in files] if folder.endswith("/") and files else [folder, *files]
        for pattern in patterns:
            found = list((ROOT / directory).glob(pattern))
            assert found, f"{directory}/{pattern} is listed and not there"
            named |= {str(path.relative_to(ROOT / directory)) for path in found}
    return named


def missing(directory: str, suffixes: set[str], named: set[str]) -> list[str]:
    """Source files that no name in the list covers, itself or by its folder."""
    base = ROOT / directory
    files = [path.relative_to(base) for path in base.rglob("*") if path.suffix in suffixes]
    return sorted(
        str(file)
        for file in files
        if file.name != "__init__.py"
        and file.parts[0] != "build"
        and not {str(file), *(str(parent) for parent in file.parents)} & named
    )


def test_the_list_of_files_has_every_module_and_no_other() -> None:
    assert missing("gateway", {".py"}, named_in_architecture("gateway")) == []


def test_the_list_of_files_has_every_c_file_and_no_other() -> None:
    assert missing("csrc", {".c", ".h", ".py"}, named_in_architecture("csrc")) == []


class Events(ast.NodeVisitor):
    """The names of the events that a module logs, and every place where it logs."""

    def __init__(self, path: Path) -> None:
        self.names: set[str] = set()
        self.unknown: list[str] = []
        self._path = path
        self._aliases: set[str] = set()
        self._understood: set[ast.expr] = set()

    def read(self) -> Events:
        tree = ast.parse(self._path.read_text())
        for node in ast.walk(tree):
            # log = self._log.info if … else self._log.error; log("event", …)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and methods(node.value):
                self._aliases.add(node.targets[0].id)
                self._understood |= methods(node.value)
        self.visit(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.expr) and is_method(node) and node not in self._understood:
                self.unknown.append(f"{self._path.name}:{node.lineno}")
        return self

    def visit_Call(self, node: ast.Call) -> None:
        found = methods(node.func)
        aliased = isinstance(node.func, ast.Name) and node.func.id in self._aliases
        if (found or aliased) and node.args:
            event = node.args[0]
            if isinstance(event, ast.Constant) and isinstance(event.value, str):
                self.names.add(event.value)
                self._understood |= found
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        # return "level", "event", {…}: for a getattr(log, level)(event, …) elsewhere
        match node.value:
            case ast.Tuple(elts=[ast.Constant(value=level), ast.Constant(value=str(event)), _]) if (
                level in LEVELS
            ):
                self.names.add(event)
        self.generic_visit(node)


def is_method(node: ast.expr) -> bool:
    """Whether this is something like `self._log.info`."""
    return isinstance(node, ast.Attribute) and node.attr in LEVELS and "log" in ast.unparse(node.value)


def methods(node: ast.expr) -> set[ast.expr]:
    return {found for found in ast.walk(node) if isinstance(found, ast.expr) and is_method(found)} - {
        inner
        for found in ast.walk(node)
        if isinstance(found, ast.Call) and found is not node
        for inner in ast.walk(found)
        if isinstance(inner, ast.expr) and is_method(inner)
    }


def logged() -> set[str]:
    return {name for path in LOGGING for name in Events(path).read().names}


@pytest.mark.parametrize("path", LOGGING, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_log_line_has_a_name_that_can_be_read_from_the_source(path: Path) -> None:
    assert Events(path).read().unknown == []


def test_the_list_of_log_events_is_complete() -> None:
    section = TEXTS["docs/operations.md"].partition("\n## Log events\n")[2]
    documented = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert set(documented) == logged()


@pytest.mark.parametrize("document", TEXTS)
def test_a_metric_that_a_document_names_is_one_of_ours(document: str) -> None:
    """Those of docs/admin.md are held against the code by tests/admin."""
    named = set(re.findall(r"\btls_gateway_\w+", TEXTS[document]))
    assert named <= set(re.findall(r"^\| `(tls_gateway_\w+)`", TEXTS["docs/admin.md"], re.MULTILINE))


def handshakes(document: str) -> dict[str, list[float | None]]:
    """CPU of a full handshake in a document's table, by entries in the CRL; None where it has no figure."""
    row = re.compile(r"^\| (?:[^|]*?)(no CRL|none|[\d,]+)(?: entries)? \|(.*)\|$", re.MULTILINE)
    return {
        "none" if entries in ("no CRL", "none") else entries: [
            float(found[1].replace(",", "")) if (found := re.match(r"[ *]*([\d,.]+)", cell)) else None
            for cell in cells.split("|")
        ]
        for entries, cells in row.findall(TEXTS[document])
        if cells.count("|") in (5, 6)
    }


@pytest.mark.parametrize("document", ["README.md", "docs/comparison.md"])
def test_figures_that_are_repeated_are_those_that_were_measured(document: str) -> None:
    """There in milliseconds, rounded: ours, Erlang, haproxy, nginx, Envoy, stunnel."""
    repeated = handshakes(document)
    assert len(repeated) >= 3
    for entries, shown in repeated.items():
        ours, haproxy, nginx, stunnel, _hitch, envoy, erlang = handshakes("docs/performance.md")[entries]
        for told, exact in zip(shown, (ours, erlang, haproxy, nginx, envoy, stunnel), strict=True):
            assert (told is None) == (exact is None), entries
            if told is not None and exact is not None:
                assert told == pytest.approx(exact / 1000, rel=0.08), entries


def test_troubleshooting_has_every_reason_that_a_refusal_can_have() -> None:
    source = ast.parse((PACKAGE / "revocation" / "policy.py").read_text())
    (decides,) = (
        node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == "_reason"
    )
    own = {
        node.value
        for node in ast.walk(decides)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    section = (
        TEXTS["docs/troubleshooting.md"].partition("\n## A client is refused\n")[2].partition("\n## ")[0]
    )
    documented = re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE)
    assert sorted(documented) == sorted({*policy._REASONS.values(), *own})


def test_the_unit_gives_the_drain_its_time_and_starts_what_exists() -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case of keys
    unit.read(ROOT / "deploy" / "tls-gateway.service")
    service = unit["Service"]
    (drain,) = (each.default for each in msgspec.structs.fields(Config) if each.name == "drain_timeout")
    longest = drain + 2 * children.KILL_AFTER
    assert float(service["TimeoutStopSec"].removesuffix("s")) > longest
    for key in ("ExecStartPre", "ExecStart", "ExecReload"):
        program, name, option, file = service[key].split()
        assert program.endswith("/tls-gateway")
        assert option in main.commands[name].params[0].opts
        assert file.endswith(".toml")
    assert isinstance(main, click.Group)
