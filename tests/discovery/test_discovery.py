"""Finding pools: what is asked, what is left out and why, and what a node that fails or lies can do."""

from dataclasses import replace

import pytest

from markets.solana.discovery import MAX_TOLD, Found, Limits, changes, find_pools, questions
from markets.solana.rpc.accounts import AccountInfo
from markets.solana.venues import VENUES, Filters
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAM
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline.messages import Protocol
from tests.discovery.chains import REGISTRY, SLOT, FakeChain, address, token_account
from tests.venues.samples import NOW, amm_v4

V4, CPMM, CLMM = Protocol.RAYDIUM_AMM_V4, Protocol.RAYDIUM_CPMM, Protocol.RAYDIUM_CLMM


async def find(chain: FakeChain, before: Found | None = None, **limits: object) -> Found:
    known = before.pools if before is not None else ()
    return await find_pools(chain, REGISTRY, Limits(**limits), known, now_ns=NOW * 10**9)


def reasons(found: Found) -> dict[str, str]:
    return {one.address: one.reason for one in found.left_out}


def test_every_pair_is_asked_for_at_every_venue_within_what_a_node_allows():
    registry = load_registry()
    asked = questions(registry, Limits())
    assert {(one.protocol, one.pair.name) for one in asked} == {
        (protocol, pair.name)
        for protocol in VENUES
        for pair in registry.pairs
        if protocol not in (Protocol.SPL_STAKE_POOL, Protocol.MARINADE) or SOL_MINT in pair.mints
    }
    # A node takes at most four filters of 128 bytes.
    assert all(len(one.filters.rpc()) <= 4 for one in asked)
    assert all(len(bytes_.data) <= 128 for one in asked for bytes_ in one.filters.memcmp)
    assert questions(registry, Limits(protocols=(V4,)))[0].filters == Filters(asked[1].filters.memcmp, 752)


async def test_pools_are_found_with_what_their_vaults_hold():
    chain = FakeChain()
    small = chain.add_pool(1, V4, sol=5 * 10**9, usdc=7 * 10**8)
    large = chain.add_pool(10, CPMM, sol=9 * 10**12, usdc=10**12)
    found = await find(chain)
    assert [(pool.address, pool.protocol, pool.pair) for pool in found.pools] == [
        (large, CPMM, "SOL/USDC"),
        (small, V4, "SOL/USDC"),
    ]
    assert (found.pools[1].held_a, found.pools[1].held_b) == (5 * 10**9, 7 * 10**8)
    assert {found.pools[1].mint_a, found.pools[1].mint_b} == {SOL_MINT, USDC_MINT}
    assert found.slot == SLOT
    assert not found.failed
    assert not found.left_out


async def test_pools_nobody_should_trade_with_are_left_out_with_the_reason():
    chain = FakeChain()
    good = chain.add_pool(1, V4)
    expected = {
        chain.add_pool(10, V4, status=1): "swap_disabled",
        chain.add_pool(20, CPMM, open_time=NOW + 60): "not_open",
        chain.add_pool(30, CPMM, supply=0): "no_liquidity",
        chain.add_pool(40, CLMM, status=16): "swap_disabled",
        chain.add_pool(50, V4, sol=10**9 - 1): "too_small",
        chain.add_pool(60, V4): "missing_vault",
        chain.add_pool(70, V4): "foreign_vault",
        chain.add_pool(80, V4): "foreign_vault",
    }
    del chain.accounts[address(1060)]
    chain.put(address(1070), SYSTEM_PROGRAM, b"")
    chain.put(address(1081), TOKEN_PROGRAM, token_account(SOL_MINT, 10**12))
    found = await find(chain)
    assert [pool.address for pool in found.pools] == [good]
    assert reasons(found) == expected
    assert found.reasons == {
        "swap_disabled": 2,
        "not_open": 1,
        "no_liquidity": 1,
        "too_small": 1,
        "missing_vault": 1,
        "foreign_vault": 2,
    }


async def test_what_a_node_makes_up_is_not_believed():
    program = VENUES[V4].PROGRAMS[0]
    other_pair = amm_v4().replace(amm_v4()[432:464], bytes(31) + b"\x01")
    chain = FakeChain(
        extra=[
            AccountInfo(address(1), SYSTEM_PROGRAM, 1, amm_v4()),
            AccountInfo(address(2), program, 1, amm_v4()[:700]),
            AccountInfo(address(3), program, 1, b""),
            AccountInfo(address(4), program, 1, other_pair),
        ]
    )
    found = await find(chain, protocols=(V4,))
    assert found.pools == ()
    assert reasons(found) == {
        address(1): "wrong_owner",
        address(2): "short_data",
        address(3): "short_data",
        address(4): "unknown_pair",
    }


