"""What a venue says a pool needs, against what the core wants: quotes from the needed accounts are those from all.

The pools are made up by the builders of the pool tests, with their accounts moved to the addresses that the programs
derive.
"""

import pytest

from markets.solana.pools import Pool, PoolRefused, QuoteError
from markets.solana.venues import VENUES, Accounts, Venue, meteora_dlmm, raydium_clmm
from markets.solana.venues.shape import number_at
from pipeline.messages import Protocol
from tests.pools.build import NOW, POOL
from tests.pools.clmm_build import clmm_accounts
from tests.pools.damm import Damm
from tests.pools.dlmm import Bin, Pair
from tests.pools.stake_build import marinade_accounts, stake_pool_accounts

SLOT = 345_000_000
CLMM_ARRAY, CLMM_EXTENSION = bytes.fromhex("c09b55cd31f9812a"), bytes.fromhex("3c9624db61808b99")


def moved(venue: Venue, accounts: list[tuple]) -> list[tuple]:
    """Put arrays and extension where the program derives them."""
    placed = []
    for address, owner, data, *rest in accounts:
        at = address
        if venue is raydium_clmm and data[:8] == CLMM_ARRAY:
            at = raydium_clmm.tick_array(POOL, number_at(data, 40, "i"))
        elif venue is raydium_clmm and data[:8] == CLMM_EXTENSION:
            at = raydium_clmm.bitmap_extension(POOL)
        elif venue is meteora_dlmm and owner == meteora_dlmm.PROGRAM and address != POOL:
            extension = len(data) == 1576
            at = (
                meteora_dlmm.bitmap_extension(POOL)
                if extension
                else meteora_dlmm.bin_array(POOL, number_at(data, 8, "q"))
            )
        placed.append((at, owner, data, *rest))
    return placed


def needed_only(venue: Venue, accounts: list[tuple], *, rounds: int = 2) -> list[tuple]:
    """Fetch as a reader does: the pool, then what it needs, then again with what is known by then."""
    chain = {account[0]: account for account in accounts}
    known: dict[str, tuple] = {POOL: chain[POOL]}
    for _ in range(rounds):
        seen: Accounts = {address: (account[1], account[2]) for address, account in known.items()}
        for need in venue.accounts_needed(POOL, chain[POOL][2], seen):
            if need.address in chain:
                assert chain[need.address][1] in need.owners
                known[need.address] = chain[need.address]
            elif need.role in ("tick_array", "bin_array", "config", "reserve"):
                assert need.may_be_absent, need
    return list(known.values())


def parsed(protocol: Protocol, accounts: list[tuple]) -> Pool:
    return Pool.parse(int(protocol), POOL, accounts, SLOT, 1, NOW)


def outcome(pool: Pool, a_to_b: bool, amount: int) -> int | str:
    try:
        return pool.quote_in(a_to_b, amount).amount_out
    except QuoteError as error:
        return error.reason


SPREAD = [(-600 * n, 600 * n, 10**11 * n) for n in (1, 2, 3, 5, 9, 40)]


@pytest.mark.parametrize("tick", [0, 7, -1, 599, 600, -600, -601, 1_234])
def test_clmm_quotes_within_three_arrays_are_those_of_the_whole_pool(tick: int):
    everything = moved(raydium_clmm, clmm_accounts(SPREAD, tick=tick))
    whole = parsed(Protocol.RAYDIUM_CLMM, everything)
    part_accounts = needed_only(raydium_clmm, everything)
    assert len(part_accounts) < len(everything)
    part = parsed(Protocol.RAYDIUM_CLMM, part_accounts)
    given = 0
    for a_to_b in (True, False):
        for amount in (10**3, 10**6, 10**8, 10**9, 10**10, 10**11, 10**12, 10**13):
            found = outcome(part, a_to_b, amount)
            # What needs more arrays than one swap names is no quote, never a wrong one.
            assert found in (outcome(whole, a_to_b, amount), "not_enough_tick_array_account")
            given += isinstance(found, int)
    assert given >= 10


