"""Which protocol is selected (RFC 7301, section 3.2)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.native import Protocols

NAMES = st.lists(st.binary(min_size=1, max_size=255).filter(lambda name: 0 not in name) | st.just(b"mqtt"))


def test_the_listeners_order_counts() -> None:
    protocols = Protocols([b"mqtt", b"x-amzn-mqtt-ca"])
    assert protocols.select([b"h2", b"x-amzn-mqtt-ca", b"mqtt"]) == b"mqtt"
    assert protocols.select([b"x-amzn-mqtt-ca"]) == b"x-amzn-mqtt-ca"


def test_a_part_of_a_name_is_another_name() -> None:
    protocols = Protocols([b"mqtt"])
    for other in (b"mqt", b"mqttt", b"tmqtt", b"m\x04mqtt"):
        assert protocols.select([other]) is None


@given(own=NAMES, offered=NAMES)
def test_it_is_the_first_of_ours_that_is_offered(own: list[bytes], offered: list[bytes]) -> None:
    expected = next((name for name in own if name in offered), None)
    assert Protocols(own).select(offered) == expected
