"""The tables of docs/configuration.md, written into the page from the model by `make docs`.

    python -m gateway.config.reference docs/configuration.md

Each Struct is a table, headed by its path in TOML, with its docstring as a sentence under it.
Each field is a row: its name, its type (in the words of the type's `title`, where there is
one), its default, and the string below it in model.py. Where such a string ends in
"Default: …." it says in words what a default of None, or a long one, comes to.

In the page a table stands between two comments; what stands outside of them is written by
hand and left alone. No I/O but in `main`.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec

from gateway.config import model
from gateway.config.dump import literal
from gateway.config.model import Address, Config, Duration, Size

if TYPE_CHECKING:
    from collections.abc import Iterator

_BEGIN = "<!-- Written by make docs from gateway/config/model.py: {} -->"
_END = "<!-- By hand again. -->"
_BLOCK = re.compile(_BEGIN.format("(.*)") + r"\n(?s:.*?)" + _END)
_DEFAULT = re.compile(r"(.*?)\s*Default: (.*)\.", re.DOTALL)
_WORDS = {str: "text", bool: "boolean", Path: "path", Duration: "duration", Size: "size", Address: "address"}
_PLURALS = {"address": "addresses", "table": "tables"}


class Table(NamedTuple):
    """A Struct of the model and the path that its keys have in TOML, in the brackets that it has there."""

    struct: type[msgspec.Struct]
    path: str

    @property
    def heading(self) -> str:
        """How the page heads it."""
        return f"`{self.path}`" if self.path else "Top level"


def rendered(page: str) -> str:
    """The page with its tables as the model has them now.

    Raises ValueError where it has not exactly those of the model, in their order.
    """
    expected = {table.heading: table for table in tables()}
    found = _BLOCK.findall(page)
    if found != list(expected):
        raise ValueError(
            f"expected tables between comments for {', '.join(expected)}; got {', '.join(found)}"
        )
    return _BLOCK.sub(lambda block: _block(expected[block[1]]), page)


def tables(struct: type[msgspec.Struct] = Config, path: str = "") -> Iterator[Table]:
    """Each table of the configuration, those that are keys of another behind it."""
    yield Table(struct, path)
    for name, kind in hints(struct).items():
        inner, array = _table_in(kind)
        if inner is not None:
            below = f"{path.strip('[]')}.{name}".lstrip(".")
            yield from tables(inner, f"[[{below}]]" if array else f"[{below}]")


def hints(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The types of a Struct's fields, in their order."""
    every = typing.get_type_hints(struct, include_extras=True)
    return {name: every[name] for name in struct.__struct_fields__}


def _block(table: Table) -> str:
    """What stands in the page between the comments, and they themselves."""
    texts = _texts(table.struct)
    lines = [
        _BEGIN.format(table.heading),
        "",
        f"## {table.heading}",
        "",
        _one_line(table.struct.__doc__),
        "",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for field in msgspec.structs.fields(table.struct):
        kind = hints(table.struct)[field.name]
        text, default = texts.get(field.name, ""), _default(field)
        if words := _DEFAULT.fullmatch(text):
            text, default = words.groups()
        if inner := _table_in(kind)[0]:
            anchor = f"{table.path}{field.name}".translate({ord(mark): None for mark in "[]."})
            text = f"{text or _one_line(inner.__doc__)} [Its keys](#{anchor})."
        if not text:
            raise ValueError(f"expected a string below {table.struct.__name__}.{field.name}, got none")
        cells = f"`{field.name}`", _type(kind), default, text
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join([*lines, "", _END])


def _texts(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The strings below the fields, each as one line. Python itself throws them away."""
    (definition,) = (
        node
        for node in ast.parse(inspect.getsource(model)).body
        if isinstance(node, ast.ClassDef) and node.name == struct.__name__
    )
    texts = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = _one_line(text)
    return texts


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return "none"
    return "" if isinstance(field.default, msgspec.Struct) else f"`{literal(field.default)}`"


def _table_in(kind: Any) -> tuple[type[msgspec.Struct] | None, bool]:
    """The Struct that a type is, or that it is an array of; and whether it is an array."""
    array = typing.get_origin(_bare(kind)) is tuple
    inner = typing.get_args(_bare(kind))[0] if array else kind
    return (inner if isinstance(inner, type) and issubclass(inner, msgspec.Struct) else None), array


def _bare(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _type(kind: Any) -> str:
    """A type in the words of whoever writes TOML."""
    titles = [meta.title for meta in getattr(kind, "__metadata__", ()) if meta.title]
    if titles:
        return str(titles[-1])
    kind = _bare(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(each) for each in arguments if each is not type(None))
    if origin is Literal:
        return ", ".join(f"`{literal(each)}`" for each in arguments)
    if origin is tuple:
        element = _type(arguments[0])
        return f"array of {_PLURALS.get(element, element)}"
    return "table" if _table_in(kind)[0] else _WORDS[kind]


def main() -> None:
    """Bring the page that is named on the command line up to date."""
    path = Path(sys.argv[1])
    path.write_text(rendered(path.read_text()))


if __name__ == "__main__":
    main()
