"""A configuration file in, a Config out, or one line that says what is wrong with it.

    read → TOML or EMQX keys to a plain mapping → one msgspec conversion → rules

`load` raises ConfigError and nothing else, whatever the file holds. The line
names the file, the key, what was expected and what stood there; for an EMQX
file the key is EMQX's own, with its line number.

Relative paths are resolved against the directory of the configuration file. EMQX
writes them relative to its root directory, the one above `etc/`: for an EMQX
file a path that does not exist beside the file and does exist beside the file's
directory is taken from there.
"""

from __future__ import annotations

import re
import tomllib
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec

from gateway.config import emqx, values
from gateway.config.model import Address, Config, Duration, Listener, Size
from gateway.config.rules import RuleError, refuse_violations, remarks
from gateway.config.values import did_you_mean, one_line, show
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    Name = Callable[[str], str]
    """A key path of ours to the name of the key that stands in the file."""

_AT = re.compile(r"(?P<problem>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_STEP = re.compile(r"\[(\d+)\]|([a-z_]+)")


class Loaded(NamedTuple):
    """A configuration and what to tell the operator about it: one line each, without the file's name.

    `name` gives the key of the file that a key path of ours came from.
    """

    config: Config
    warnings: list[str]
    name: Callable[[str], str]


def load(path: Path, *, state_dir: Path | None = None) -> Loaded:
    """The configuration in `path`, TOML (.toml) or EMQX 4.4 keys (.conf), and what to warn about.

    `state_dir` replaces the one in the file; if relative, it is so to the working
    directory. Raises ConfigError.
    """
    source = one_line(str(path))
    match path.suffix:
        case ".toml":
            mapping, notes = _parse_toml(_read(path, source), source), []
            name: Name = str
            resolve = _beside(path)
        case ".conf":
            parsed = emqx.parse_emqx(_read(path, source), source)
            mapping, notes, name = parsed.mapping, parsed.warnings, parsed.name
            resolve = _beside_or_above(path)
        case _:
            raise ConfigError(f"{source}: expected a file name that ends in .toml, or in .conf for EMQX keys")
    if state_dir is not None:
        mapping = {**mapping, "state_dir": str(state_dir.absolute())}
    try:
        _refuse_unknown(Config, mapping)
        config = _convert(mapping, resolve)
        refuse_violations(config)
    except RuleError as exc:
        raise ConfigError(f"{source}: {name(exc.key)}: {exc.problem}") from exc
    return Loaded(config, notes + [f"{name(key)}: {remark}" for key, remark in remarks(config)], name)


def _read(path: Path, source: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{source}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{source}: expected UTF-8 text, got another byte at offset {exc.start}") from exc
    except ValueError as exc:  # a NUL in the path
        raise ConfigError(f"{source}: cannot be read: {exc}") from exc


def _parse_toml(text: str, source: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except RecursionError as exc:
        raise ConfigError(f"{source}: expected TOML, got values nested too deeply") from exc
    except ValueError as exc:  # TOMLDecodeError, or an integer of more digits than int() takes
        raise ConfigError(f"{source}: expected TOML: {one_line(str(exc))}") from exc


def _beside(path: Path) -> Callable[[str], Path]:
    base = path.absolute().parent
    return lambda text: base / text


def _beside_or_above(path: Path) -> Callable[[str], Path]:
    base = path.absolute().parent

    def resolve(text: str) -> Path:
        beside, above = base / text, base.parent / text
        try:
            return above if above.exists() and not beside.exists() else beside
        except OSError:  # too long a name, or a directory that may not be searched: reading it will say so
            return beside

    return resolve


def _refuse_unknown(kind: Any, value: object, path: str = "") -> None:
    """Raise RuleError for a key that the model does not have, with the one that may have been meant."""
    kind = _bare(kind)
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        for i, element in enumerate(value):
            _refuse_unknown(typing.get_args(kind)[0], element, f"{path}[{i}]")
    elif isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = _hints(kind)
        for key, inner in value.items():
            if key not in hints:
                raise RuleError(_join(path, one_line(key)), f"unknown key{_meant(key, hints, path)}")
            _refuse_unknown(hints[key], inner, _join(path, key))


def _meant(key: str, hints: dict[str, Any], path: str) -> str:
    """What may have been: in TOML a key belongs to the table above it, wherever it was meant to be."""
    if path and key in _hints(Config):
        return " here: it belongs above the first table"
    if not path and key in _hints(Listener):
        return " here: it belongs below [[listeners]]"
    return did_you_mean(key, hints)


def _convert(mapping: dict[str, object], resolve: Callable[[str], Path]) -> Config:
    """The mapping as a Config. Raises RuleError."""

    def decode(kind: type, value: object) -> object:
        if kind is Path and isinstance(value, str) and value and "\0" not in value:
            return resolve(value)
        if kind is Size and isinstance(value, str | int) and not isinstance(value, bool):
            return values.parse_size(value)
        if kind is Duration and isinstance(value, str):
            return values.parse_duration(value)
        if kind is Address and isinstance(value, str):
            return values.parse_address(value)
        raise ValueError(f"expected {_describe(kind)}")

    try:
        return msgspec.convert(mapping, Config, strict=True, dec_hook=decode)
    except msgspec.ValidationError as exc:
        raise _explained(str(exc), mapping) from exc


def _explained(message: str, mapping: dict[str, object]) -> RuleError:
    """The message of msgspec in the operator's words, with the value that it leaves out."""
    match = _AT.fullmatch(message)
    problem, path = (match["problem"], match["path"] or "") if match else (message, "")
    kind, value = _walk(path, mapping)
    if missing := _MISSING.fullmatch(problem):
        return RuleError(
            _join(path, missing[1]), f"expected {_describe(_hints(kind)[missing[1]])}, got nothing"
        )
    if not problem.startswith("expected "):  # what the hook says is more than the type can
        problem = f"expected {_describe(kind)}"
    return RuleError(path, f"{problem}, got {show(value)}")


def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _walk(path: str, mapping: dict[str, object]) -> tuple[Any, object]:
    """The model's type and the file's value at msgspec's path."""
    kind: Any = Config
    value: Any = mapping
    for index, name in _STEP.findall(path):
        value = value[int(index) if index else name]
        kind = typing.get_args(_bare(kind))[0] if index else _hints(kind)[name]
    return kind, value


def _bare(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _describe(kind: Any) -> str:
    """A type of the model in the operator's words."""
    if typing.get_origin(kind) is Annotated:
        (meta,) = kind.__metadata__
        at_least = " with at least one element" if meta.min_length else ""
        return meta.description or f"{_describe(_bare(kind))}{at_least}"
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(arg) for arg in args if arg is not type(None))
    if origin is Literal:
        quoted = [f'"{arg}"' for arg in args]
        return " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
    if origin is tuple:
        return "an array"
    words = {
        str: "a string",
        bool: "true or false",
        Path: "the path of a file",
        Duration: values.DURATION,
        Size: values.SIZE,
        Address: values.ADDRESS,
    }
    return words.get(kind, "a table")
