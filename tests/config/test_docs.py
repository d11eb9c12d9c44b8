from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.config import emqx_keys, model
from gateway.config.load import load

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
    "listeners.upstream_tls": model.UpstreamTls,
    "crl_cache": model.CrlCache,
    "admin": model.Admin,
    "log": model.Log,
}

TLS_KEYS = {
    *("trust", "verify_depth", "client_extended_key_usage", "tls_versions", "ciphers", "groups"),
    "session_tickets",
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


def test_the_page_on_tls_shows_the_defaults_and_explains_each(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tls.md").read_text()
    (shown,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    path = tmp_path / "gateway.toml"
    path.write_text(shown)
    (listener,) = load(path).config.listeners
    required = ("name", "bind", "upstreams", "certificates", "client_ca")
    assert listener == model.Listener(**{key: getattr(listener, key) for key in required})
    keys = set(tomllib.loads(shown)["listeners"][0]) - set(required)
    explained = re.findall(r"`(\w+)`", " ".join(re.findall(r"^### (.*)$", page, re.MULTILINE)))
    assert set(explained) == keys | {"client_ca"}


@pytest.mark.parametrize("key", [key for key, ours in emqx_keys.LISTENER_KEYS.items() if ours in TLS_KEYS])
def test_the_page_on_tls_has_every_emqx_key_about_it(key: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tls.md").read_text()
    assert f"\n| `{key}` |" in page
