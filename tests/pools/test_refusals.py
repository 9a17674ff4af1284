"""Bad inputs are refused with a stable reason, and whatever the bytes say nothing crashes."""

from __future__ import annotations

import random

import pytest

from markets.solana.pools import Pool, PoolRefused, QuoteError
from pipeline.messages import Protocol

from .build import (
    MINT_B,
    NOW,
    POOL,
    SLOT,
    SYSTEM,
    VAULT_A,
    Raw,
    amm_v4_accounts,
    cpmm_accounts,
    key,
    tick_array,
    token_account,
    whirlpool_account,
    whirlpool_accounts,
)
from .reference import TOKEN_2022, WHIRLPOOL
from .ticks import sqrt_price

W, V4, CP = Protocol.WHIRLPOOL, Protocol.RAYDIUM_AMM_V4, Protocol.RAYDIUM_CPMM
ORCA = whirlpool_accounts([(-640, 640, 10**12), (-6_400, 64, 10**11)], dynamic=True)
RAY = amm_v4_accounts(10**12, 10**11)
CPS = cpmm_accounts(10**12, 10**11)


def refusal(protocol: int, accounts: list[Raw], address: str = POOL, now: int = NOW) -> str:
    with pytest.raises(PoolRefused) as caught:
        Pool.parse(protocol, address, accounts, SLOT, 0, now)
    assert str(caught.value).startswith(f"{caught.value.reason}: ")
    return caught.value.reason


def changed(accounts: list[Raw], which: int, **to: object) -> list[Raw]:
    address, owner, data = accounts[which]
    row = (to.get("address", address), to.get("owner", owner), to.get("data", data))
    return [*accounts[:which], row, *accounts[which + 1 :]]


def patched(accounts: list[Raw], which: int, at: int, value: bytes) -> list[Raw]:
    data = accounts[which][2]
    return changed(accounts, which, data=data[:at] + value + data[at + len(value) :])


@pytest.mark.parametrize(("protocol", "accounts"), [(W, ORCA), (V4, RAY), (CP, CPS)])
def test_common_refusals(protocol: int, accounts: list[Raw]) -> None:
    Pool.parse(protocol, POOL, accounts, SLOT, 0, NOW)
    assert refusal(protocol, []) == "missing_account"
    assert refusal(protocol, accounts, address=key(9)) == "missing_account"
    assert refusal(protocol, accounts, address="not base58!") == "bad_address"
    assert refusal(protocol, accounts, address="1111") == "bad_address"
    assert refusal(protocol, changed(accounts, 0, owner=SYSTEM)) == "wrong_owner"
    assert refusal(protocol, changed(accounts, 0, data=accounts[0][2][:-1])) == "short_data"
    assert refusal(protocol, [*accounts, accounts[0]]) == "duplicate_account"
    assert refusal(protocol, changed(accounts, 0, data=b"")) in {"short_data", "wrong_discriminator"}
    text = b"pubkey,base64\n" * 80
    assert refusal(protocol, changed(accounts, 0, data=text)) in {"short_data", "wrong_discriminator"}


def test_unknown_protocol() -> None:
    assert refusal(0, RAY) == "unknown_protocol"
    assert refusal(200, RAY) == "unknown_protocol"
    assert refusal(-1, RAY) == "unknown_protocol"


def test_a_pool_of_another_program() -> None:
    assert refusal(W, RAY) == "wrong_owner"
    assert refusal(V4, CPS) == "wrong_owner"
    assert refusal(CP, ORCA) == "wrong_owner"


def test_whirlpool_refusals() -> None:
    def pool(**options: object) -> list[Raw]:
        return [(POOL, WHIRLPOOL, whirlpool_account(**options))]

    array = (key(5), WHIRLPOOL, tick_array(0, {3: 10}))
    assert refusal(W, changed(ORCA, 0, data=ORCA[1][2])) == "wrong_discriminator"
    assert refusal(W, pool(tier=1_024)) == "missing_account"
    assert refusal(W, pool(spacing=0, tier=0)) == "bad_pool"
    assert refusal(W, pool(tick=5, price=sqrt_price(7))) == "bad_pool"
    assert refusal(W, pool(tick=5, price=sqrt_price(5) - 1)) == "bad_pool"
    assert refusal(W, pool(price=1)) == "bad_pool"
    assert refusal(W, [*pool(), (key(5), WHIRLPOOL, tick_array(0, {}, pool=key(8)))]) == "foreign_account"
    assert refusal(W, [*pool(), array, (key(6), WHIRLPOOL, array[2])]) == "duplicate_account"
    assert refusal(W, [*pool(), (key(5), WHIRLPOOL, tick_array(64, {}))]) == "bad_tick_array"
    assert refusal(W, [*pool(), (key(5), WHIRLPOOL, tick_array(88 * 64 * 90, {}))]) == "bad_tick_array"
    assert refusal(W, [*pool(), (key(5), WHIRLPOOL, array[2][:-1])]) == "short_data"
    assert refusal(W, [*pool(), (key(5), WHIRLPOOL, array[2][:12] + b"\x02" + array[2][13:])]) == "bad_tick"
    dynamic = tick_array(0, {3: 10}, dynamic=True)
    assert refusal(W, [*pool(), (key(5), WHIRLPOOL, dynamic[:-1])]) == "short_data"
    assert refusal(W, [*pool(), (key(5), WHIRLPOOL, dynamic[:44] + bytes(16) + dynamic[60:])]) == "bad_tick"
    assert refusal(W, [*pool(), token_account(VAULT_A, MINT_B, 1)]) == "foreign_account"
    # Other accounts do not matter and come back as they are.
    extra = (key(77), SYSTEM, b"anything")
    assert Pool.parse(W, POOL, [*pool(), extra], SLOT, 0, NOW).accounts()[-1] == extra


