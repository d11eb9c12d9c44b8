from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.config import emqx_keys, model

if TYPE_CHECKING:
    from collections.abc import Iterator

    import msgspec

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()
STRUCTS = {
    "": model.Config,
    "listeners": model.Listener,
    "listeners.certificates": model.Certificate,
    "listeners.revocation": model.Revocation,
    "listeners.stapling": model.Stapling,
    "listeners.health_check": model.HealthCheck,
    "crl_cache": model.CrlCache,
    "admin": model.Admin,
    "log": model.Log,
}


def sections() -> dict[str, str]:
    """The page's text under each heading that names a table; the root's is "Top level"."""
    parts = re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    return {heading.strip("`[] "): text for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def fields() -> Iterator[tuple[str, str]]:
    for table, struct in STRUCTS.items():
        yield from ((table, name) for name in struct.__struct_fields__)


@pytest.mark.parametrize(("table", "name"), list(fields()))
def test_every_key_of_the_model_is_documented(table: str, name: str) -> None:
    assert f"| `{name}` |" in sections()[table or "Top level"]


@pytest.mark.parametrize(("table", "struct"), STRUCTS.items())
def test_no_key_is_documented_that_the_model_does_not_have(table: str, struct: type[msgspec.Struct]) -> None:
    documented = re.findall(r"^\| `([a-z_]+)` \|", sections()[table or "Top level"], flags=re.MULTILINE)
    assert documented == list(struct.__struct_fields__)


@pytest.mark.parametrize("key", [*emqx_keys.LISTENER_KEYS, *emqx_keys.GLOBAL_KEYS])
def test_every_emqx_key_is_documented(key: str) -> None:
    assert f"{key}`" in sections()["EMQX 4.4 keys"]
