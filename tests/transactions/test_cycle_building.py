"""A cycle as a transaction: what stands in it, what does not fit, what is refused."""

import itertools
import struct

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.keypair import Keypair
from solders.message import to_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from markets.solana.transactions.cycle import (
    MAX_BYTES,
    Needs,
    TooLarge,
    Unbuildable,
    build_cycle,
    cycle_instructions,
    minimums,
    mints_of,
    needs_of,
    transaction_bytes,
)
from markets.solana.transactions.tips import TIP_ACCOUNTS
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.venues import BadAccount, raydium_amm_v4, spl_stake_pool, whirlpool
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.messages import Leg, Protocol
from tests.transactions.built_cycles import (
    BLOCKHASH,
    OWNER,
    WALLET,
    chain,
    leg,
    order,
    other_mint,
    pools,
    read_back,
    tables,
    two_legs,
)

COMPUTE_BUDGET = "ComputeBudget111111111111111111111111111111"


def jito(venue: str, which: int = 0):
    return [pool for pool in pools()["SOL/JitoSOL"] if pool.venue == venue][which]


def a_cycle() -> list[Leg]:
    return two_legs(jito("whirlpool"), jito("raydium_amm_v4"))


def test_limit_price_swaps_and_the_tip_last():
    message = build_cycle(order(a_cycle()), chain(), tables(), BLOCKHASH)
    limit, price, first, second, tip = read_back(message, tables())
    assert (limit.program, limit.data) == (COMPUTE_BUDGET, b"\x02" + struct.pack("<I", 250_000))
    assert (price.program, price.data) == (COMPUTE_BUDGET, b"\x03" + struct.pack("<Q", 40_000))
    assert first.program == whirlpool.PROGRAM
    # Exact input; the least it must give is what the second leg takes.
    assert first.data[8:24] == struct.pack("<QQ", 10**9, 800_000_123)
    assert second.program == raydium_amm_v4.PROGRAM
    assert second.data == b"\x10" + struct.pack("<QQ", 800_000_123, 10**9 + 120_000)
    wrapped = associated_address(OWNER, SOL_MINT)
    between = associated_address(OWNER, other_mint(jito("whirlpool")))
    assert {wrapped, between} < set(first.accounts)
    # Source, destination, owner.
    assert second.accounts[5:] == [between, wrapped, OWNER]
    assert tip.program == SYSTEM_PROGRAM
    assert tip.accounts == [OWNER, TIP_ACCOUNTS[3]]
    assert tip.data == struct.pack("<IQ", 2, 100_000)
    assert str(message.recent_blockhash) == BLOCKHASH
    assert message.header.num_required_signatures == 1
    assert str(message.account_keys[0]) == OWNER


def test_no_price_and_no_tip_are_no_instructions():
    message = build_cycle(order(a_cycle(), micro_lamports=0, tip=0), chain(), tables(), BLOCKHASH)
    assert [one.program for one in read_back(message, tables())] == [
        COMPUTE_BUDGET,
        whirlpool.PROGRAM,
        raydium_amm_v4.PROGRAM,
    ]


def test_it_is_signed_as_it_is_and_its_size_is_known():
    message = build_cycle(order(a_cycle()), chain(), tables(), BLOCKHASH)
    signed = VersionedTransaction.populate(message, [WALLET.sign_message(to_bytes_versioned(message))])
    assert signed.verify_with_results() == [True]
    assert len(bytes(signed)) == transaction_bytes(message) <= MAX_BYTES


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(range(4), 2)))
def test_every_two_leg_cycle_fits_with_tables_and_with_a_tip(first: int, second: int):
    for name, some in pools().items():
        if "SOL" not in name.split("/") or any(pool.venue == "marinade" for pool in some) or len(some) < 4:
            continue
        message = build_cycle(order(two_legs(some[first], some[second])), chain(), tables(), BLOCKHASH)
        assert transaction_bytes(message) <= 700


