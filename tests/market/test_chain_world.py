"""The offline market on a chain: the same seed, exact swaps, a rival, forks."""

import pytest

from localnet.chain.faults import ChainFaults
from localnet.chain_genesis import FIRST_SLOT, trader_keypair
from localnet.chain_view import SLOTS_PER_EPOCH
from localnet.chain_world import ChainTerms, ChainWorld, open_chain
from localnet.layouts import token_amount
from localnet.programs import program_files
from localnet.rival import Rival
from localnet.traders import trader
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.venues import raydium_cpmm
from markets.tokens import SOL_MINT, load_registry
from pipeline._core import Pool
from pipeline.messages import ExecutionResult, Protocol

REGISTRY = load_registry()


def world(seed: int = 1, *, rival: float = 0.5, traders: bool = True, faults: ChainFaults | None = None) -> ChainWorld:
    return open_chain(
        REGISTRY, ChainTerms(seed, 100, rival_chance=rival, traders=traders), faults=faults or ChainFaults()
    )


def accounts_of(pool: Pool) -> list[tuple[object, ...]]:
    return [tuple(account) for account in pool.accounts()]


def test_the_same_seed_gives_the_same_chain_and_another_seed_another():
    first, second, other = world(), world(), world(2)
    trades = 0
    for _ in range(200):
        ours, theirs = first.advance(), second.advance()
        assert ours.trades == theirs.trades
        assert ours.block is not None
        assert theirs.block is not None
        signatures = [record.signature for record in ours.block.records]
        assert signatures == [record.signature for record in theirs.block.records]
        trades += len(ours.trades)
        other.advance()
    assert trades > 100
    assert first.rivalry.won > 10
    assert first.digest() == second.digest()
    assert first.digest() != other.digest()
    assert first.differences == second.differences == other.differences == 0


def test_every_pool_is_what_the_chains_accounts_say():
    market = world()
    changed = 0
    for _ in range(60):
        advance = market.advance()
        changed += len(advance.changed)
        for held in advance.changed:
            assert held.slot == advance.slot
            assert market.pools[held.pool.address] is held
    assert changed > 30
    for held in market.pools.values():
        for account in held.pool.accounts():
            on_chain = market.chain.account(account[0])
            assert on_chain is not None
            assert (on_chain.owner, on_chain.data) == (account[1], account[2])
            if len(account) == 4:
                assert on_chain.lamports == account[3]


def test_trades_are_transactions_of_the_traders():
    market = world(rival=0.0)
    for _ in range(40):
        advance = market.advance()
        assert advance.block is not None
        assert len(advance.block.records) == len(advance.trades)
        for record, trade in zip(advance.block.records, advance.trades, strict=True):
            assert record.error is None
            assert trade.pool in record.keys
            assert trade.trader in ("noise", "informed")
            assert record.keys[0] == str(trader_keypair(1, trade.trader).pubkey())


def test_without_traders_nothing_moves_but_time():
    market = world(traders=False, rival=0.0)
    before = {address: accounts_of(held.pool) for address, held in market.pools.items()}
    for _ in range(5):
        advance = market.advance()
        assert not advance.changed
        assert not advance.trades
    assert market.slot == FIRST_SLOT + 4
    assert {address: accounts_of(held.pool) for address, held in market.pools.items()} == before


def test_a_closed_market_goes_on_with_empty_slots():
    market = world()
    for _ in range(20):
        market.advance()
    # Bids of the slot before still land.
    closing = market.advance(last=True)
    assert closing.closing
    assert not closing.trades
    for _ in range(40):
        advance = market.advance()
        assert advance.closing
        assert advance.block is not None
        assert not advance.block.records
        assert not advance.changed


def test_the_rival_gains_by_its_cycles_and_tips_for_them():
    market = world()
    account = associated_address(str(trader_keypair(1, "rival").pubkey()), SOL_MINT)

    def wrapped() -> int:
        held = market.chain.account(account)
        assert held is not None
        return token_amount(held.data)

    before = wrapped()
    for _ in range(120):
        market.advance()
    market.advance(last=True)
    assert market.rivalry.won == market.rivalry.bids > 10, "nobody competes with it here"
    assert wrapped() > before
    assert len(market.chain.landed_tips()) == market.rivalry.won
    assert len(set(market.chain.landed_tips())) > 3


