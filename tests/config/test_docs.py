from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import emqx_keys, model, reference
from gateway.config.load import load
from gateway.config.rules import RuleError, refuse_violations

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()
TLS_KEYS = {
    *("trust", "verify_depth", "client_extended_key_usage", "tls_versions", "ciphers", "groups"),
    "session_tickets",
}


def test_the_page_has_the_tables_that_the_model_makes() -> None:
    """If it has not: `make docs`. What a key means stands below its field in gateway/config/model.py."""
    assert reference.rendered(PAGE) == PAGE


def test_what_is_written_by_hand_stays_and_what_is_not_is_written_anew() -> None:
    changed = PAGE.replace("| `workers` |", "| `workrs` |").replace("# Configuration\n", "# By hand\n")
    assert reference.rendered(changed) == PAGE.replace("# Configuration\n", "# By hand\n")


def test_every_key_has_a_row_of_one_line() -> None:
    for table in reference.tables():
        for name in table.struct.__struct_fields__:
            assert len(re.findall(rf"^\| `{name}` \|(?:[^|\n]+\|){{3}}$", PAGE, re.MULTILINE)) >= 1, name


@pytest.mark.parametrize(
    "page",
    [
        "",
        PAGE.replace("gateway/config/model.py: `[log]` -->", "gateway/config/model.py: `[logs]` -->"),
        PAGE.replace("<!-- By hand again. -->", "", 1),
    ],
)
def test_a_page_without_a_place_for_each_table_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="expected tables between comments for Top level, "):
        reference.rendered(page)


POSITIVE = [
    (table.path.strip("[]"), name)
    for table in reference.tables()
    for name, kind in reference.hints(table.struct).items()
    if kind == model.PositiveDuration
]


@pytest.mark.parametrize(("table", "key"), POSITIVE)
def test_a_duration_that_is_said_to_be_above_0_is_held_to_it(table: str, key: str) -> None:
    listener = model.Listener(
        name="external",
        bind=(model.Address("127.0.0.1", 8883),),
        upstreams=(model.Address("127.0.0.1", 1883),),
        certificates=(model.Certificate(cert=Path("cert"), key=Path("key")),),
        client_ca=Path("ca"),
    )
    config = model.Config(listeners=(listener,))
    refuse_violations(config)
    with pytest.raises(RuleError, match=f"{key}: expected a duration above 0"):
        refuse_violations(with_zero(config, [*table.split("."), key] if table else [key]))


def with_zero(struct: Any, path: list[str]) -> Any:
    """The struct with the duration at `path` set to nothing; of an array, that of its first element."""
    name, *rest = path
    old = getattr(struct, name)
    new: Any = model.Duration(0)
    if rest:
        new = (with_zero(old[0], rest),) if isinstance(old, tuple) else with_zero(old, rest)
    return msgspec.structs.replace(struct, **{name: new})


@pytest.mark.parametrize("key", [*emqx_keys.LISTENER_KEYS, *emqx_keys.GLOBAL_KEYS])
def test_every_emqx_key_is_documented(key: str) -> None:
    assert f"{key}`" in PAGE.partition("\n## EMQX 4.4 keys\n")[2]


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
