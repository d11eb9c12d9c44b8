from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.load import load
from gateway.errors import ConfigError
from tests.config.test_load import EXAMPLE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("suffix", [".toml", ".conf"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text())
def test_no_text_raises_anything_but_a_config_error(text: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).isprintable()


_SCALARS = st.one_of(
    st.sampled_from(
        ['"x"', '"15s"', '"off"', '"1.2"', '":1"', '"a:1"', "true", "0", "1", "nan", "[]", "{}", "[[]]"]
    ),
    st.text("abc`$.[] -", max_size=8).map(lambda text: f'"{text}"'),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.integers(0, EXAMPLE.count("\n") - 1), value=_SCALARS)
def test_any_value_under_any_key_loads_or_raises_a_config_error(
    line: int, value: str, tmp_path: Path
) -> None:
    lines = EXAMPLE.splitlines()
    lines[line] = f"{lines[line].partition('=')[0]} = {value}"
    path = tmp_path / "any.toml"
    path.write_text("\n".join(lines))
    try:
        load(path)
    except ConfigError as exc:
        assert str(exc).isprintable()  # noqa: PT017 - either outcome is good
