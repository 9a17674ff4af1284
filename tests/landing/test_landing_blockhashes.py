"""Which blockhash is signed with: old enough to be decided soon, and never one that may have run out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.solana.landing.blockhashes import LIFETIME, BlockhashBook


def book(*heights: int, first_slot: int = 1_000) -> BlockhashBook:
    """Hashes named by the height at which they were the newest, a slot per block."""
    made = BlockhashBook()
    for height in heights:
        made.note(f"hash-{height}", height + LIFETIME, first_slot + height)
    return made


def test_the_oldest_that_lives_long_enough() -> None:
    known = book(*range(0, 150, 10))
    now = 1_000 + 140
    chosen = known.choose(now, 40)
    assert chosen is not None
    assert (chosen.hash, known.left(chosen, now)) == ("hash-30", 40)
    # Ten slots later that one has 30 blocks left.
    later = known.choose(now + 10, 40)
    assert later is not None
    assert later.hash == "hash-40"
    assert known.choose(now + 101, 40) is not None
    assert known.choose(now + 111, 40) is None


def test_nothing_is_known_at_first() -> None:
    assert BlockhashBook().choose(5, 1) is None
    assert BlockhashBook().height_at(5) == 0


def test_a_node_that_is_behind_tells_nothing_new() -> None:
    known = book(100)
    known.note("stale", 20 + LIFETIME, 1_020)
    assert known.height == 100
    chosen = known.choose(1_100, 40)
    # Had the stale node been believed, its hash would have 150 blocks left; it has 70.
    assert chosen is not None
    assert (chosen.hash, known.left(chosen, 1_100)) == ("stale", 70)
    assert known.choose(1_100, 71) is not None
    assert known.choose(1_140, 40) != chosen


def test_a_hash_that_has_run_out_is_not_chosen() -> None:
    known = book(200)
    known.note("old", 210, 1_200)
    chosen = [known.choose(1_200 + waited, lifetime) for waited, lifetime in ((0, 10), (0, 11), (1, 10), (11, 0))]
    assert [one.hash if one is not None else "" for one in chosen] == ["old", "hash-200", "hash-200", "hash-200"]


def test_slots_without_a_block_only_make_it_older_than_it_is() -> None:
    known = book(100)
    known.note("next", 101 + LIFETIME, 1_150)  # one block in fifty slots
    assert known.height == 101
    assert known.height_at(1_160) == 111


def test_a_fork_goes_back_and_the_height_does_not() -> None:
    known = book(100, 101, 102)
    known.note("fork", 99 + LIFETIME, 1_103)
    assert known.height_at(1_103) == 103


@pytest.mark.parametrize("height", [9_000_000, 5])
def test_one_answer_of_another_chain_changes_nothing(height: int) -> None:
    known = book(*range(2_000, 2_100, 10))
    known.note("elsewhere", height + LIFETIME, 9_500_000)
    assert known.height_at(3_090) == 2_090
    known.note("hash-2100", 2_100 + LIFETIME, 3_100)
    chosen = known.choose(3_100, 40)
    assert chosen is not None
    assert (chosen.hash, known.height_at(3_100)) == ("hash-2000", 2_100)


def test_a_first_answer_of_another_chain_is_outvoted() -> None:
    known = BlockhashBook()
    known.note("elsewhere", 9_000_000 + LIFETIME, 9_500_000)
    for height in range(2_000, 2_005):
        known.note(f"hash-{height}", height + LIFETIME, 1_000 + height)
    chosen = known.choose(3_005, 40)
    assert chosen is not None
    assert (chosen.hash, known.height_at(3_005)) == ("hash-2004", 2_005)


def test_no_more_are_kept_than_can_be_used() -> None:
    known = book(*range(400))
    chosen = known.choose(1_399, 1)
    assert chosen is not None
    assert chosen.hash == "hash-250"
    known.clear()
    assert known.choose(1_399, 1) is None


@given(
    blocks=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 30)), min_size=1, max_size=120),
    lifetime=st.integers(1, 150),
    waited=st.integers(0, 60),
)
def test_whatever_is_told_in_whatever_order_what_is_chosen_lives(
    blocks: list[tuple[int, int]], lifetime: int, waited: int
) -> None:
    """Slots may lack blocks and nodes may be behind; the true height is never above the one that is counted with."""
    known, slot, height, told = BlockhashBook(), 1_000, 500, []
    for skipped, behind in blocks:
        slot, height = slot + skipped, height + 1
        told.append((f"hash-{height}", height + LIFETIME, slot))
        known.note(*told[max(0, len(told) - 1 - behind)])
    newest = max(one[2] for one in told)
    chosen = known.choose(newest + waited, lifetime)
    if chosen is not None and known.height == height:
        # At most one block per slot came since.
        assert chosen.last_valid_block_height - (height + waited) >= lifetime
