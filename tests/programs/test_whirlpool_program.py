"""The stand-in for Whirlpool against the core and its authors' vectors: amounts, account bytes, and what it refuses."""

from __future__ import annotations

import gzip
import json
import random
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localnet.layouts import token_account
from markets.solana.snapshot import load_snapshot
from markets.solana.venues import whirlpool
from markets.solana.venues.shape import TOKEN_2022_PROGRAM, Instruction, Meta
from tests.pools.build import fee_config, mint_account, tick_array, withheld
from tests.pools.ticks import MAX_TICK, MIN_TICK, sqrt_price

from .compare import compare, still_readable
from .rig import RICH, USER, Rig, address, owned_by, patched
from .whirlpools import MINTS, VAULTS, drawn, made_up, recorded

CODES: dict[str, object] = {
    "divide_by_zero": 6006,
    "number_cast_error": 6007,
    "number_down_cast_error": 6008,
    "sqrt_price_out_of_bounds": 6011,
    "liquidity_overflow": 6014,
    "liquidity_underflow": 6015,
    "token_max_exceeded": 6017,
    "token_min_subceeded": 6018,
    "invalid_tick_array_sequence": 6023,
    "multiplication_shift_right_overflow": 6030,
    "multiplication_overflow": 6033,
    "zero_tradable_amount": 6035,
    "tick_array_sequence_invalid_index": 6038,
    "amount_calc_overflow": 6039,
    "amount_remaining_overflow": 6040,
    # The token program's own word for too little in an account.
    "insufficient_vault": 1,
}
SIMPLE = [(-64 * 40, 64 * 40, 10**14), (-64 * 10, 64 * 7, 10**13)]


def test_chains_of_swaps_are_those_of_the_core() -> None:
    dice = random.Random(1)
    filled = failed = most = 0
    for _ in range(90):
        made = drawn(dice)
        for _ in range(12):
            if not still_readable(made):
                break
            done = compare(made, dice.random() < 0.5, dice.randrange(1, 10 ** dice.randrange(1, 16)), codes=CODES)
            filled, failed = filled + (done.error is None), failed + (done.error is not None)
            most = max(most, done.units if done.error is None else 0)
    assert filled > 600
    assert failed > 100
    assert most < 60_000


@pytest.mark.recorded
def test_recorded_pools_trade_as_the_core_says(recorded_data: Path) -> None:
    [path] = (recorded_data / "solana/whirlpool_snapshots").glob("*.csv.gz")
    dice = random.Random(2)
    rows, filled, failed = load_snapshot(path), 0, 0
    assert len(rows) == 145
    for row in rows:
        made = recorded(row)
        for _ in range(10):
            if not still_readable(made):
                break
            amount = dice.randrange(1, 10 ** dice.randrange(1, 13))
            done = compare(made, dice.random() < 0.5, amount, codes=CODES)
            filled, failed = filled + (done.error is None), failed + (done.error is not None)
    assert filled > 700
    assert failed > 100


def limited(made: Rig, a_to_b: bool, amount: int, limit: int) -> Instruction:
    instruction = made.instruction(a_to_b, amount)
    data = instruction.data
    return replace(instruction, data=data[:24] + limit.to_bytes(16, "little") + data[40:])


@pytest.mark.recorded
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.thorough])])
def test_vectors_of_the_authors_come_out_exactly(recorded_data: Path, every: int) -> None:
    cases: list[dict[str, Any]] = json.loads(
        gzip.decompress((recorded_data / "solana/vectors/orca_swap_test_cases.json.gz").read_bytes())
    )
    exact_in = [case for case in cases if case["amountIsInput"]]
    assert len(exact_in) == 1_920
    filled = failed = 0
    for case in exact_in[::every]:
        tick, spacing, a_to_b = case["currTickIndex"], case["tickSpacing"], case["aToB"]
        start = tick // (88 * spacing) * 88 * spacing
        limit = start - 2 * 88 * spacing if a_to_b else start + 3 * 88 * spacing - 1
        made = made_up(
            [],
            tick=tick,
            spacing=spacing,
            arrays=False,
            price=sqrt_price(tick),
            fee_rate=case["feeRate"],
            protocol_rate=case["protocolFeeRate"],
            rewards=False,
        )
        # Growth and what is owed begin at nothing there.
        fresh = bytes(8) * 2
        pool = (made.pool, whirlpool.PROGRAM, made.data(made.pool))
        for at, new in ((49, int(case["liquidity"]).to_bytes(16, "little")), (85, fresh), (165, fresh), (245, fresh)):
            pool = patched(pool, at, new)
        made.put(pool)
        amount, given, taken = int(case["tradeAmount"]), 1 - a_to_b, int(a_to_b)
        for of, mint, owner, held in (
            (made.wallets[given], MINTS[given], USER, amount),
            (made.wallets[taken], MINTS[taken], USER, 0),
            (VAULTS[given], MINTS[given], made.pool, 0),
            (VAULTS[taken], MINTS[taken], made.pool, 2**64 - 1),
        ):
            made.put(token_account(of, mint, owner, held))
        before, edge = made.holdings(), sqrt_price(max(MIN_TICK, min(MAX_TICK, limit)))
        done = made.run(limited(made, a_to_b, amount, edge))
        expected = case["expectation"]
        if expected["exception"]:
            failed += 1
            name = re.sub("(?<!^)(?=[A-Z])", "_", expected["exception"]).lower()
            assert done.code == CODES[name], (case, done)
            continue
        filled += 1
        assert done.error is None, (case, done)
        data = made.data(made.pool)
        moved = [abs(now - then) for now, then in zip(made.holdings(), before, strict=True)]
        assert moved == [int(expected["amountA"]), int(expected["amountB"])]
        owed, growth = (85, 165) if a_to_b else (93, 245)
        assert [int.from_bytes(data[at : at + size], "little") for at, size in ((49, 16), (65, 16), (owed, 8))] == [
            int(expected[name]) for name in ("nextLiquidity", "nextSqrtPrice", "nextProtocolFee")
        ]
        assert struct.unpack_from("<i", data, 81)[0] == expected["nextTickIndex"]
        assert int.from_bytes(data[growth : growth + 16], "little") == int(expected["nextFeeGrowthGlobal"])
    assert filled >= 1_236 // every - 20
    assert filled + failed == len(exact_in[::every])
    assert failed > 50


