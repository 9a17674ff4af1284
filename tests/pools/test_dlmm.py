"""Meteora DLMM: the native core against plain Python and against swaps that the program itself computed."""

from __future__ import annotations

import base64
import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.solana.pools import Pool, PoolRefused, QuoteError, Searcher
from pipeline.messages import Protocol

from .build import MINT_A, MINT_B, NOW, POOL, SLOT, VAULT_A, Raw, fee_config, key, mint_account, token_account
from .dlmm import ARRAY, DLMM, Bin, Pair, bin_price
from .reference import TOKEN_2022
from .ticks import SwapFails

D = Protocol.METEORA_DLMM
SWAPS = json.loads((Path(__file__).parent / "dlmm_swaps.json").read_text(encoding="utf-8"))

amounts = st.integers(1, 10**6) | st.integers(10**6, 10**13) | st.integers(1, 2**64 - 1)
reserves = st.integers(1, 20) | st.integers(1, 10**12)


def parse(accounts: list[Raw], now: int = NOW, slot: int = SLOT) -> Pool:
    return Pool.parse(D, POOL, accounts, slot, 0, now)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """Bins around an active one, some empty, with limit orders where there may be some, whole arrays missing."""
    step = draw(st.sampled_from([1, 10, 25, 100, 400]))
    farthest = min(436_000, 300_000 // step)
    active = draw(st.integers(-100, 100) | st.integers(-farthest, farthest))
    pair = Pair(
        step=step,
        base_factor=draw(st.sampled_from([0, 1_000, 10_000, 60_000])),
        power=draw(st.sampled_from([0, 0, 0, 1])),
        control=draw(st.sampled_from([0, 7_500, 500_000])),
        function=draw(st.sampled_from([0, 1, 2])),
        fee_mode=draw(st.integers(0, 1)),
        active=active,
        index_reference=active + draw(st.integers(-30, 30)),
        accumulator=draw(st.integers(0, 300_000)),
        reference=draw(st.integers(0, 100_000)),
        updated=NOW - draw(st.integers(0, 60) | st.integers(0, 1_000)),
        share=draw(st.sampled_from([0, 500, 2_500])),
    )
    for _ in range(draw(st.integers(1, 12))):
        bin_id = active + draw(st.integers(-10, 10) | st.integers(-300, 300))
        this = Bin(price=bin_price(bin_id, step))
        if bin_id <= active:
            this.y = draw(reserves)
        if bin_id >= active:
            this.x = draw(reserves)
        if pair.function == 2 and draw(st.booleans()):
            this.asks = draw(st.booleans())
            this.processed, this.open = draw(st.just(0) | reserves), draw(st.just(0) | reserves)
        pair.bins[bin_id] = this
    here = pair.array_of(active)
    pair.absent = frozenset(i for i in pair.marked if i != here and draw(st.integers(0, 9)) == 0)
    pair.bins = {bin_id: this for bin_id, this in pair.bins.items() if pair.array_of(bin_id) not in pair.absent}
    return pair


@given(pairs(), st.lists(st.tuples(st.booleans(), st.booleans(), amounts, st.integers(0, 700)), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_chains_of_swaps_are_plain_python(pair: Pair, orders: list[tuple[bool, bool, int, int]]) -> None:
    pool, now = parse(pair.accounts()), NOW
    for a_to_b, exact_in, amount, later in orders:
        now += later
        pool = pool.at(SLOT, 0, now)
        following = copy.deepcopy(pair)
        try:
            moved = following.swap(a_to_b, amount, exact_in, now)
        except SwapFails:
            moved = None
        if moved is None or moved.amount_out == 0:
            with pytest.raises(QuoteError):
                pool.swap(a_to_b, amount, exact_in=exact_in)
            continue
        after, quote = pool.swap(a_to_b, amount, exact_in=exact_in)
        assert (quote.amount_in, quote.amount_out) == (moved.amount_in, moved.amount_out)
        assert quote.fee_amount == (0 if pair.fee_mode == 1 and a_to_b else moved.fee)
        assert Pair.parse(after.accounts()).state() == following.state()
        restored = Pool.from_snapshot(after.snapshot())
        assert restored == after == parse(after.accounts(), now)
        pool, pair = after, following


@given(pairs(), st.booleans(), amounts, amounts)
@settings(max_examples=200, deadline=None)
def test_more_in_never_gives_less_and_a_round_trip_never_pays(pair: Pair, a_to_b: bool, one: int, other: int) -> None:
    # What an order sells below the price, or asks above it, would be traded away at once: such a round trip pays.
    for bin_id, this in pair.bins.items():
        this.asks = bin_id > pair.active or (bin_id == pair.active and this.asks)
    pool = parse(pair.accounts())
    try:
        less, (after, more) = pool.quote_in(a_to_b, min(one, other)), pool.swap(a_to_b, max(one, other))
    except QuoteError:
        return
    assert less.amount_out <= more.amount_out
    try:
        back = after.quote_in(not a_to_b, more.amount_out)
    except QuoteError:
        return
    assert back.amount_out <= more.amount_in


@given(pairs(), st.booleans(), amounts)
@settings(max_examples=200, deadline=None)
def test_exact_out_is_had_for_its_price(pair: Pair, a_to_b: bool, amount: int) -> None:
    # From the output, the fee may take all that a bin of dust gives: exact output passes it over, exact input does not.
    pair.fee_mode = 0
    pool = parse(pair.accounts())
    try:
        wanted = pool.quote_out(a_to_b, amount)
        given_back = pool.quote_in(a_to_b, wanted.amount_in)
    except QuoteError:
        return
    assert wanted.amount_out == amount
    assert given_back.amount_out >= amount


@pytest.mark.parametrize("case", SWAPS["swaps"], ids=lambda case: case["note"])
def test_swaps_of_the_program(case: dict[str, Any]) -> None:
    fields = dict(zip(SWAPS["fields"], case["pair"], strict=True))
    fields["rewards"] = bool(fields["rewards"])
    pair = Pair(**fields)
    for bin_id, x, y, waiting, processed, asks in case["bins"]:
        pair.bins[bin_id] = Bin(x, y, bin_price(bin_id, pair.step), processed, waiting, bool(asks))
    expected = (case["amount_in"], case["amount_out"])
    pool = parse(pair.accounts(), case["clock"])
    after, quote = pool.swap(case["a_to_b"], case["amount_in"])
    assert (quote.amount_in, quote.amount_out) == expected
    assert after.info()["active_bin"] == case["stopped"]
    moved = pair.swap(case["a_to_b"], case["amount_in"], now=case["clock"])
    assert (moved.amount_in, moved.amount_out, moved.fee) == (*expected, case["fee"])
    if pair.fee_mode == 0:
        assert quote.fee_amount == case["fee"]


def simple(**options: Any) -> Pair:
    bins = {i: Bin(price=bin_price(i, 25)) for i in range(-5, 6)}
    for i, this in bins.items():
        this.x, this.y = (10**9 if i >= 0 else 0), (10**9 if i <= 0 else 0)
    return Pair(bins=bins, **options)


def refusal(accounts: list[Raw], now: int = NOW, slot: int = SLOT) -> str:
    with pytest.raises(PoolRefused) as caught:
        parse(accounts, now, slot)
    return caught.value.reason


def changed(accounts: list[Raw], which: int, at: int, value: bytes) -> list[Raw]:
    address, owner, data = accounts[which]
    return [*accounts[:which], (address, owner, data[:at] + value + data[at + len(value) :]), *accounts[which + 1 :]]


def test_refusals() -> None:
    good = simple().accounts()
    parse(good)
    assert refusal([]) == "missing_account"
    assert refusal(changed(good, 0, 0, b"\0")) == "wrong_discriminator"
    assert refusal([(POOL, key(1), good[0][2]), *good[1:]]) == "wrong_owner"
    assert refusal([(POOL, DLMM, good[0][2][:-1]), *good[1:]]) == "short_data"
    assert refusal(simple(status=1).accounts()) == "swap_disabled"
    assert refusal(changed(good, 2, 24, b"\1")) == "foreign_account"
    assert refusal(changed(good, 1, 8, b"\1")) == "foreign_account"
    assert refusal(changed(good, 3, 8, (-1).to_bytes(8, "little", signed=True))) == "duplicate_account"
    assert refusal(changed(good, 3, 8, b"\xff\xff")) == "bad_bin_array"
    assert refusal(changed(good, 3, 56 + 16, bytes(16))) == "bad_bin"
    assert refusal(simple(step=0).accounts()) == "bad_pool"
    assert refusal(simple(reduction=10_001).accounts()) == "bad_pool"
    assert refusal(simple(share=10_001).accounts()) == "bad_pool"
    assert refusal(simple(power=19).accounts()) == "bad_pool"
    assert refusal([*good[:-2], token_account(VAULT_A, MINT_A, 5), good[-1]]) == "bad_pool"


@pytest.mark.parametrize(("at", "value"), [(35, 3), (36, 2), (75, 4), (86, 2), (880, 2)])
def test_what_is_not_known_is_refused(at: int, value: int) -> None:
    assert refusal(changed(simple().accounts(), 0, at, bytes([value]))) == "unknown_mode"


@pytest.mark.parametrize("kind", [1, 2])
def test_pairs_that_open_at_a_point_in_time(kind: int) -> None:
    by_slot = simple(kind=kind, activation=(0, SLOT)).accounts()
    parse(by_slot)
    assert refusal(by_slot, slot=SLOT - 1) == "not_open"
    by_time = simple(kind=kind, activation=(1, NOW)).accounts()
    parse(by_time)
    assert refusal(by_time, now=NOW - 1) == "not_open"


def test_arrays_that_are_not_given_end_what_is_known() -> None:
    pair = simple(absent=frozenset({1, -2}))
    pool = parse(pair.accounts())
    assert pool.info()["bin_arrays"] == [-1, 0]
    assert pool.info()["more_unknown"] == (True, True)
    for a_to_b in (True, False):
        with pytest.raises(QuoteError, match="bin_array_missing"):
            pool.quote_in(a_to_b, 10**15)
    assert refusal([account for account in pair.accounts() if account[0] != key(10_000)]) == "missing_account"
    whole = parse(simple().accounts())
    with pytest.raises(QuoteError, match="pair_insufficient_liquidity"):
        whole.quote_in(True, 10**15)
    # Without the extension nobody knows what lies beyond the pair's own bitmap.
    assert parse(simple().accounts(extension=False)).info()["more_unknown"] == (True, True)
    far = Pair(active=36_000, step=1, bins={36_000: Bin(5, 5)})
    assert parse(far.accounts()).info()["bin_arrays"] == [514]
    assert refusal(far.accounts(extension=False)) == "missing_account"


def test_a_swap_visits_three_arrays() -> None:
    bins = {70 * i: Bin(y=10**6) for i in range(4)}
    pool = parse(Pair(active=210, bins=bins, step=1).accounts())
    assert pool.quote_out(True, 3 * 10**6).amount_out == 3 * 10**6
    with pytest.raises(QuoteError, match="too_many_bin_arrays"):
        pool.quote_out(True, 3 * 10**6 + 1)


def test_limit_orders_where_there_may_be_none_are_refused() -> None:
    orders = {0: Bin(x=10**6, open=5, asks=True)}
    assert parse(Pair(bins=orders, function=2).accounts()).info()["limit_orders"] is True
    assert parse(Pair(bins=orders, function=0).accounts()).info()["limit_orders"] is True
    assert refusal(Pair(bins=orders, function=0, rewards=True).accounts()) == "unclear_orders"
    assert refusal(Pair(bins=orders, function=2, version=0).accounts()) == "unclear_orders"
    # A pair that pays rewards keeps other figures there: no vault has to hold them.
    others = Pair(bins={0: Bin(x=10**6, open=2**60, asks=True)}, function=1).accounts(vaults=False)
    pool = parse([*others, token_account(VAULT_A, MINT_A, 10**6)])
    assert pool.info()["limit_orders"] is False
    assert pool.quote_out(False, 10**6).amount_out == 10**6
    with pytest.raises(QuoteError, match="insufficient_liquidity"):
        pool.quote_out(False, 10**6 + 1)


def test_transfer_fees() -> None:
    fee_b = mint_account(MINT_B, owner=TOKEN_2022, extensions=fee_config(200, 2**64 - 1))
    accounts = simple(programs=(0, 1)).accounts(vaults=False)
    assert refusal(accounts) == "missing_account"
    pool, plain = parse([*accounts, fee_b]), parse(simple().accounts())
    there, without = pool.quote_in(True, 10**9), plain.quote_in(True, 10**9)
    assert there.amount_out == without.amount_out + -without.amount_out * 200 // 10_000
    back = pool.quote_in(False, 10**9)
    assert back.amount_out == plain.quote_in(False, 10**9 - 10**9 * 200 // 10_000).amount_out
    wanted = pool.quote_out(True, 10**8)
    assert pool.quote_in(True, wanted.amount_in).amount_out >= 10**8


def test_price_limits_are_not_known_here() -> None:
    with pytest.raises(QuoteError, match="price_limit_unsupported"):
        parse(simple().accounts()).quote_in(True, 5, 1 << 64)


def test_volatility_falls_with_time() -> None:
    pair = simple(accumulator=200_000, updated=NOW - 5, reference=200_000, control=100_000)
    quotes = [parse(pair.accounts(), NOW + later).quote_in(True, 10**8).amount_out for later in (0, 30, 700)]
    assert quotes[0] < quotes[1] < quotes[2]


def small(dice: random.Random, *, fees: int) -> Pair:
    """A pair of few units, so that many of all sizes can be tried."""
    active = dice.randrange(-12, 12)
    pair = Pair(step=100, base_factor=fees, active=active, index_reference=active, control=dice.choice([0, 200_000]))
    for bin_id in range(active - 8, active + 9):
        if dice.random() < 0.7:
            this = Bin(price=bin_price(bin_id, 100))
            this.x = dice.randrange(1, 60_000) if bin_id >= active else 0
            this.y = dice.randrange(1, 60_000) if bin_id <= active else 0
            pair.bins[bin_id] = this
    return pair


@given(st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_the_search_finds_the_best_size_across_bins(seed: int) -> None:
    dice = random.Random(seed)
    pools = [parse(small(dice, fees=dice.choice([100, 1_000])).accounts()) for _ in range(2)]
    searcher = Searcher([MINT_A, MINT_B])
    for number, pool in enumerate(pools):
        searcher.upsert(number, pool)

    def profit(first: int, amount: int) -> int:
        try:
            between = pools[first].quote_in(True, amount).amount_out
            return pools[1 - first].quote_in(False, between).amount_out - amount
        except QuoteError:
            return 0

    found = {candidate.legs[0].pool_id: candidate for candidate in searcher.search()}
    for first in (0, 1):
        tried = [*range(1, 2_000, 7), *(dice.randrange(1, 500_000) for _ in range(150))]
        best = max(profit(first, amount) for amount in tried)
        have = found[first].net_profit if first in found else 0
        # Rounding makes the profit a saw of a few units.
        assert have >= best - 4, (have, best)
        if first in found:
            assert profit(first, found[first].amount_in) == have > 0


@pytest.mark.recorded
def test_a_recorded_pair_is_read(recorded_data: Path) -> None:
    row = json.loads((recorded_data / "solana/carbon/meteora-dlmm/lb_pair_account.json").read_text(encoding="utf-8"))
    pair = (POOL, row["owner"], base64.b64decode(row["data"]))
    info = parse([pair], now=1_748_616_125).info()
    assert (info["bin_step"], info["active_bin"], info["bin_arrays"]) == (80, -1_054, [])
    assert (info["base_fee_rate_e9"], info["protocol_share_bps"]) == (50_000_000, 500)
    # Two arrays are marked, both above the active bin's: a swap jumps there.
    made = Pair(step=80, bins={-970: Bin(10**12), -900: Bin(10**12)}).accounts()
    pool = parse([pair, *(account for account in made if account[2][:8] == ARRAY)], now=1_748_616_125)
    assert pool.info()["bin_arrays"] == [-14, -13]
    assert (pool.token_a[:8], pool.token_b) == ("FzytSxQv", "So11111111111111111111111111111111111111112")
    # 5 % base, and 7,500 x (150,000 x 80)^2 / 10^11 more while the volatility of the last swap holds.
    assert pool.quote_in(False, 10**6).amount_out == (10**6 - 60_800 << 64) // bin_price(-970, 80)
    with pytest.raises(QuoteError, match="bin_array_missing"):
        pool.quote_in(True, 10**6)
