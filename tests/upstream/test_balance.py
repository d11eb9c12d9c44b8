"""Which broker a client goes to: in turn, to the one with the fewest, or to its own."""

from __future__ import annotations

from collections import Counter

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.balance import FewestFirst, Turns, by_client, identity
from tests.authority import Authority

DER = Encoding.DER
NAMES = st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=8, unique=True)
IDENTITIES = st.binary(max_size=60)
SHARES = st.lists(st.sampled_from([0.0, 0.05, 0.25, 0.5, 1.0]), min_size=1, max_size=6)


def whole(names: list[bytes]) -> list[float]:
    return [1.0] * len(names)


@given(IDENTITIES, NAMES, st.data())
def test_one_that_goes_moves_its_own_clients_alone(
    client: bytes, names: list[bytes], data: st.DataObject
) -> None:
    gone = data.draw(st.integers(0, len(names) - 1))
    shares = [float(number != gone) for number in range(len(names))]
    before = by_client(client, names, whole(names))
    assert by_client(client, names, shares) == [number for number in before if number != gone]


@given(IDENTITIES, NAMES, st.randoms(use_true_random=False))
def test_the_order_in_the_configuration_does_not_matter(
    client: bytes, names: list[bytes], random: object
) -> None:
    shuffled = sorted(names, key=lambda _name: random.random())  # type: ignore[attr-defined]  # Hypothesis's own kind
    chosen = names[by_client(client, names, whole(names))[0]]
    assert shuffled[by_client(client, shuffled, whole(shuffled))[0]] == chosen


@given(IDENTITIES, NAMES)
def test_a_slow_start_moves_no_client(client: bytes, names: list[bytes]) -> None:
    assert by_client(client, names, [0.05] * len(names)) == by_client(client, names, whole(names))


def test_clients_are_spread_evenly_and_those_of_a_lost_broker_too() -> None:
    names = [b"10.0.0.%d:1883" % number for number in range(5)]
    orders = [by_client(b"device-%d" % number, names, whole(names)) for number in range(20_000)]
    # Five standard deviations of a fair deal.
    assert all(abs(found - 4000) < 290 for found in Counter(order[0] for order in orders).values())
    heirs = Counter(order[1] for order in orders if order[0] == 2)
    assert len(heirs) == 4
    assert all(abs(found - 1000) < 150 for found in heirs.values())


def test_one_that_comes_takes_its_part_from_each_and_nobody_else_moves() -> None:
    names = [b"10.0.0.%d:1883" % number for number in range(5)]
    moved: Counter[int] = Counter()
    for number in range(5000):
        client = b"device-%d" % number
        before, after = (by_client(client, some, whole(some))[0] for some in (names[:4], names))
        assert after in (before, 4)
        moved[before] += after == 4
    assert all(170 < found < 330 for found in moved.values())


@given(SHARES)
def test_in_turn_each_gets_its_share_and_those_without_one_get_nobody(shares: list[float]) -> None:
    turns = Turns(len(shares))
    if not any(shares):
        assert turns.order(shares) == []
        return
    rounds = 400
    firsts = Counter(turns.order(shares)[0] for _ in range(rounds))
    for number, share in enumerate(shares):
        assert abs(firsts[number] - rounds * share / sum(shares)) <= len(shares)


@given(SHARES)
def test_who_is_next_in_turn_comes_before_the_others_and_nobody_twice(shares: list[float]) -> None:
    turns, fewest = Turns(len(shares)), FewestFirst()
    able = [number for number, share in enumerate(shares) if share > 0]
    for _ in range(3):
        assert sorted(turns.order(shares)) == sorted(fewest.order(shares, [0] * len(shares))) == able


def test_of_those_with_the_fewest_each_is_next_in_turn() -> None:
    fewest = FewestFirst()
    live = [0, 0, 0]
    for taken in range(1, 10):
        live[fewest.order([1.0] * 3, live)[0]] += 1
        assert max(live) - min(live) <= 1
        assert sum(live) == taken


def test_one_that_starts_slowly_gets_fewer_of_them() -> None:
    fewest, live = FewestFirst(), [10, 0]
    for _ in range(10):
        live[fewest.order([1.0, 0.1], live)[0]] += 1
    assert live[1] < 3


def test_a_renewed_certificate_is_of_the_same_client() -> None:
    ca = Authority.root("CA")
    first, second, other = ca.issue("device"), ca.issue("device"), ca.issue("other")
    assert first.serial != second.serial
    assert identity(first.der) == identity(second.der) != identity(other.der)


def test_what_cannot_be_read_is_known_as_a_whole() -> None:
    assert identity(b"garbage") == b"garbage"


def test_a_certificate_without_a_subject_is_known_by_its_names() -> None:
    ca = Authority.root("CA")
    plain = ca.issue("device")
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.cert.subject)
        .public_key(plain.cert.public_key())
        .serial_number(1)
        .not_valid_before(plain.cert.not_valid_before_utc)
        .not_valid_after(plain.cert.not_valid_after_utc)
    )
    names = x509.SubjectAlternativeName([x509.DNSName("device-7.example")])
    nameless = builder.sign(ca.key, SHA256())
    named = builder.add_extension(names, critical=True).sign(ca.key, SHA256())
    assert identity(named.public_bytes(DER)) == names.public_bytes()
    assert identity(nameless.public_bytes(DER)) == nameless.public_bytes(DER)
