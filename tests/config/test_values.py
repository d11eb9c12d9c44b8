from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import values
from gateway.config.model import Address, Duration, Size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15s", 15),
        ("500ms", 0.5),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1m30s", 90),
        ("0s", 0),
        ("1s1ms", 1.001),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "15", "s", "-1s", "1.5s", "1s1m", "1s1s", " 1s", "1 s", "1s\n", "\u0661s", "5w", "1e3s"]
)
def test_no_other_text_is_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a duration such as "):
        values.parse_duration(text)


def test_a_duration_is_bounded_to_what_every_clock_can_hold() -> None:
    assert values.parse_duration("3650d") == Duration(3650 * 86400)
    with pytest.raises(ValueError, match=r"^expected a duration of at most 3650d$"):
        values.parse_duration("3650d1ms")


@given(st.integers(0, 3650 * 86_400_000))
def test_a_written_duration_reads_back_equal(milliseconds: int) -> None:
    duration = Duration(milliseconds / 1000)
    assert values.parse_duration(values.format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(900, "15m"), (90, "90s"), (0.25, "250ms"), (5400, "90m"), (3661, "1h1m1s"), (0, "0s")],
)
def test_a_duration_is_written_as_people_write_it(seconds: float, text: str) -> None:
    assert values.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "size"),
    [(4096, 4096), ("4096", 4096), ("10B", 10), ("64KiB", 65536), ("256MiB", 256 << 20), ("1GiB", 1 << 30)],
)
def test_a_size_is_read_in_bytes(value: str | int, size: int) -> None:
    assert values.parse_size(value) == size


@pytest.mark.parametrize("value", ["", "KiB", "1KB", "1.5MiB", "-1", "1 MiB", "9" * 5000])
def test_no_other_text_is_a_size(value: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a size such as "):
        values.parse_size(value)


@pytest.mark.parametrize("value", [0, -1, "0MiB", "1025GiB", 1 << 80])
def test_a_size_is_at_least_a_byte_and_at_most_a_tebibyte(value: str | int) -> None:
    with pytest.raises(ValueError, match=r"^expected a size from 1 byte to 1024GiB$"):
        values.parse_size(value)


@given(st.integers(1, 1 << 40))
def test_a_written_size_reads_back_equal(size: int) -> None:
    assert values.parse_size(values.format_size(size)) == Size(size)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8883", Address("0.0.0.0", 8883)),
        (":8883", Address("", 8883)),
        ("[::1]:8883", Address("::1", 8883)),
        ("[0:0::1]:1", Address("::1", 1)),
        ("Broker.example:1883", Address("broker.example", 1883)),
        ("emqx_1:65535", Address("emqx_1", 65535)),
        ("unix:/run/broker.sock", Address(path="/run/broker.sock")),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert values.parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8883", 'expected "host:port", "[IPv6]:port" or "unix:/path"'),
        ("a b:1", 'expected "host:port", "[IPv6]:port" or "unix:/path"'),
        ("-x:1", 'expected "host:port", "[IPv6]:port" or "unix:/path"'),
        ("a" * 64 + ".example:1", 'expected "host:port", "[IPv6]:port" or "unix:/path"'),
        ("a." * 127 + ":1", 'expected "host:port", "[IPv6]:port" or "unix:/path"'),
        ("host:0", "expected a port from 1 to 65535"),
        ("host:65536", "expected a port from 1 to 65535"),
        ("host:x", "expected a port from 1 to 65535 behind the last ':'"),
        ("host:", "expected a port from 1 to 65535 behind the last ':'"),
        ("host:" + "9" * 5000, "expected a port from 1 to 65535 behind the last ':'"),
        ("host:²", "expected a port from 1 to 65535 behind the last ':'"),
        ("::1:8883", 'expected brackets around an IPv6 address, as in "[::1]:8883"'),
        ("[1.2.3.4]:1", "expected an IPv6 address in brackets"),
        ("1.2.3.256:1", "expected an IPv4 address"),
        ("unix:broker.sock", 'expected an absolute path behind "unix:"'),
        ("unix:/" + "a" * 107, "expected a socket path of at most 107 bytes"),
    ],
)
def test_no_other_text_is_an_address(text: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        values.parse_address(text)
    assert str(caught.value) == expected


@given(st.text(alphabet=st.sampled_from("[]:.-_aA019%/unix\0 "), max_size=20))
def test_an_address_that_was_read_writes_itself_so_that_it_reads_back_equal(text: str) -> None:
    try:
        address = values.parse_address(text)
    except ValueError as exc:
        assert str(exc).startswith("expected ")  # noqa: PT017 - either outcome is good
    else:
        assert values.parse_address(str(address)) == address


def test_addresses_are_values() -> None:
    assert {Address("a", 1), Address("a", 1)} == {Address("a", 1)}
    assert Address("a", 1) != "a:1"
    assert repr(Address("::1", 1)) == "Address('[::1]:1')"


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans()))
def test_a_shown_value_is_one_short_line(value: object) -> None:
    shown = values.show(value)
    assert shown.isprintable()
    assert len(shown) <= 60 * len("\\U00000000")


def test_a_number_too_long_to_be_written_is_shown_all_the_same() -> None:
    assert values.show(1 << 100_000) == "a number of more than 64 bits"