async def test_a_question_without_an_answer_keeps_what_was_known_of_it():
    chain = FakeChain()
    chain.add_pool(1, V4)
    chain.add_pool(10, CPMM)
    before = await find(chain)
    chain.broken = {VENUES[V4].PROGRAMS[0]}
    del chain.accounts[address(10)]
    after = await find(chain, before)
    assert [pool.address for pool in after.pools] == [address(1)]
    assert len(after.failed) == 2  # either mint may be the coin
    assert "raydium_amm_v4 SOL/USDC" in after.failed[0]
    told = changes(before, after)
    assert [(gone.address, gone.reason) for gone in told.gone] == [(address(10), "gone")]
    assert told.added == ()


async def test_a_pool_that_a_node_forgets_is_looked_up_before_it_is_given_up():
    chain = FakeChain()
    chain.add_pool(1, V4)
    chain.add_pool(10, V4)
    before = await find(chain)
    chain.forgotten = {address(1), address(10)}
    chain.accounts[address(10)] = replace(chain.accounts[address(10)], owner=SYSTEM_PROGRAM, data=b"")
    after = await find(chain, before)
    assert [pool.address for pool in after.pools] == [address(1)]
    assert [(gone.address, gone.reason) for gone in changes(before, after).gone] == [(address(10), "wrong_owner")]
    chain.broken = {"vaults"}
    blind = await find(chain, after)
    assert [pool.address for pool in blind.pools] == [address(1)]
    assert blind.failed


async def test_vaults_that_cannot_be_read_hold_new_pools_back_and_old_ones_not():
    chain = FakeChain()
    old = chain.add_pool(1, V4)
    before = await find(chain)
    new = chain.add_pool(10, V4)
    chain.broken = {"vaults"}
    found = await find(chain, before)
    assert [pool.address for pool in found.pools] == [old]
    assert found.pools[0].held_a == 10**12  # as it was
    assert reasons(found) == {new: "vault_unread"}


async def test_a_pool_that_is_paused_goes_and_says_why():
    chain = FakeChain()
    chain.add_pool(1, CPMM)
    before = await find(chain)
    chain.add_pool(1, CPMM, status=4)
    after = await find(chain, before)
    assert [gone.reason for gone in changes(before, after).gone] == ["swap_disabled"]
    chain.add_pool(1, CPMM)
    assert [pool.address for pool in changes(after, await find(chain, after)).added] == [address(1)]


async def test_limits_keep_the_largest_pools_of_every_pair():
    chain = FakeChain()
    for number in range(1, 60, 2):
        chain.add_pool(number, V4, sol=number * 10**9)
    found = await find(chain, max_pools_per_pair=5)
    assert [pool.held_a for pool in found.pools] == [number * 10**9 for number in (59, 57, 55, 53, 51)]
    assert found.reasons == {"over_limit": 25}
    assert len((await find(chain, max_pools=3)).pools) == 3
    assert found == await find(chain, max_pools_per_pair=5)  # the same chain, the same list


async def test_many_left_out_pools_are_counted_and_not_all_named():
    chain = FakeChain()
    program = VENUES[V4].PROGRAMS[0]
    for number in range(MAX_TOLD + 100):
        chain.put(address(number), program, amm_v4(status=1))
    found = await find(chain, protocols=(V4,))
    assert found.reasons == {"swap_disabled": MAX_TOLD + 100}
    assert len(found.left_out) == MAX_TOLD


@pytest.mark.parametrize("parallel", [1, 4])
async def test_no_more_questions_are_on_their_way_than_allowed(parallel: int):
    import asyncio

    busy, most = 0, 0

    class Slow(FakeChain):
        async def get_program_accounts(self, program, filters):
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(0)
            busy -= 1
            return await super().get_program_accounts(program, filters)

    told: list[tuple[int, int]] = []
    await find_pools(Slow(), REGISTRY, Limits(parallel=parallel), (), now_ns=0, progress=lambda *one: told.append(one))
    assert most == parallel
    assert told[-1] == (len(told), len(told))