def test_amm_v4_refusals() -> None:
    for status in (0, 1, 2, 3, 4, 5, 8, 2**64 - 1):
        assert refusal(V4, amm_v4_accounts(10, 10, status=status)) == "swap_disabled"
    assert refusal(V4, amm_v4_accounts(10, 10, status=7, open_time=NOW + 1)) == "not_open"
    Pool.parse(V4, POOL, amm_v4_accounts(10, 10, status=7, open_time=NOW), SLOT, 0, NOW)
    assert refusal(V4, RAY[:2]) == "missing_account"
    assert refusal(V4, amm_v4_accounts(10, 10, owed=(11, 0))) == "bad_pool"
    assert refusal(V4, amm_v4_accounts(10, 10, fee=(1, 0))) == "bad_pool"
    assert refusal(V4, amm_v4_accounts(10, 10, fee=(7, 7))) == "bad_pool"
    assert refusal(V4, amm_v4_accounts(10, 10, owner=TOKEN_2022)) == "wrong_owner"
    assert refusal(V4, changed(RAY, 1, owner=SYSTEM)) == "wrong_owner"
    assert refusal(V4, patched(RAY, 1, 0, bytes(32))) == "foreign_account"
    assert refusal(V4, patched(RAY, 1, 108, b"\x02")) == "frozen_vault"
    assert refusal(V4, changed(RAY, 2, data=RAY[2][2][:100])) == "short_data"


def test_cpmm_refusals() -> None:
    assert refusal(CP, cpmm_accounts(10, 10, status=4)) == "swap_disabled"
    assert refusal(CP, cpmm_accounts(10, 10, status=7)) == "swap_disabled"
    Pool.parse(CP, POOL, cpmm_accounts(10, 10, status=3), SLOT, 0, NOW)
    assert refusal(CP, cpmm_accounts(10, 10, open_time=NOW + 1)) == "not_open"
    assert refusal(CP, cpmm_accounts(10, 10, open_time=1), now=-5) == "not_open"
    assert refusal(CP, changed(CPS, 1, owner=WHIRLPOOL)) == "wrong_owner"
    assert refusal(CP, changed(CPS, 0, data=CPS[1][2])) == "wrong_discriminator"
    assert refusal(CP, changed(CPS, 1, data=CPS[0][2])) == "wrong_discriminator"
    assert refusal(CP, changed(CPS, 1, owner=SYSTEM)) == "wrong_owner"
    for missing in (1, 2, 3):
        assert refusal(CP, [row for at, row in enumerate(CPS) if at != missing]) == "missing_account"
    assert refusal(CP, cpmm_accounts(10, 10, owed=(11, 0))) == "bad_pool"
    assert refusal(CP, cpmm_accounts(10, 10, owed=(2**64 - 1, 0))) == "bad_pool"
    assert refusal(CP, cpmm_accounts(10, 10, rates=(10**6, 0, 0))) == "bad_pool"
    assert refusal(CP, cpmm_accounts(10, 10, rates=(2_500, 10**6, 1))) == "bad_pool"
    over = cpmm_accounts(10, 10, rates=(999_900, 0, 0), creator_rate=100, creator_enabled=True)
    assert refusal(CP, over) == "bad_pool"
    assert refusal(CP, cpmm_accounts(10, 10, creator_on=3)) == "bad_pool"


def reason(quote: object, *arguments: object) -> str:
    with pytest.raises(QuoteError) as caught:
        quote(*arguments)
    return caught.value.reason