def test_absent_arrays_are_passed_as_empty_ones() -> None:
    made = made_up([(-64 * 300, 64 * 300, 10**12)], arrays=False, tick=5)
    assert not made.data(whirlpool.tick_array(made.pool, 0))
    for a_to_b in (True, False, False, True):
        assert compare(made, a_to_b, 10**11).error is None


def test_two_swaps_fit_one_transaction_and_its_default_budget() -> None:
    made = made_up(SIMPLE, spacing=64, tick=100)
    there, back = made.instruction(True, 10**9), made.instruction(False, 9 * 10**8)
    done = made.run(there, back)
    assert done.error is None
    assert done.units < 40_000


def test_transfer_fees_are_those_of_token_2022() -> None:
    dice = random.Random(3)
    made = made_up(SIMPLE, tick=100)
    mint = mint_account(MINTS[1], owner=TOKEN_2022_PROGRAM, extensions=fee_config(120, 10**9))
    made.put(mint)
    made.accounts.append(mint)
    for of in (VAULTS[1], made.wallets[1]):
        made.put((of, TOKEN_2022_PROGRAM, made.data(of) + b"\x02" + withheld()))
    made.accounts = [(raw[0], TOKEN_2022_PROGRAM if raw[0] == VAULTS[1] else raw[1], raw[2]) for raw in made.accounts]
    for _ in range(30):
        a_to_b, amount = dice.random() < 0.5, dice.randrange(10, 10**12)
        before, (after, moved) = made.holdings(), made.model().swap(a_to_b, amount)
        assert made.swap(a_to_b, amount).error is None
        change = [now - then for now, then in zip(made.holdings(), before, strict=True)]
        assert change == ([-moved.amount_in, moved.amount_out] if a_to_b else [moved.amount_out, -moved.amount_in])
        assert made.raws()[0] == after.accounts()[0]


def test_the_least_amount_holds() -> None:
    made = made_up(SIMPLE)
    out = made.model().quote_in(True, 10**9).amount_out
    assert made.swap(True, 10**9, out + 1).code == 6036
    assert made.holdings() == [RICH, RICH]
    assert made.swap(True, 10**9, out).error is None


