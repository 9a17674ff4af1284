"""Transfer fees: what arrives, what must be sent, and who bears it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.solana.pools import Pool, PoolRefused, QuoteError
from pipeline.messages import Protocol

from .build import (
    MINT_A,
    MINT_B,
    NOW,
    POOL,
    SLOT,
    VAULT_A,
    VAULT_B,
    Raw,
    cpmm_accounts,
    fee_config,
    mint_account,
    token_account,
    whirlpool_accounts,
    withheld,
)
from .reference import TOKEN_2022, Whirlpool, cpmm_in
from .ticks import ceil_div

EPOCH = SLOT // 432_000


def fee_of(amount: int, bps: int, maximum: int) -> int:
    return min(maximum, ceil_div(amount * bps, 10_000))


def fee_mint(address: str, bps: int, maximum: int = 2**64 - 1, **options: int) -> Raw:
    return mint_account(address, owner=TOKEN_2022, extensions=fee_config(bps, maximum, **options))


def whirlpool(*mints: Raw) -> tuple[Pool, list[Raw]]:
    accounts = whirlpool_accounts([(-6_400, 6_400, 10**13)], tick=3)
    return Pool.parse(Protocol.WHIRLPOOL, POOL, [*accounts, *mints], SLOT, 0, NOW), accounts


def cpmm(*mints: Raw) -> Pool:
    accounts = cpmm_accounts(10**12, 10**13, owners=(TOKEN_2022, TOKEN_2022), vault_extensions=withheld())
    return Pool.parse(Protocol.RAYDIUM_CPMM, POOL, [*accounts, *mints], SLOT, 0, NOW)


@given(
    st.integers(1, 10**12),
    st.integers(0, 9_999),
    st.integers(0, 9_999),
    st.integers(0, 10**9) | st.just(2**64 - 1),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_whirlpool_exact_in(amount: int, bps_a: int, bps_b: int, maximum: int, a_to_b: bool) -> None:
    pool, accounts = whirlpool(fee_mint(MINT_A, bps_a, maximum), fee_mint(MINT_B, bps_b, maximum))
    bps_in, bps_out = (bps_a, bps_b) if a_to_b else (bps_b, bps_a)
    entered = amount - fee_of(amount, bps_in, maximum)
    if entered == 0:
        with pytest.raises(QuoteError):
            pool.quote_in(a_to_b, amount)
        return
    moved = Whirlpool.parse(accounts).swap(a_to_b, entered)
    quote = pool.quote_in(a_to_b, amount)
    assert quote.amount_in == amount
    assert quote.amount_out == moved.amount_out - fee_of(moved.amount_out, bps_out, maximum)
    assert quote.fee_amount == moved.fee


@given(st.integers(1, 10**11), st.integers(0, 9_999), st.integers(0, 10**9) | st.just(2**64 - 1), st.booleans())
@settings(max_examples=200, deadline=None)
def test_exact_out_arrives(amount: int, bps: int, maximum: int, a_to_b: bool) -> None:
    mints = fee_mint(MINT_A, bps, maximum), fee_mint(MINT_B, bps, maximum)
    for pool in (whirlpool(*mints)[0], cpmm(*mints)):
        try:
            quote = pool.quote_out(a_to_b, amount)
        except QuoteError:
            continue
        assert quote.amount_out == amount
        entered = quote.amount_in - fee_of(quote.amount_in, bps, maximum)
        # One unit less would not do: it brings less than was wanted, or the vault less than it asks.
        assert entered > 0


@given(st.integers(1, 10**12), st.integers(0, 9_999), st.integers(0, 10**9) | st.just(2**64 - 1))
@settings(max_examples=200, deadline=None)
def test_cpmm_exact_in(amount: int, bps: int, maximum: int) -> None:
    pool = cpmm(fee_mint(MINT_A, bps, maximum), fee_mint(MINT_B, 0))
    entered = amount - fee_of(amount, bps, maximum)
    expected = cpmm_in(10**12, 10**13, entered, 2_500) if entered else 0
    try:
        assert pool.quote_in(True, amount).amount_out == expected
    except QuoteError:
        assert expected == 0
        return
    after, _ = pool.swap(True, amount)
    balances = {address: int.from_bytes(data[64:72], "little") for address, _, data in after.accounts()}
    assert balances[VAULT_A] == 10**12 + entered
    assert balances[VAULT_B] == 10**13 - expected


def test_the_schedule_of_the_epoch_holds() -> None:
    older, newer = (100, 2**64 - 1), 300
    now = fee_mint(MINT_A, newer, newer_epoch=EPOCH, older=older)
    later = fee_mint(MINT_A, newer, newer_epoch=EPOCH + 1, older=older)
    assert whirlpool(now)[0].info()["transfer_fees"] == ((300, 2**64 - 1), None)
    assert whirlpool(later)[0].info()["transfer_fees"] == ((100, 2**64 - 1), None)


def test_vaults_whose_mint_must_be_known_are_refused() -> None:
    with pytest.raises(PoolRefused) as caught:
        cpmm()
    assert caught.value.reason == "missing_account"
    charging = token_account(VAULT_A, MINT_A, 10**12, owner=TOKEN_2022, extensions=withheld())
    plain = token_account(VAULT_A, MINT_A, 10**12, owner=TOKEN_2022)
    with pytest.raises(PoolRefused):
        whirlpool(charging)
    assert whirlpool(plain)[0].info()["transfer_fees"] == (None, None)


def extension(number: int, body: bytes = b"") -> bytes:
    return struct.pack("<HH", number, len(body)) + body


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        (extension(14, bytes(32) + b"\x07" * 32), "transfer_hook"),
        (extension(26, b"\x07" * 32 + b"\x01"), "paused"),
        (extension(9), "non_transferable"),
        (extension(6, b"\x02"), "frozen_by_default"),
        (extension(29, bytes(8)), "unknown_extension"),
        (extension(2, bytes(8)), "unknown_extension"),
        (extension(14, bytes(40)), "short_data"),
    ],
)
def test_mints_that_have_more_say_are_refused(extensions: bytes, reason: str) -> None:
    for before in (b"", fee_config(25, 1_000), extension(18, bytes(64))):
        mint = mint_account(MINT_B, owner=TOKEN_2022, extensions=before + extensions)
        with pytest.raises(PoolRefused) as caught:
            whirlpool(mint)
        assert caught.value.reason == reason


def test_extensions_that_move_nothing_are_passed() -> None:
    harmless = b"".join(
        [
            extension(14, b"\x07" * 32 + bytes(32)),  # an authority that may set a hook, and none set
            extension(26, b"\x07" * 32 + b"\x00"),
            extension(6, b"\x01"),
            extension(10, bytes(52)),
            extension(12, bytes(32)),
            extension(18, bytes(64)),
            extension(19, b"any length"),
            fee_config(25, 1_000),
        ]
    )
    pool, _ = whirlpool(mint_account(MINT_A, owner=TOKEN_2022, extensions=harmless))
    assert pool.info()["transfer_fees"] == ((25, 1_000), None)


@pytest.mark.parametrize("number", [2, 15, 27])
def test_a_vault_tells_that_its_mint_must_be_given(number: int) -> None:
    vault = token_account(VAULT_A, MINT_A, 10**12, owner=TOKEN_2022, extensions=extension(number, bytes(8)))
    with pytest.raises(PoolRefused) as caught:
        whirlpool(vault)
    assert caught.value.reason == "missing_account"
    plain = mint_account(MINT_A, owner=TOKEN_2022)
    assert whirlpool(vault, plain)[0].info()["transfer_fees"] == (None, None)


def test_broken_extensions_are_refused() -> None:
    good = fee_config(100, 5)
    for extensions in (good[:-1], b"\x01\x00\xff\xff", b"\x01\x00\x04\x00" + bytes(4)):
        with pytest.raises(PoolRefused) as caught:
            whirlpool(mint_account(MINT_A, owner=TOKEN_2022, extensions=extensions))
        assert caught.value.reason in {"bad_extension", "short_data"}
    with pytest.raises(PoolRefused) as caught:
        whirlpool(fee_mint(MINT_A, 10_001))
    assert caught.value.reason == "bad_mint"


def test_snapshot_keeps_transfer_fees() -> None:
    pool, _ = whirlpool(fee_mint(MINT_A, 25, 1_000), fee_mint(MINT_B, 10_000, 7))
    assert Pool.from_snapshot(pool.snapshot()) == pool
