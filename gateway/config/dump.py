"""A Config as TOML that loads to an equal Config. No I/O.

Only what differs from the defaults is written, and what an operator looks for in
any such file. Paths come out as they stand in the Config: absolute after `load`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from gateway.config.model import Duration, HealthCheck, Listener, Size, UpstreamTls
from gateway.config.values import format_duration, format_size, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.config.model import Config

_ALWAYS = frozenset(
    {"workers", "state_dir", "verify", "check", "crl_urls", "follow_distribution_points", "enabled"}
)


def to_toml(config: Config, warnings: Iterable[str] = ()) -> str:
    """The configuration as TOML, with the warnings as comments on top."""
    lines = [f"# Warning: {one_line(warning)}" for warning in warnings]
    if lines:
        lines.append("")
    lines += _settings(config)
    for listener in config.listeners:
        lines += ["", "[[listeners]]", *_settings(listener)]
        lines += _table("listeners.revocation", listener.revocation)
        lines += _table("listeners.stapling", listener.stapling)
        if listener.health_check != HealthCheck():
            lines += _table("listeners.health_check", listener.health_check)
        if listener.upstream_tls != UpstreamTls():
            lines += _table("listeners.upstream_tls", listener.upstream_tls)
    lines += _table("crl_cache", config.crl_cache)
    lines += _table("admin", config.admin)
    lines += _table("log", config.log)
    return "\n".join(lines) + "\n"


def _table(name: str, struct: msgspec.Struct) -> list[str]:
    settings = list(_settings(struct))
    return ["", f"[{name}]", *settings] if settings else []


def _settings(struct: msgspec.Struct) -> Iterator[str]:
    """The struct's own keys; its tables come behind them, because TOML lets no key follow a table."""
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if value is None or _is_table(value):
            continue
        if value != field.default or field.name in _ALWAYS:
            yield f"{field.name} = {literal(value)}"


def _is_table(value: object) -> bool:
    return isinstance(value, msgspec.Struct) or (
        isinstance(value, tuple) and isinstance(next(iter(value), None), Listener)
    )


def literal(value: object) -> str:
    """A value of the model as TOML writes it."""
    match value:
        case bool():
            text = "true" if value else "false"
        case Duration():
            text = _string(format_duration(value))
        case Size():
            text = _string(format_size(value))
        case int() | float():
            text = repr(value)
        case tuple():
            text = f"[{', '.join(literal(element) for element in value)}]"
        case msgspec.Struct():
            pairs = (f"{name} = {literal(getattr(value, name))}" for name in value.__struct_fields__)
            text = f"{{ {', '.join(pairs)} }}"
        case _:  # strings, paths and addresses
            text = _string(str(value))
    return text


def _string(text: str) -> str:
    # A JSON string is a basic string of TOML but for DEL, which JSON lets stand (TOML 1.0, "String").
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
