"""Which keys of one name are one CA: on graphs without certificates, small enough to think of all of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.revocation.entities import Holder, group

NAMES = (b"X", b"Y")


def holder(name: str, key: str) -> Holder:
    return key.encode(), name.encode()


ROOT, SUB, EVIL = holder("Root", "r"), holder("Sub", "s"), holder("Evil", "e")
OLD, NEW, FAKE = holder("X", "old"), holder("X", "new"), holder("X", "fake")
ABOVE = {ROOT: {ROOT}, SUB: {ROOT}, EVIL: {ROOT}}


def one(parents: dict[Holder, set[Holder]], *, anchors: set[Holder] | None = None) -> set[frozenset[Holder]]:
    """The groups of X."""
    anchors = {ROOT} if anchors is None else anchors
    groups = group(ABOVE | parents, anchors)
    return {groups[each] for each in (OLD, NEW, FAKE) if each in groups}


def test_two_keys_certified_by_one_parent_are_one() -> None:
    assert one({OLD: {ROOT}, NEW: {ROOT}}) == {frozenset({OLD, NEW})}
    assert one({OLD: {SUB}, NEW: {SUB}}) == {frozenset({OLD, NEW})}


def test_two_keys_certified_by_different_parents_are_two() -> None:
    assert one({OLD: {SUB}, NEW: {EVIL}}) == {frozenset({OLD}), frozenset({NEW})}
    assert one({OLD: {ROOT}, NEW: {EVIL}}) == {frozenset({OLD}), frozenset({NEW})}


def test_children_of_a_parent_that_changed_its_key_are_one() -> None:
    second = holder("Sub", "s2")

    assert one({second: {ROOT}, OLD: {SUB}, NEW: {second}}) == {frozenset({OLD, NEW})}


def test_a_key_that_certified_the_next_is_one_with_it() -> None:
    assert one({OLD: {SUB}, NEW: {OLD}}) == {frozenset({OLD, NEW})}
    assert one({OLD: {SUB}, NEW: {OLD, NEW}}) == {frozenset({OLD, NEW})}


def test_keys_that_certify_each_other_are_one_whoever_else_certifies_them() -> None:
    assert one({OLD: {SUB, NEW}, NEW: {SUB, OLD}}) == {frozenset({OLD, NEW})}
    assert one({OLD: {SUB, NEW}, NEW: {EVIL, OLD}}) == {frozenset({OLD, NEW})}
    assert one({OLD: {OLD, NEW}, NEW: {NEW, OLD}}, anchors={ROOT, OLD, NEW}) == {frozenset({OLD, NEW})}


def test_who_certifies_the_key_of_another_beside_its_own_joins_nothing() -> None:
    assert one({OLD: {SUB, EVIL}, FAKE: {EVIL}}) == {frozenset({OLD}), frozenset({FAKE})}
    assert one({OLD: {ROOT, EVIL}, FAKE: {EVIL}}) == {frozenset({OLD}), frozenset({FAKE})}


def test_who_certifies_the_key_of_another_in_its_name_joins_nothing() -> None:
    assert one({FAKE: {EVIL}, OLD: {SUB, FAKE}}) == {frozenset({OLD}), frozenset({FAKE})}


def test_a_stranger_cannot_join_an_anchor() -> None:
    assert one({FAKE: {EVIL}, OLD: {OLD, FAKE}}, anchors={ROOT, OLD}) == {frozenset({OLD}), frozenset({FAKE})}
    assert one({FAKE: {EVIL}, OLD: {EVIL}}, anchors={ROOT, OLD}) == {frozenset({OLD}), frozenset({FAKE})}


def test_a_stranger_does_not_get_in_behind_a_key_that_joined_an_anchor() -> None:
    groups = one({OLD: {OLD}, NEW: {OLD, EVIL}, FAKE: {EVIL}}, anchors={ROOT, OLD})

    assert groups == {frozenset({OLD, NEW}), frozenset({FAKE})}


def test_the_word_of_an_anchor_counts_whatever_others_say() -> None:
    assert one({OLD: {ROOT, EVIL}, NEW: {ROOT}, FAKE: {EVIL}}) == {frozenset({OLD, NEW}), frozenset({FAKE})}


def test_two_anchors_of_one_name_need_a_link_too() -> None:
    both = {ROOT, OLD, NEW}
    apart = {frozenset({OLD}), frozenset({NEW})}

    assert one({OLD: {OLD}, NEW: {NEW}}, anchors=both) == apart
    assert one({OLD: set(), NEW: set()}, anchors=both) == apart
    assert one({OLD: {OLD}, NEW: {NEW, OLD}}, anchors=both) == {frozenset({OLD, NEW})}
    assert one({OLD: {ROOT}, NEW: {ROOT}}, anchors=both) == {frozenset({OLD, NEW})}
    assert one({OLD: {OLD, EVIL}, NEW: {NEW, EVIL}}, anchors=both) == apart


_HOLDERS: list[Holder] = [(bytes([key]), name) for key in range(4) for name in NAMES]
_GRAPHS = st.fixed_dictionaries({each: st.sets(st.sampled_from(_HOLDERS), max_size=3) for each in _HOLDERS})
_ANCHORS = st.sets(st.sampled_from(_HOLDERS), max_size=3)


@given(parents=_GRAPHS, anchors=_ANCHORS)
@settings(deadline=None)
def test_it_is_an_equivalence_and_never_joins_two_names(
    parents: dict[Holder, set[Holder]], anchors: set[Holder]
) -> None:
    groups = group(parents, anchors)

    assert set(groups) == set(parents)
    for each, members in groups.items():
        assert each in members
        assert {name for _, name in members} == {each[1]}
        assert all(groups[member] is members for member in members)


@given(parents=_GRAPHS, anchors=_ANCHORS, order=st.permutations(_HOLDERS))
@settings(deadline=None)
def test_the_order_makes_no_difference(
    parents: dict[Holder, set[Holder]], anchors: set[Holder], order: list[Holder]
) -> None:
    assert group(parents, anchors) == group({each: parents[each] for each in order}, anchors)


@given(parents=_GRAPHS, anchors=_ANCHORS, evil=st.sets(st.sampled_from(_HOLDERS)))
@settings(deadline=None)
def test_a_stranger_never_joins_a_key_that_others_certify(
    parents: dict[Holder, set[Holder]], anchors: set[Holder], evil: set[Holder]
) -> None:
    """The graph is honest; whoever is in `evil` is certified by a hostile CA as well."""
    stranger: Holder = (b"evil", b"Evil")
    fakes: list[Holder] = [(b"fake", name) for name in NAMES]
    honest = {each: above or {(b"root", b"Root")} for each, above in parents.items()}
    honest[b"root", b"Root"] = {(b"root", b"Root")}
    trusted = anchors | {(b"root", b"Root")}
    before = group(honest, trusted)

    attacked = {
        each: above | ({stranger, *fakes} if each in evil else set()) for each, above in honest.items()
    }
    attacked[stranger] = {(b"root", b"Root")}
    attacked.update((fake, {stranger}) for fake in fakes)
    after = group(attacked, trusted)

    assert all(after[fake] == {fake} for fake in fakes)
    assert all(after[each] <= before[each] for each in before)
