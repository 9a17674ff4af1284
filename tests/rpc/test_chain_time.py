"""Market time of a live chain."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localnet.chain_view import clock_account
from markets.solana.watch.chain_time import ChainTime, Clock, read_clock

from .clock import NS_PER_S

WALL = 1_800_000_000 * NS_PER_S


def test_the_clock_account_is_read_as_it_is_written():
    assert read_clock(clock_account(433_000_001, 1_790_000_000).data) == Clock(433_000_001, 1_790_000_000)


@pytest.mark.parametrize("data", [b"", bytes(39), bytes(40), bytes(41), struct.pack("<QqQQq", 1, 1, 1, 1, -5)])
def test_what_is_no_clock_is_refused(data: bytes):
    with pytest.raises(ValueError, match="Clock sysvar"):
        read_clock(data)


@given(
    offset_s=st.integers(-1_000_000, 1_000_000),
    told=st.lists(st.tuples(st.floats(0, 3), st.floats(-0.4, 0.4)), min_size=1, max_size=40),
)
def test_time_stays_in_the_second_that_the_chain_told_and_never_goes_back(
    offset_s: int, told: list[tuple[float, float]]
):
    time, wall, before, unix = ChainTime(), WALL, 0, 0
    assert not time.known
    for slot, (seconds, jitter) in enumerate(told):
        wall += round(seconds * NS_PER_S)
        # The chain's clock wanders a little against ours, but does not go back.
        unix = max(unix, int(wall / NS_PER_S + offset_s + jitter))
        time.observe(Clock(slot, unix), wall)
        now, state = time.now_ns(wall), time.state_ns(unix, wall)
        assert state // NS_PER_S == unix
        assert state <= now
        assert now >= before
        assert now // NS_PER_S - unix <= 1
        before = now


def test_an_older_slot_does_not_turn_the_clock():
    time = ChainTime()
    time.observe(Clock(10, 1_000), WALL)
    time.observe(Clock(9, 5_000), WALL)
    assert time.now_ns(WALL) == 1_000 * NS_PER_S


def test_a_chain_that_runs_faster_than_we_do_is_followed():
    time = ChainTime()
    for slot in range(10):
        time.observe(Clock(slot, 1_000 + 60 * slot), WALL + slot * NS_PER_S)
    assert time.now_ns(WALL + 9 * NS_PER_S) // NS_PER_S == 1_540
