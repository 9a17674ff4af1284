"""Stake pools and Marinade: recorded ones and made-up ones against plain Python, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from markets.solana.pools import Pool, PoolRefused, QuoteError
from markets.tokens import SOL_MINT
from pipeline.messages import Protocol

from .build import MINT_A, NOW, POOL, SLOT, VAULT_A, amm_v4_accounts, key, token_account
from .stake_build import (
    EPOCH,
    MANAGER,
    RENT,
    TREASURY,
    marinade_accounts,
    recorded,
    reserve_account,
    sol_leg_of,
    stake_pool_accounts,
)
from .stake_reference import SANCTUM, U64, Fails, Marinade, StakePool

SPL, MSOL = Protocol.SPL_STAKE_POOL, Protocol.MARINADE
EPOCH_SLOTS = 432_000

amounts = st.integers(1, U64) | st.integers(1, 10**6) | st.integers(10**6, 10**13)
sums = st.sampled_from([0, 1, U64]) | st.integers(1, 10**17) | st.integers(10**12, 10**16)
fees = st.sampled_from([(0, 0), (0, 7), (1_000, 1), (10_000, 10_000), (U64, 1)]) | st.tuples(
    st.just(10_000), st.integers(0, 10_000)
)


@st.composite
def stake_pools(draw: st.DrawFn) -> list[Any]:
    """Any figures, with optional fields of every shape before the fees."""
    validators = st.none() | st.just(key(9))
    return stake_pool_accounts(
        draw(sums),
        draw(sums),
        draw(st.integers(1, 10**15) | st.sampled_from([RENT, RENT + 1, U64])),
        deposit_fee=draw(fees),
        withdrawal_fee=draw(fees),
        optional=(draw(st.integers(0, 2)), draw(validators), draw(validators), draw(st.integers(0, 2))),
        lockup=draw(st.sampled_from([(0, 0), (0, 0), (NOW + 1, 0), (0, EPOCH + 1), (NOW, EPOCH)])),
        deposit_authority=draw(st.sampled_from([None, None, None, key(8)])),
    )


@st.composite
def marinades(draw: st.DrawFn) -> list[Any]:
    """Any figures; small targets make the fee climb within one swap."""
    least = draw(st.integers(0, 10_000))
    return marinade_accounts(
        draw(st.integers(0, 10**17)),
        draw(sums),
        msol_leg=draw(st.integers(0, 10**13) | st.just(0)),
        sol_leg=draw(st.integers(1, 10**14)),
        fees=(draw(st.integers(least, 10_000)), least, draw(st.integers(0, 10_000))),
        target=draw(st.integers(0, 10**14)),
        reserve=draw(st.integers(0, 10**15)),
        tickets=draw(st.integers(0, 10**14) | st.just(10**17)),
        least=draw(st.sampled_from([(0, 0), (1, 1), (10**6, 10**6)])),
        cap=draw(st.sampled_from([U64, 10**17])),
    )


def parse(protocol: int, accounts: list[Any], slot: int = SLOT, now: int = NOW) -> Pool:
    return Pool.parse(protocol, accounts[0][0], accounts, slot, 0, now)


def reference_of(protocol: int, accounts: list[Any]) -> StakePool | Marinade:
    if protocol == SPL:
        return StakePool.parse(accounts[0][2], accounts[1][2], accounts[1][3])
    return Marinade.parse(accounts[0][2], accounts[1][2], accounts[2][3])


def swap_both(pool: Pool, reference: StakePool | Marinade, a_to_b: bool, amount: int) -> Pool:
    """Swap here and there: the same amounts, the same accounts, or the same failure."""
    epoch = pool.slot // EPOCH_SLOTS
    given, reason = 0, ""
    try:
        if isinstance(reference, StakePool):
            given = reference.withdraw(amount, epoch, NOW) if a_to_b else reference.deposit(amount, epoch)
        else:
            given = reference.unstake(amount) if a_to_b else reference.deposit(amount)
    except Fails as failure:
        reason = str(failure)
    if reason:
        with pytest.raises(QuoteError) as raised:
            pool.swap(a_to_b, amount)
        assert raised.value.reason == reason
        return pool
    after, quote = pool.swap(a_to_b, amount)
    assert (quote.amount_in, quote.amount_out) == (amount, given) == (amount, pool.quote_in(a_to_b, amount).amount_out)
    assert quote.price_impact_bps == 0
    assert 0 <= quote.fee_amount <= amount
    assert reference_of(pool.protocol, after.accounts()) == reference
    # Carried, read again from the written accounts, or from a snapshot: one and the same pool.
    assert parse(pool.protocol, after.accounts(), pool.slot) == after
    assert Pool.from_snapshot(pool.snapshot()).swap(a_to_b, amount)[0].snapshot() == after.snapshot()
    return after


orders = st.lists(st.tuples(st.booleans(), amounts), min_size=1, max_size=4)


@given(stake_pools(), orders)
@settings(max_examples=400, deadline=None)
def test_stake_pool_is_plain_python(accounts: list[Any], swaps: list[tuple[bool, int]]) -> None:
    pool, reference = parse(SPL, accounts), reference_of(SPL, accounts)
    for a_to_b, amount in swaps:
        pool = swap_both(pool, reference, a_to_b, amount)


@given(marinades(), orders)
@settings(max_examples=400, deadline=None)
def test_marinade_is_plain_python(accounts: list[Any], swaps: list[tuple[bool, int]]) -> None:
    pool, reference = parse(MSOL, accounts), reference_of(MSOL, accounts)
    for a_to_b, amount in swaps:
        pool = swap_both(pool, reference, a_to_b, amount)


@given(stake_pools().map(lambda raw: (SPL, raw)) | marinades().map(lambda raw: (MSOL, raw)), st.booleans(), amounts)
@settings(max_examples=300, deadline=None)
def test_a_round_trip_never_pays(made: tuple[int, list[Any]], a_to_b: bool, amount: int) -> None:
    pool = parse(*made)
    # The first to deposit into a pool without tokens owns whatever lies in it.
    assume(pool.fair_rate())
    try:
        after, there = pool.swap(a_to_b, amount)
        back = after.quote_in(not a_to_b, there.amount_out)
    except QuoteError:
        return
    assert back.amount_out <= amount


@given(stake_pools(), st.booleans(), amounts, amounts)
@settings(max_examples=200, deadline=None)
def test_more_in_never_gives_less(accounts: list[Any], a_to_b: bool, one: int, other: int) -> None:
    pool = parse(SPL, accounts)
    try:
        less, more = (pool.quote_in(a_to_b, amount).amount_out for amount in sorted((one, other)))
    except QuoteError:
        return
    assert less <= more


@given(st.integers(1, 10**15), st.integers(1, 10**15))
@settings(max_examples=200, deadline=None)
def test_fair_rate_bounds_every_quote(lamports: int, tokens: int) -> None:
    for pool in (parse(SPL, stake_pool_accounts(lamports, tokens)), parse(MSOL, marinade_accounts(lamports, tokens))):
        rate, unstake = pool.fair_rate(), pool.unstake_rate()
        assert rate is not None
        assert unstake is not None
        assert pool.info()["fair_rate"] == rate
        assert pool.info()["unstake_rate"] == unstake
        # After the fee less is left, and a quote never gives more than the rate says.
        assert unstake[0] * rate[1] <= rate[0] * unstake[1]
        try:
            quote = pool.quote_in(True, tokens // 1_000 + 1)
        except QuoteError:
            continue
        assert quote.amount_out * rate[1] <= quote.amount_in * rate[0]
        # The fee of a stake pool is rounded up, Marinade's down.
        if pool.protocol == SPL:
            assert quote.amount_out * unstake[1] <= quote.amount_in * unstake[0]


def test_pools_of_other_kinds_have_no_fair_rate() -> None:
    pool = Pool.parse(Protocol.RAYDIUM_AMM_V4, POOL, amm_v4_accounts(10**9, 10**9), SLOT, 0, NOW)
    assert pool.fair_rate() is None
    assert pool.unstake_rate() is None


def test_the_unstake_fee_climbs_as_the_leg_empties() -> None:
    pool = parse(MSOL, marinade_accounts(sol_leg=21_000_000_000_000 + 2_039_280, msol_leg=0))
    rate = pool.fair_rate()
    assert rate is not None

    def fee_bps(msol: int) -> float:
        quote = pool.quote_in(True, msol)
        return round(quote.fee_amount / msol * 10_000, 3)

    assert [fee_bps(10**9 * sol) for sol in (1, 100, 5_000, 10_000)] == [2, 7, 277, 553]
    # All that is in the leg is what is left after the highest fee.
    everything = 21_000_000_000_000 * rate[1] // rate[0]
    assert fee_bps(everything + 10**9) == 900
    with pytest.raises(QuoteError, match="insufficient_liquidity"):
        pool.quote_in(True, everything * 10_000 // 9_099)


def test_deposits_take_msol_from_the_leg_first() -> None:
    pool = parse(MSOL, marinade_accounts(msol_leg=5 * 10**9))
    before = pool.info()
    after, quote = pool.swap(False, 10 * 10**9)
    info = after.info()
    assert info["msol_leg"] == 0
    assert quote.fee_amount == 0
    assert info["supply"] - before["supply"] == quote.amount_out - 5 * 10**9
    paid = info["available_lamports"] - before["available_lamports"]
    assert paid + info["staked_lamports"] - before["staked_lamports"] == 10 * 10**9
    full, _ = parse(MSOL, marinade_accounts(msol_leg=5 * 10**9, cap=0)).swap(False, 10**9)
    assert full.info()["staked_lamports"] == before["staked_lamports"]
    with pytest.raises(QuoteError, match="staking_is_capped"):
        parse(MSOL, marinade_accounts(msol_leg=5 * 10**9, cap=0)).quote_in(False, 10 * 10**9)


def test_the_treasury_takes_its_part_where_it_can() -> None:
    plain = marinade_accounts(sol_leg=10**12, msol_leg=0)
    quote = parse(MSOL, plain).quote_in(True, 10**10)
    for treasury, cut in (
        (token_account(TREASURY, MINT_A, 0), quote.fee_amount // 2),
        (token_account(TREASURY, key(77), 0), 0),
        ((TREASURY, sol_leg_of(POOL)[0], b""), 0),
    ):
        after, same = parse(MSOL, [*plain, treasury]).swap(True, 10**10)
        assert same.amount_out == quote.amount_out
        assert after.info()["msol_leg"] == 10**10 - cut


@pytest.mark.recorded
@pytest.mark.parametrize(
    ("name", "epoch", "rate", "deposit", "withdrawal"),
    [
        ("bsol", 802, (1_144_546_482_246_437, 934_784_722_219_576), 816_075_981, 1_223_171_398),
        ("picosol", 787, (128_350_525_083_404, 108_350_525_083_404), 843_332_541, 1_183_401_505),
    ],
)
def test_recorded_stake_pools(
    recorded_data: Path, name: str, epoch: int, rate: tuple[int, int], deposit: int, withdrawal: int
) -> None:
    parts = ("stake-pool", "reserve", "mint", "manager-fee", "validator-list")
    accounts = [recorded(recorded_data, f"{name}-{part}") for part in parts]
    pool = parse(SPL, accounts, epoch * EPOCH_SLOTS)
    assert (pool.token_b, pool.fair_rate()) == (SOL_MINT, rate)
    # The mint says another supply: that of the last update counts.
    assert int.from_bytes(accounts[2][2][36:44], "little") != rate[1]
    reference = reference_of(SPL, accounts)
    for a_to_b, amount, expected in ((False, 10**9, deposit), (True, 10**9, withdrawal)):
        assert pool.quote_in(a_to_b, amount).amount_out == expected
        swap_both(pool, copy.deepcopy(reference), a_to_b, amount)
    available = pool.info()["available_lamports"]
    assert available == accounts[1][3] - RENT
    too_much = available * rate[1] // rate[0] * 1_002 // 1_000
    swap_both(pool, copy.deepcopy(reference), True, too_much)
    with pytest.raises(QuoteError, match="sol_withdrawal_too_large"):
        pool.quote_in(True, too_much)
    with pytest.raises(PoolRefused) as refused:
        parse(SPL, accounts, (epoch + 1) * EPOCH_SLOTS)
    assert refused.value.reason == "stale_epoch"


@pytest.mark.recorded
def test_recorded_marinade(recorded_data: Path) -> None:
    names = ("state", "liq-pool-msol-leg", "treasury-msol-account")
    state, leg, treasury = (recorded(recorded_data, f"marinade-{name}") for name in names)
    mint = recorded(recorded_data, "msol-mint")
    # The SOL leg itself was not recorded: its address was derived, its balance is made up.
    address = sol_leg_of(state[0])[0]
    assert address == "UefNb6z6yvArqe4cJHTXCqStRsKmWhGxnZzuHbikP5Q"
    accounts = [state, leg, (address, "1" * 32, b"", 6_000 * 10**9), treasury, mint]
    pool, reference = parse(MSOL, accounts), reference_of(MSOL, accounts)
    assert (pool.token_a, pool.token_b) == (mint[0], SOL_MINT)
    rate = pool.fair_rate()
    assert rate is not None
    # The state keeps the price for people, scaled by 2^32, from its last update.
    shown = int.from_bytes(state[2][512:520], "little")
    assert abs(rate[0] * 2**32 // rate[1] - shown) <= 1
    for a_to_b, amount in ((False, 10**9), (True, 10**9), (True, 10**12), (False, 10**13), (True, 10**16)):
        pool = swap_both(pool, reference, a_to_b, amount)
    minted_elsewhere = bytearray(mint[2])
    minted_elsewhere[36:44] = (2**63).to_bytes(8, "little")
    strange = parse(MSOL, [*accounts[:4], (mint[0], mint[1], bytes(minted_elsewhere), mint[3])])
    with pytest.raises(QuoteError, match="unregistered_msol_minted"):
        strange.quote_in(False, 10**9)


def changed(accounts: list[Any], which: int, at: int, data: bytes) -> list[Any]:
    raw = bytearray(accounts[which][2])
    raw[at : at + len(data)] = data
    account = (*accounts[which][:2], bytes(raw), *accounts[which][3:])
    return [*accounts[:which], account, *accounts[which + 1 :]]


POOLS = stake_pool_accounts(11 * 10**14, 10**15)
STATE = marinade_accounts()
BOTH = {"deposit_authority": key(8), "withdraw_authority": key(8)}


@pytest.mark.parametrize(
    ("protocol", "accounts", "reason"),
    [
        (SPL, POOLS[:1], "missing_account"),
        (SPL, [POOLS[0], POOLS[1][:3]], "missing_lamports"),
        (SPL, [*POOLS, POOLS[1]], "duplicate_account"),
        (SPL, stake_pool_accounts(10, 10, owner=key(5)), "wrong_owner"),
        (SPL, [POOLS[0], reserve_account(10**12, owner=key(5))], "wrong_owner"),
        (SPL, [POOLS[0], reserve_account(10**12, state=2)], "bad_pool"),
        (SPL, changed(POOLS, 0, 0, b"\x02"), "wrong_discriminator"),
        (SPL, changed(POOLS, 0, 346, b"\x03"), "bad_pool"),
        (SPL, changed(POOLS, 0, 347, b"\x02"), "bad_pool"),
        (SPL, [(*POOLS[0][:2], POOLS[0][2][:400]), POOLS[1]], "short_data"),
        (SPL, [POOLS[0], (*POOLS[1][:2], POOLS[1][2][:80], 10**12)], "short_data"),
        (SPL, stake_pool_accounts(10, 10, epoch=EPOCH - 1), "stale_epoch"),
        (SPL, stake_pool_accounts(10, 10, referral=101), "bad_pool"),
        (SPL, stake_pool_accounts(10, 10, deposit_fee=(10, 11)), "bad_pool"),
        (SPL, stake_pool_accounts(10, 10, **BOTH), "swap_disabled"),
        (SPL, [*POOLS, token_account(MANAGER, key(77), 0)], "bad_fee_account"),
        (MSOL, STATE[:1], "missing_account"),
        (MSOL, STATE[:2], "missing_account"),
        (MSOL, [STATE[0], STATE[2]], "missing_account"),
        (MSOL, [*STATE[:2], STATE[2][:3]], "missing_lamports"),
        (MSOL, [*STATE[:2], (STATE[2][0], key(5), b"", 10**12)], "wrong_owner"),
        (MSOL, marinade_accounts(owner=key(5)), "wrong_owner"),
        (MSOL, [STATE[0], token_account(VAULT_A, key(77), 5), STATE[2]], "foreign_account"),
        (MSOL, [STATE[0], token_account(VAULT_A, MINT_A, 5, state=2), STATE[2]], "frozen_vault"),
        (MSOL, changed(STATE, 0, 0, b"\x00"), "wrong_discriminator"),
        (MSOL, marinade_accounts(paused=1), "paused"),
        (MSOL, marinade_accounts(fees=(1, 2, 3)), "bad_pool"),
        (MSOL, marinade_accounts(fees=(10_001, 2, 3)), "bad_pool"),
        (MSOL, marinade_accounts(active=U64), "bad_pool"),
        (MSOL, [(*STATE[0][:2], STATE[0][2][:500]), *STATE[1:]], "short_data"),
    ],
)
def test_refusals(protocol: int, accounts: list[Any], reason: str) -> None:
    with pytest.raises(PoolRefused) as refused:
        parse(protocol, accounts)
    assert refused.value.reason == reason


@pytest.mark.parametrize("program", SANCTUM)
def test_sanctums_deployments_are_the_same_program(program: str) -> None:
    same = parse(SPL, stake_pool_accounts(11 * 10**14, 10**15, owner=program, length=435))
    assert same.quote_in(True, 10**9).amount_out == parse(SPL, POOLS).quote_in(True, 10**9).amount_out


def test_quotes_that_would_fail() -> None:
    pool = parse(SPL, POOLS)
    for protocol, accounts in ((SPL, POOLS), (MSOL, STATE)):
        with pytest.raises(QuoteError, match="exact_out_unsupported"):
            parse(protocol, accounts).quote_out(True, 5)
        with pytest.raises(QuoteError, match="price_limit_unsupported"):
            parse(protocol, accounts).quote_in(True, 5, 1 << 64)
    # A pool carried over into the next epoch is as stale as one that is read there.
    later = pool.at(SLOT + EPOCH_SLOTS, 0, NOW)
    for a_to_b in (True, False):
        with pytest.raises(QuoteError, match="stake_list_and_pool_out_of_date"):
            later.quote_in(a_to_b, 10**9)
    assert later.fair_rate() == pool.fair_rate()
    assert later.unstake_rate() is None
    locked = parse(SPL, stake_pool_accounts(10**12, 10**12, lockup=(NOW + 5, 0)))
    assert locked.quote_in(False, 10**9).amount_out
    assert locked.unstake_rate() is None
    assert locked.at(SLOT, 0, NOW + 5).quote_in(True, 10**9).amount_out
    closed = parse(SPL, stake_pool_accounts(10**12, 10**12, withdraw_authority=key(8)))
    with pytest.raises(QuoteError, match="invalid_sol_withdraw_authority"):
        closed.quote_in(True, 10**9)