def test_clmm_pools_far_from_price_one_are_whole_after_the_second_look():
    everything = moved(
        raydium_clmm, clmm_accounts([(40_000, 40_100, 10**12), (39_000, 41_000, 10**10)], tick=40_050, spacing=1)
    )
    whole = parsed(Protocol.RAYDIUM_CLMM, everything)
    part = parsed(Protocol.RAYDIUM_CLMM, needed_only(raydium_clmm, everything))
    assert outcome(part, True, 10**6) == outcome(whole, True, 10**6) > 0
    first = needed_only(raydium_clmm, everything, rounds=1)
    once = parsed(Protocol.RAYDIUM_CLMM, first)
    assert outcome(once, True, 10**6) == "not_enough_tick_array_account"


@pytest.mark.parametrize("active", [0, 69, 70, -1, -70, 200])
def test_dlmm_quotes_are_those_of_the_whole_pair(active: int):
    bins = {at: Bin(x=10**6 if at >= active else 0, y=10**6 if at <= active else 0) for at in range(-700, 700, 13)}
    bins |= {active: Bin(x=10**6, y=10**6)}
    everything = moved(meteora_dlmm, Pair(active=active, bins=bins, step=10).accounts())
    whole = parsed(Protocol.METEORA_DLMM, everything)
    part_accounts = needed_only(meteora_dlmm, everything)
    assert len(part_accounts) < len(everything)
    part = parsed(Protocol.METEORA_DLMM, part_accounts)
    for a_to_b in (True, False):
        for amount in (10**3, 10**5, 10**6, 5 * 10**6, 10**7, 10**8):
            found = outcome(part, a_to_b, amount)
            assert found == outcome(whole, a_to_b, amount) or found == "bin_array_missing"
        assert isinstance(outcome(part, a_to_b, 5 * 10**6), int)


@pytest.mark.parametrize("active", [36_000, -36_100, 35_840, -35_841])
def test_dlmm_pairs_far_from_bin_0_are_whole_after_the_second_look(active: int):
    everything = moved(meteora_dlmm, Pair(active=active, step=1, bins={active: Bin(5 * 10**6, 5 * 10**6)}).accounts())
    part = parsed(Protocol.METEORA_DLMM, needed_only(meteora_dlmm, everything))
    whole = parsed(Protocol.METEORA_DLMM, everything)
    assert part.info()["bin_arrays"] == whole.info()["bin_arrays"] == [active // 70]
    assert outcome(part, True, 10**5) == outcome(whole, True, 10**5)


def test_damm_v2_pools_need_their_vaults_and_nothing_else():
    accounts = Damm().accounts()
    whole = parsed(Protocol.METEORA_DAMM_V2, accounts)
    part = parsed(Protocol.METEORA_DAMM_V2, needed_only(VENUES[Protocol.METEORA_DAMM_V2], accounts))
    assert (part.token_a, part.token_b) == VENUES[Protocol.METEORA_DAMM_V2].mints(accounts[0][2])
    for a_to_b in (True, False):
        assert outcome(part, a_to_b, 10**6) == outcome(whole, a_to_b, 10**6)
        assert isinstance(outcome(part, a_to_b, 10**6), int)


@pytest.mark.parametrize(
    ("protocol", "accounts"),
    [(Protocol.SPL_STAKE_POOL, stake_pool_accounts(10**15, 9 * 10**14)), (Protocol.MARINADE, marinade_accounts())],
)
def test_stake_pools_want_no_more_than_is_needed(protocol: Protocol, accounts: list[tuple]):
    epoch = number_at(accounts[0][2], 274, "Q") if protocol is Protocol.SPL_STAKE_POOL else 800
    part = needed_only(VENUES[protocol], accounts)
    pool = Pool.parse(int(protocol), POOL, part, epoch * 432_000 + 5, 1, NOW)
    whole = Pool.parse(int(protocol), POOL, accounts, epoch * 432_000 + 5, 1, NOW)
    assert (pool.token_a, pool.token_b) == VENUES[protocol].mints(accounts[0][2])
    for a_to_b in (True, False):
        assert outcome(pool, a_to_b, 10**9) == outcome(whole, a_to_b, 10**9)
        assert isinstance(outcome(pool, a_to_b, 10**9), int)
    # And no less: each needed account that the core reads is missed where it is not given.
    required = {
        need.address for need in VENUES[protocol].accounts_needed(POOL, accounts[0][2], {}) if need.role == "reserve"
    }
    for address in required:
        with pytest.raises(PoolRefused) as refused:
            Pool.parse(int(protocol), POOL, [one for one in part if one[0] != address], epoch * 432_000 + 5, 1, NOW)
        assert refused.value.reason == "missing_account"
