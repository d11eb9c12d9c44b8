"""docs/stapling.md quotes errors as the code has them, and its log events are there."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tests.test_layers import PACKAGE, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (ROOT / "docs" / "stapling.md").read_text()
SOURCES = [
    *sorted((PACKAGE / "stapling").glob("*.py")),
    *(PACKAGE / f"{name}.py" for name in ("addresses", "fetch", "schedule", "signature")),
]


def literals() -> Iterator[str]:
    """Every text in the sources; what an f-string puts in is "…"."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def quoted() -> list[str]:
    """The errors in the first column of the table."""
    section = PAGE.partition("\n## What the errors mean\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| ", section, re.MULTILINE)
    return [text for row in rows for text in re.findall(r"`([^`]+)`", row) if text != "error"]


TEXTS = list(literals())


def test_the_table_is_read() -> None:
    assert len(quoted()) > 20


@pytest.mark.parametrize("text", quoted())
def test_an_error_is_quoted_as_it_is(text: str) -> None:
    pattern = re.compile(".*?".join(map(re.escape, text.split("…"))), re.DOTALL)
    assert any(pattern.search(each) for each in TEXTS)