def test_three_legs_of_concentrated_liquidity_fit_with_tables_only():
    usdc, whirl = [pool for pool in pools()["SOL/USDC"] if pool.venue == "whirlpool"], jito("whirlpool")
    # SOL, USDC, SOL, JitoSOL, SOL: four swaps, of which three stand for a longer cycle.
    legs = [
        leg(usdc[0], SOL_MINT, 10**9, 150_000_000),
        leg(usdc[1], USDC_MINT, 150_000_000, 10**9),
        leg(whirl, SOL_MINT, 10**9, 800_000_000),
        leg(jito("whirlpool", 1), other_mint(whirl), 800_000_000, 10**9 + 10**6),
    ]
    message = build_cycle(order(legs), chain(), tables(), BLOCKHASH)
    assert transaction_bytes(message) <= MAX_BYTES
    with pytest.raises(TooLarge) as caught:
        build_cycle(order(legs), chain(), (), BLOCKHASH)
    assert caught.value.size > MAX_BYTES
    assert caught.value.reason == "too_large"


def test_with_and_without_tables_the_same_is_executed():
    with_tables = build_cycle(order(a_cycle()), chain(), tables(), BLOCKHASH)
    without = build_cycle(order(a_cycle()), chain(), (), BLOCKHASH)
    assert read_back(with_tables, tables()) == read_back(without)
    assert transaction_bytes(with_tables) < transaction_bytes(without)


def test_what_a_node_tells_of_a_table_does_not_decide_who_is_paid():
    # A node that lies says that a table holds our accounts; on the chain it holds a thief's in their places.
    honest = build_cycle(order(a_cycle()), chain(), (), BLOCKHASH)
    ours = [Pubkey.from_string(associated_address(OWNER, mint)) for mint in mints_of(a_cycle())]
    thiefs = [Pubkey(bytes([at] * 32)) for at in range(9, 9 + len(ours))]
    others = [table for table in tables()[0].addresses if table not in ours][:250]
    key = Pubkey(bytes([77] * 32))
    message = build_cycle(order(a_cycle()), chain(), [AddressLookupTableAccount(key, [*ours, *others])], BLOCKHASH)
    assert [lookup.account_key for lookup in message.address_table_lookups] == [key]
    assert read_back(message, (AddressLookupTableAccount(key, [*thiefs, *others]),)) == read_back(honest)


def test_a_stake_pools_lamports_are_wrapped_for_what_takes_wrapped_sol():
    first, stake = jito("whirlpool"), jito("spl_stake_pool")
    withdrawn = order(two_legs(first, stake))
    *_, swap, moved, synced, tip = read_back(build_cycle(withdrawn, chain(), tables(), BLOCKHASH), tables())
    assert swap.program in spl_stake_pool.PROGRAMS
    # The variant that enforces a minimum: without one it could give anything.
    assert swap.data == struct.pack("<BQQ", 26, 800_000_123, withdrawn.min_amount_out)
    wrapped = associated_address(OWNER, SOL_MINT)
    assert (moved.accounts, moved.data) == ([OWNER, wrapped], struct.pack("<IQ", 2, withdrawn.min_amount_out))
    assert (synced.program, synced.accounts, synced.data) == (TOKEN_PROGRAM, [wrapped], b"\x11")
    assert tip.accounts[1] in TIP_ACCOUNTS
    assert needs_of(withdrawn) == Needs({SOL_MINT: 10**9}, 100_000)


def test_a_deposit_needs_lamports_instead_of_wrapped_sol():
    deposited = order(two_legs(jito("spl_stake_pool"), jito("whirlpool")))
    names = [one.program for one in read_back(build_cycle(deposited, chain(), tables(), BLOCKHASH), tables())]
    assert names[2:] == [spl_stake_pool.PROGRAMS[0], whirlpool.PROGRAM, SYSTEM_PROGRAM]
    assert needs_of(deposited) == Needs({}, 10**9 + 100_000)
    usdc = [pool for pool in pools()["SOL/USDC"] if pool.venue == "whirlpool"]
    jito_mint = other_mint(jito("whirlpool"))
    through = [
        leg(usdc[0], USDC_MINT, 150_000_000, 10**9),
        leg(jito("spl_stake_pool"), SOL_MINT, 10**9, 800_000_000),
        leg(jito("whirlpool"), jito_mint, 800_000_000, 10**9 + 5),
        leg(usdc[1], SOL_MINT, 10**9 + 5, 151_000_000),
    ]
    # What the first leg gives is wrapped, what the stake pool takes is not.
    assert needs_of(order(through, tip=7)) == Needs({USDC_MINT: 150_000_000}, 10**9 + 7)
    assert mints_of(through) == [USDC_MINT, SOL_MINT, jito_mint]


