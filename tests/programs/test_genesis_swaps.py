"""Every pool of the offline chain's genesis, traded both ways by real transactions, against the core."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from localnet.chain_genesis import chain_genesis
from localnet.chain_view import ChainAccount
from localnet.genesis import PROTOCOLS, GenesisPool, genesis
from localnet.layouts import token_amount
from localnet.programs import program_files
from markets.solana.venues import VENUES
from markets.solana.venues.shape import TOKEN_PROGRAM, Swap
from markets.tokens import SOL_MINT, load_registry

from .compare import compare
from .rig import RICH, USER, Raw, Rig

REGISTRY = load_registry()
POOLS = genesis(REGISTRY, 7)
MOST_UNITS = {
    "whirlpool": 40_000,
    "raydium_amm_v4": 8_000,
    "raydium_cpmm": 9_000,
    "spl_stake_pool": 20_000,
    "marinade": 16_000,
}


@pytest.fixture(scope="module")
def accounts() -> dict[str, ChainAccount]:
    return dict(chain_genesis(REGISTRY, 7))


def rig(pool: GenesisPool, accounts: dict[str, ChainAccount], **options: object) -> Rig:
    """Return a pool as the chain has it, and beside it whatever its swaps name."""

    def raw(address: str) -> Raw:
        found = accounts[address]
        return address, found.owner, found.data, found.lamports

    staking = pool.venue in ("spl_stake_pool", "marinade")
    # Lamports are followed where they are what a pool deals in.
    rows = [raw(row[0]) if staking else raw(row[0])[:3] for row in pool.accounts]
    given = {row[0] for row in rows}
    known = {address: (account.owner, account.data) for address, account in accounts.items()}
    venue = VENUES[PROTOCOLS[pool.venue]]
    mints = venue.mints(known[pool.address][1])
    named = [
        meta.address
        for a_to_b in (True, False)
        for meta in venue.swap_instruction(pool.address, known, Swap(a_to_b, 1, 0, USER, USER, USER)).metas
    ]
    beside = [raw(of) for of in dict.fromkeys((*named, *mints)) if of in accounts and of not in given]
    made = Rig(PROTOCOLS[pool.venue], pool.address, rows, beside, **options)
    if staking:
        made.unfollowed |= {
            row[0] for row in rows if row[1] == TOKEN_PROGRAM and row[0] not in venue.vaults(rows[0][2])
        }
    return made


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: f"{pool.venue}-{pool.pair.name}-{pool.address[-4:]}")
def test_each_pool_trades_both_ways_as_the_core_says(pool: GenesisPool, accounts: dict[str, ChainAccount]) -> None:
    assert pool.accounts[0][1] in program_files()
    made, dice, most = rig(pool, accounts), random.Random(pool.address), 0
    for number in range(6):
        a_to_b = number % 2 == 0
        # From a few units to some thousandths of the pool.
        amount = dice.randrange(10**5, 10 ** dice.randrange(7, 11))
        done = compare(made, a_to_b, amount)
        assert done.error is None, (amount, done)
        most = max(most, done.units)
    assert most < MOST_UNITS[pool.venue]


def test_a_cycle_of_two_swaps_stays_far_below_its_budget(accounts: dict[str, ChainAccount]) -> None:
    by_pair: dict[str, list[GenesisPool]] = defaultdict(list)
    for pool in POOLS:
        # Both keep their mints in the order of their bytes: one set of wallets serves both.
        if pool.venue in ("whirlpool", "raydium_cpmm"):
            by_pair[pool.pair.name].append(pool)
    most, tried = 0, 0
    for pools in by_pair.values():
        first = rig(pools[0], accounts)
        second = rig(pools[1], accounts, svm=first.svm)
        sol = 10 * 10**9 if first.mints[0] == SOL_MINT else first.model().quote_in(False, 10 * 10**9).amount_out
        there = first.model().quote_in(True, sol).amount_out
        done = first.run(first.instruction(True, sol, there), second.instruction(False, there))
        assert done.error is None
        assert token_amount(first.data(first.wallets[1])) == RICH
        most, tried = max(most, done.units), tried + 1
    assert tried == len(REGISTRY.pairs)
    assert most < 60_000