OTHER = address("other")
OTHER_ARRAY, FAR_ARRAY, FOREIGN_ARRAY = address("array-x"), address("array-far"), address("array-foreign")
HOSTILE = {
    "no token program": (0, Meta(OTHER), 3008),
    "the other token program": (1, Meta(TOKEN_2022_PROGRAM), 2012),
    "no memo program": (2, Meta(OTHER), 3008),
    "authority does not sign": (3, Meta(OTHER), 3010),
    "a pool of nobody": (4, Meta(OTHER, writable=True), 3007),
    "an array as the pool": (4, Meta(FAR_ARRAY, writable=True), 3002),
    "pool cannot be written": (4, None, 2000),
    "another mint": (5, Meta(MINTS[1]), 2012),
    "source of the other token": (7, Meta(address("wallet-1"), writable=True), 2003),
    "source is another's": (7, Meta(address("victim"), writable=True), 4),
    "source is no token account": (7, Meta(OTHER, writable=True), 3007),
    "a vault of our own": (8, Meta(address("vault-x"), writable=True), 2012),
    "the vault given as the one taken": (10, Meta(VAULTS[0], writable=True), 2012),
    "first array is not there": (11, Meta(OTHER, writable=True), 6023),
    "first array is far away": (11, Meta(FAR_ARRAY, writable=True), 6023),
    "an array of another pool": (12, Meta(OTHER_ARRAY, writable=True), 6056),
    "an array of another program": (12, Meta(FOREIGN_ARRAY, writable=True), 3007),
    "array cannot be written": (13, Meta(FAR_ARRAY), 2000),
    "another oracle": (14, Meta(OTHER, writable=True), 2006),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_accounts_are_refused(case: str) -> None:
    position, meta, code = HOSTILE[case]
    made = made_up(SIMPLE)
    span = 88 * 64
    made.put((OTHER_ARRAY, whirlpool.PROGRAM, tick_array(-span, {3: 10**20}, pool=OTHER)))
    made.put((FAR_ARRAY, whirlpool.PROGRAM, tick_array(50 * span, {}, pool=made.pool)))
    made.put((FOREIGN_ARRAY, OTHER, tick_array(-span, {3: 10**20}, pool=made.pool)))
    made.put(token_account(address("vault-x"), MINTS[0], made.pool, 10**15))
    made.put(owned_by(token_account(address("victim"), MINTS[0], USER, 10**15), OTHER))
    made.tampered[position] = meta or Meta(made.pool)
    before = {of: made.data(of) for of in (made.pool, *VAULTS, *made.wallets, address("victim"))}
    assert made.swap(True, 10**9).code == code
    assert {of: made.data(of) for of in before} == before
    made.tampered.clear()
    assert made.swap(True, 10**9).error is None


def test_a_swap_ends_where_its_arrays_do() -> None:
    """The second array is missing: what stays in the first goes through, what leaves it does not."""
    made = made_up([(-64 * 300, 64 * 300, 10**12)])
    made.tampered[12] = made.tampered[13] = Meta(FAR_ARRAY, writable=True)
    made.put((FAR_ARRAY, whirlpool.PROGRAM, tick_array(50 * 88 * 64, {}, pool=made.pool)))
    assert made.swap(False, 10**10).error is None
    assert made.swap(False, 10**12).code == 6038
    made.tampered.clear()
    assert made.swap(False, 10**11).error is None


def test_what_is_not_built_is_refused() -> None:
    made = made_up(SIMPLE)
    instruction = made.instruction(True, 10**9)
    data = instruction.data
    exact_out, extra_accounts = data[:40] + b"\0" + data[41:], data[:42] + b"\1" + bytes(8)
    swap_v1 = bytes.fromhex("f8c69e91e17587c8") + data[8:]
    for other, code in ((exact_out, 77002), (extra_accounts, 77002), (swap_v1, 77001), (b"", 77001), (data[:42], 102)):
        assert made.run(replace(instruction, data=other)).code == code
    assert made.run(replace(instruction, metas=instruction.metas[:14])).code == 3005
    moving_fee = patched((made.pool, whirlpool.PROGRAM, made.data(made.pool)), 43, struct.pack("<H", 1_025))
    made.put(moving_fee)
    assert made.run(instruction).code == 77002


@pytest.mark.parametrize("place", [0, 1, 63, 64, 65, 87])
def test_dynamic_arrays_are_read_at_every_place(place: int) -> None:
    """Ticks in a row on both sides of the place, so that what is counted before each matters."""
    spacing = 8
    ranges = [(spacing * at, spacing * (at + 1), 10**9 * (at + 1)) for at in range(88)]
    made = made_up([*ranges, (-4_000, 4_000, 10**10)], spacing=spacing, tick=spacing * place, dynamic=1)
    assert made.data(whirlpool.tick_array(made.pool, 0))[:8] == bytes.fromhex("11d8f68ee1c7da38")
    crossed = 0
    for a_to_b in (True, False, False, True):
        crossed += made.model().quote_in(a_to_b, 10**8).ticks_crossed
        assert compare(made, a_to_b, 10**8).error is None
    assert crossed > 4


def test_a_dynamic_array_that_is_cut_short_is_no_way_out() -> None:
    made = made_up([(-512, 512, 10**12)], dynamic=1)
    home = whirlpool.tick_array(made.pool, 0)
    data = made.data(home)
    instruction = made.instruction(False, 10**9)
    for short, code in ((data[:147], 3002), (data[:20], 3002), (data[:4], 3002)):
        made.put((home, whirlpool.PROGRAM, short))
        assert made.run(instruction).code == code


def test_limits_are_those_of_the_core() -> None:
    made = made_up(SIMPLE, tick=0)
    for tick in (-5, -700, -20):
        model, limit = made.model(), sqrt_price(tick)
        before, done = made.holdings(), made.run(limited(made, True, 10**13, limit))
        if limit > int(str(model.info()["sqrt_price"])):
            assert done.code == 6034
            continue
        after, moved = model.swap(True, 10**13, limit)
        change = [now - then for now, then in zip(made.holdings(), before, strict=True)]
        assert change == [-moved.amount_in, moved.amount_out]
        assert made.raws() == after.accounts()
    assert made.run(limited(made, True, 10**9, 4_295_048_015)).code == 6011