def test_a_token_of_the_newer_program_has_its_account_there():
    first, second = jito("whirlpool"), jito("whirlpool", 1)
    mint = other_mint(first)
    known = dict(chain()) | {mint: (TOKEN_2022_PROGRAM, bytes(82))}
    read = read_back(build_cycle(order(two_legs(first, second)), known, tables(), BLOCKHASH), tables())
    for swap in read[2:4]:
        assert associated_address(OWNER, mint, TOKEN_2022_PROGRAM) in swap.accounts
        assert associated_address(OWNER, mint) not in swap.accounts
        assert set(swap.accounts[:2]) == {TOKEN_PROGRAM, TOKEN_2022_PROGRAM}


def unknown(legs: list[Leg]) -> list[Leg]:
    return [legs[0].replace(protocol=Protocol.UNKNOWN), legs[1]]


@pytest.mark.parametrize(
    ("change", "changes", "reason"),
    [
        (lambda legs: legs[:1], {}, "not_a_cycle"),
        (lambda legs: legs[::-1], {"token": SOL_MINT}, "not_a_cycle"),
        (lambda legs: [legs[0], legs[1].replace(token_in=USDC_MINT)], {}, "not_a_cycle"),
        (lambda legs: legs, {"token": USDC_MINT}, "not_a_cycle"),
        (lambda legs: legs, {"min_amount_out": 10**9 - 1}, "admits_a_loss"),
        (lambda legs: legs, {"amount_in": 0, "min_amount_out": 1}, "no_amount"),
        (lambda legs: [legs[0], legs[1].replace(amount_in=0)], {}, "no_amount"),
        (lambda legs: legs, {"min_amount_out": 2**64}, "no_amount"),
        (unknown, {}, "unknown_venue"),
        (lambda legs: [legs[0].replace(protocol=77), legs[1]], {}, "unknown_venue"),
        (lambda legs: [legs[0].replace(protocol=Protocol.MARINADE), legs[1]], {}, "minimum_not_enforced"),
        (lambda legs: [one.replace(pool=jito_usdc()) for one in legs], {}, "wrong_tokens"),
    ],
)
def test_what_no_transaction_is_made_of(change, changes: dict[str, object], reason: str):
    wanted = order(change(a_cycle()), **({"token": SOL_MINT, "amount_in": 10**9, "min_amount_out": 10**9} | changes))
    with pytest.raises(Unbuildable) as caught:
        build_cycle(wanted, chain(), tables(), BLOCKHASH)
    assert caught.value.reason == reason


def jito_usdc() -> str:
    return next(pool.address for pool in pools()["SOL/USDC"] if pool.venue == "whirlpool")


def test_accounts_that_are_missing_or_of_another_program():
    legs = a_cycle()
    for lacking in (legs[0].pool, other_mint(jito("whirlpool"))):
        known = {address: account for address, account in chain().items() if address != lacking}
        with pytest.raises(BadAccount) as caught:
            build_cycle(order(legs), known, tables(), BLOCKHASH)
        assert caught.value.reason == "missing_account"
    foreign = dict(chain()) | {legs[0].pool: (SYSTEM_PROGRAM, chain()[legs[0].pool][1])}
    with pytest.raises(BadAccount, match="is owned by"):
        build_cycle(order(legs), foreign, tables(), BLOCKHASH)


def test_minimums_are_never_lower_than_the_plan_says():
    legs = [one.replace(min_amount_out=10**10) for one in a_cycle()]
    assert minimums(order(legs)) == [10**10, 10**10]
    assert minimums(order(a_cycle())) == [800_000_123, 10**9 + 120_000]


def test_another_wallet_has_other_accounts():
    other = str(Keypair.from_seed(bytes(32)).pubkey())
    for one in cycle_instructions(order(a_cycle(), wallet=other), chain()):
        assert OWNER not in [str(meta.pubkey) for meta in one.accounts]