def test_of_two_bundles_for_one_cycle_the_dearer_lands_and_the_other_leaves_no_trace():
    market = world(rival=1.0)
    other = Rival(9, trader(1, "informed"), 1.0)
    outcomes: set[bool] = set()
    for _ in range(300):
        market.advance()
        for held in market.pools.values():
            other.see(held.pool)
        blockhash = market.chain.latest_blockhash("processed")[0]
        bids = other.bids(market.slot - market.engine.origin, market._known, blockhash)
        if not bids or not market._bundles:
            continue
        # Both see the same pools: the best cycle is the same one.
        theirs, ours = market._bundles[0], market.chain.send_bundle([bytes(bids[0].transaction)])
        tips = {one: market.chain._book.waiting[one].tip for one in (theirs, ours)}
        advance = market.advance()
        dear, cheap = (ours, theirs) if tips[ours] > tips[theirs] else (theirs, ours)
        if tips[dear] == tips[cheap]:
            continue
        states = [market.chain.bundle(one) for one in (dear, cheap)]
        assert [status.state for status in states if status is not None] == ["Landed", "Failed"]
        assert advance.block is not None
        assert cheap not in {record.bundle for record in advance.block.records}
        outcomes.add(dear == ours)
        if len(outcomes) == 2:
            break
    assert outcomes == {True, False}, "either of them is the dearer one now and then"


def test_a_fork_brings_the_pools_back_and_tells_them():
    market = world(rival=0.0)
    history: dict[int, dict[str, list[tuple[object, ...]]]] = {}
    for _ in range(60):
        market.advance()
        history[market.slot] = {address: accounts_of(held.pool) for address, held in market.pools.items()}
    moved = [address for address in market.pools if history[market.slot][address] != history[market.slot - 3][address]]
    assert moved
    back = market.slot - 3
    market.chain.rollback(3)
    advance = market.advance(last=True)
    assert advance.slot == back + 4
    assert {held.pool.address for held in advance.changed} == set(moved)
    for address, held in market.pools.items():
        assert accounts_of(held.pool) == history[back][address]


def test_forks_and_lost_bundles_leave_pools_and_chain_of_one_mind():
    faults = ChainFaults(fork_chance=0.2, fork_slots=2, bundle_lost=0.3, seed=5)
    market = world(faults=faults)
    forks = 0
    for _ in range(120):
        advance = market.advance()
        assert advance.block is not None
        forks += bool(advance.block.forked)
    assert forks > 3
    assert market.rivalry.won < market.rivalry.bids
    assert market.differences == 0
    for held in market.pools.values():
        for account in held.pool.accounts():
            on_chain = market.chain.account(account[0])
            assert on_chain is not None
            assert on_chain.data == account[2]


def test_pools_without_a_program_do_not_exist_and_are_named():
    programs = {raydium_cpmm.PROGRAM: program_files()[raydium_cpmm.PROGRAM]}
    market = open_chain(REGISTRY, ChainTerms(1, 100), programs=programs)
    assert {int(held.pool.protocol) for held in market.pools.values()} == {Protocol.RAYDIUM_CPMM}
    assert {pool.venue for pool in market.left_out} >= {"whirlpool", "raydium_amm_v4"}
    for pool in market.left_out:
        assert market.chain.account(pool.address) is None
    for _ in range(20):
        market.advance()
    assert market.differences == 0


def test_a_program_that_differs_from_the_core_is_told():
    files = dict(program_files())
    # Another program's code at this address takes no such instruction.
    other = next(address for address in files if address != raydium_cpmm.PROGRAM)
    files[raydium_cpmm.PROGRAM] = files[other]
    market = open_chain(REGISTRY, ChainTerms(1, 100), programs=files)
    told = [difference for _ in range(60) for difference in market.advance().differences]
    assert told
    assert market.differences == len(told)
    assert all("RAYDIUM_CPMM" in difference for difference in told)


def test_a_new_epoch_finds_every_stake_pool_updated():
    market = open_chain(REGISTRY, ChainTerms(1, 100, first_slot=FIRST_SLOT + SLOTS_PER_EPOCH - 5))
    pools = [held.pool.address for held in market.pools.values() if held.pool.protocol == Protocol.SPL_STAKE_POOL]
    for _ in range(10):
        market.advance()
    for address in pools:
        pool = market.pools[address].pool
        assert pool.info()["last_update_epoch"] == market.slot // SLOTS_PER_EPOCH


def test_results_change_nothing_for_they_stand_on_the_chain():
    market, other = world(), world()
    market.result(ExecutionResult(id="a", plan_id="a", slot=market.slot))
    for _ in range(10):
        market.advance()
        other.advance()
    assert market.digest() == other.digest()


def test_market_time_is_a_function_of_the_slot():
    first = open_chain(REGISTRY, ChainTerms(1, 250, traders=False))
    later = open_chain(REGISTRY, ChainTerms(1, 250, first_slot=FIRST_SLOT + 8, traders=False))
    times = [first.advance().market_ns for _ in range(10)]
    assert later.advance().market_ns == times[8]
    assert later.id != first.id
    assert first.chain.unix_time == pytest.approx(times[-1] / 1e9, abs=1)