def test_quotes_that_would_fail() -> None:
    whirlpool = Pool.parse(W, POOL, ORCA, SLOT, 0, NOW)
    assert reason(whirlpool.quote_in, True, 0) == "zero_tradable_amount"
    assert reason(whirlpool.quote_in, True, 10**18) == "tick_array_sequence_invalid_index"
    assert reason(whirlpool.quote_in, True, 1, sqrt_price(10)) == "invalid_sqrt_price_limit_direction"
    assert reason(whirlpool.quote_in, False, 1, sqrt_price(-10)) == "invalid_sqrt_price_limit_direction"
    assert reason(whirlpool.quote_in, True, 1, 7) == "sqrt_price_out_of_bounds"
    assert reason(whirlpool.quote_in, True, 1, 2**128 - 1) == "sqrt_price_out_of_bounds"
    v4 = Pool.parse(V4, POOL, RAY, SLOT, 0, NOW)
    assert reason(v4.quote_in, True, 0) == "zero_tradable_amount"
    assert reason(v4.quote_in, True, 1) == "invalid_input"
    assert reason(v4.quote_out, True, 10**11) == "insufficient_funds"
    assert reason(v4.quote_in, True, 1, 5) == "price_limit_unsupported"
    assert reason(v4.quote_in, True, 2**64 - 1) == "overflow"
    cpmm = Pool.parse(CP, POOL, CPS, SLOT, 0, NOW)
    assert reason(cpmm.quote_in, True, 1) == "zero_trading_tokens"
    assert reason(cpmm.quote_out, True, 10**11) == "insufficient_vault"
    free = Pool.parse(CP, POOL, cpmm_accounts(10**6, 10**6, rates=(0, 0, 0)), SLOT, 0, NOW)
    assert reason(free.quote_in, True, 1_000) == "zero_trading_tokens"
    empty = Pool.parse(CP, POOL, cpmm_accounts(0, 10**6), SLOT, 0, NOW)
    assert reason(empty.quote_in, True, 1_000) == "empty_pool"
    for bad in (-1, 2**64):
        with pytest.raises(OverflowError):
            v4.quote_in(True, bad)


def test_snapshots_are_checked() -> None:
    for protocol, accounts in ((W, ORCA), (V4, RAY), (CP, CPS)):
        pool = Pool.parse(protocol, POOL, accounts, SLOT, 3, NOW)
        blob = pool.snapshot()
        assert Pool.from_snapshot(blob) == pool
        with pytest.raises(PoolRefused) as caught:
            Pool.from_snapshot(blob).accounts()
        assert caught.value.reason == "no_accounts"
        for wrong in (b"", blob[:-1], blob + b"\x00", b"PSN3" + blob[4:], blob[:4] + b"\x09" + blob[5:]):
            with pytest.raises(PoolRefused):
                Pool.from_snapshot(wrong)
    many = dict.fromkeys(range(88), 0)
    arrays = [(key(2_000 + n), WHIRLPOOL, tick_array(88 * n, many)) for n in range(-20, 20)]
    large = [(POOL, WHIRLPOOL, whirlpool_account(spacing=1)), *arrays]
    with pytest.raises(PoolRefused) as caught:
        Pool.parse(W, POOL, large, SLOT, 0, NOW).snapshot()
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize(("protocol", "accounts"), [(W, ORCA), (V4, RAY), (CP, CPS)])
def test_mutated_bytes_never_crash(protocol: int, accounts: list[Raw]) -> None:
    """A panic of the native core would surface as an exception of another kind."""
    dice = random.Random(protocol)
    blob = Pool.parse(protocol, POOL, accounts, SLOT, 0, NOW).snapshot()
    read = 0
    for _ in range(6_000):
        rows = list(accounts)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(rows))
            data = bytearray(rows[at][2])
            mutate(data, dice)
            rows = changed(rows, at, data=bytes(data))
        mutated = bytearray(blob)
        mutate(mutated, dice)
        for make in (
            lambda rows=rows: Pool.parse(protocol, POOL, rows, SLOT, 0, NOW),
            lambda mutated=bytes(mutated): Pool.from_snapshot(mutated),
        ):
            try:
                pool = make()
            except PoolRefused:
                continue
            read += 1
            for a_to_b in (True, False):
                for amount in (1, dice.randrange(2**64), 2**64 - 1):
                    for swap in (pool.quote_in, pool.quote_out, pool.swap):
                        try:
                            swap(a_to_b, amount)
                        except QuoteError:
                            continue
            assert Pool.from_snapshot(pool.snapshot()) == pool
    assert read > 500


def mutate(data: bytearray, dice: random.Random) -> None:
    choice = dice.randrange(10)
    at = dice.randrange(len(data) or 1)
    if choice == 0:
        del data[at:]
    elif choice == 1:
        data += dice.randbytes(dice.randrange(1, 50))
    elif choice < 5:
        width = dice.choice((1, 2, 4, 8, 16))
        data[at : at + width] = dice.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * len(data[at : at + width])
    elif data:
        data[at] ^= 1 << dice.randrange(8)
