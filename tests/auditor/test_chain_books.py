"""The books held against a real offline chain: cycles, reverts, the owner, strangers, forks, crashes, restarts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from solders.keypair import Keypair

from localnet.chain_world import ChainTerms, open_chain
from localnet.rpc_node import RpcNode
from markets.solana.rpc.endpoint import offline_endpoint
from markets.solana.rpc.errors import RpcError
from markets.solana.transactions.effects import effect_of, fills_of
from markets.solana.transactions.token_accounts import (
    TOKEN_ACCOUNT_RENT,
    open_account,
    rewrap_sol,
    unwrap_sol,
    wrap_sol,
)
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline.cli.tax import found_disposals, tax_row
from pipeline.ledger import Ledger, PlanEntry, Span, open_report
from pipeline.messages import ExecutionResult, Protocol
from workers.auditor.chain import ChainDesk
from workers.auditor.chain_reader import Reader
from workers.auditor.endpoints import Endpoints

from .chain_deeds import FILLED, REVERTED, executed, pay, profit_of
from .chain_stage import AMOUNT, FEE, KEYS, SEED, STRANGER, TIP, WALLETS, ChainStage, announce, chain_stage, send_tokens

ONE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
BASE = 5_000


async def test_a_cycle_is_proved_to_the_lamport(stage: ChainStage) -> None:
    told = await stage.audit()
    assert told[SOL_MINT].opening == stage.holdings(SOL_MINT)
    plan, result = executed(stage)
    told = await stage.look()
    assert told[SOL_MINT].pending == 1
    told = await stage.audit()
    sol = told[SOL_MINT]
    assert (sol.traded, sol.moved, sol.upkeep, sol.difference, sol.pending) == (profit_of(plan), 0, 0, 0, 0)
    assert sol.balance - sol.opening == profit_of(plan)
    assert sol.balance == stage.holdings(SOL_MINT)
    assert told[USDC_MINT].balance == told[USDC_MINT].opening == stage.holdings(USDC_MINT)
    assert (stage.anomalies(), sol.causation_id) == ([], result.signature)


@ONE
async def test_a_cycle_in_usdc_pays_in_sol(stage: ChainStage) -> None:
    await stage.audit()
    plan = stage.plan(token=USDC_MINT)
    signature = stage.world.chain.send(bytes(stage.transaction(plan)))
    stage.advance()
    stage.book(stage.submitted(plan, signature), stage.result(plan, signature, FILLED))
    told = await stage.audit()
    gross = plan.expected_amount_out - plan.amount_in
    assert gross > plan.cost
    assert (told[USDC_MINT].traded, told[USDC_MINT].difference) == (gross, 0)
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference) == (-FEE - TIP, 0)
    assert (told[USDC_MINT].balance, stage.anomalies()) == (stage.holdings(USDC_MINT), [])


@ONE
async def test_an_auditor_that_comes_late_finds_the_same_opening(stage: ChainStage) -> None:
    opening = stage.holdings(SOL_MINT)
    plan, _ = executed(stage)
    stage.send([pay(STRANGER, WALLETS[1], 7 * 10**9)], STRANGER)
    told = await stage.audit()
    sol = told[SOL_MINT]
    assert (sol.opening, sol.traded, sol.moved, sol.difference) == (opening, profit_of(plan), 7 * 10**9, 0)
    assert (sol.balance, sol.transactions) == (stage.holdings(SOL_MINT), 2)


@ONE
async def test_a_revert_is_its_fee(stage: ChainStage) -> None:
    plan = stage.plan()
    transaction = stage.transaction(plan)
    pool = stage.pool(Protocol.RAYDIUM_AMM_V4)
    stage.trade(pool, pool.token_a == SOL_MINT, 10**8)
    signature = stage.world.chain.send(bytes(transaction), preflight=False)
    stage.advance()
    assert stage.record(signature).error is not None
    stage.book(stage.submitted(plan, signature), stage.result(plan, signature, REVERTED))
    told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference, stage.anomalies()) == (-FEE, 0, [])


@ONE
async def test_what_a_leg_gave_beyond_the_plan_is_booked_under_its_token(stage: ChainStage) -> None:
    plan = stage.plan()
    transaction = stage.transaction(plan)
    pool = stage.pool(Protocol.RAYDIUM_AMM_V4)
    stage.trade(pool, pool.token_a == USDC_MINT, 10**9)
    signature = stage.world.chain.send(bytes(transaction), preflight=False)
    stage.advance()
    result = stage.result(plan, signature, FILLED)
    stage.advance()
    options = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    told = await stage.rpc.call("getTransaction", [signature, options], read=dict)
    legs = fills_of(effect_of(told, WALLETS), plan.legs, WALLETS[0])
    surplus = legs[0].amount_out - legs[1].amount_in
    assert surplus > 0
    fills = [
        fill.replace(amount_in=leg.amount_in, amount_out=leg.amount_out)
        for fill, leg in zip(result.fills, legs, strict=True)
    ]
    stage.book(stage.submitted(plan, signature), result.replace(fills=fills))
    found = await stage.audit()
    assert (found[SOL_MINT].traded, found[SOL_MINT].difference) == (profit_of(plan), 0)
    assert (found[USDC_MINT].traded, found[USDC_MINT].difference) == (surplus, 0)
    assert stage.anomalies() == []


@ONE
async def test_the_owner_brings_and_takes(stage: ChainStage) -> None:
    stranger = str(STRANGER.pubkey())
    await stage.audit()
    # SOL from outside, SOL to outside, SOL between two of our own.
    stage.send([pay(STRANGER, WALLETS[0], 5 * 10**9)], STRANGER)
    stage.send([pay(KEYS[0], stranger, 2 * 10**9)], KEYS[0])
    stage.send([pay(KEYS[0], WALLETS[1], 10**9)], KEYS[0])
    # Tokens from outside: that transaction does not name the wallet at all. Tokens to outside.
    stage.send([send_tokens(stranger, WALLETS[1], 900)], STRANGER)
    stage.send([send_tokens(WALLETS[0], stranger, 70)], KEYS[0])
    told = await stage.audit()
    sol, usdc = told[SOL_MINT], told[USDC_MINT]
    assert (sol.moved, sol.upkeep, sol.traded, sol.difference) == (3 * 10**9, -3 * BASE, 0, 0)
    assert (usdc.moved, usdc.upkeep, usdc.difference) == (830, 0, 0)
    assert (sol.balance, usdc.balance) == (stage.holdings(SOL_MINT), stage.holdings(USDC_MINT))
    assert stage.anomalies() == []


@ONE
async def test_every_lot_is_accounted_for(stage: ChainStage, url: str) -> None:
    """What the export for taxes gives away, and what is left of the lots, is what the wallets had, got and hold."""
    opening = stage.holdings(SOL_MINT)
    plan, _ = executed(stage)
    stage.send([pay(STRANGER, WALLETS[0], 5 * 10**9)], STRANGER)
    stage.send([pay(KEYS[0], str(STRANGER.pubkey()), 2 * 10**9)], KEYS[0])
    await stage.audit()
    stage.desk_tokens()
    reader = open_report(url)
    try:
        found = list(found_disposals(reader))
        rows = [tax_row(one, reader.tokens()) for one in found]
    finally:
        reader.close()
    assert {row["source"] for row in rows} == {"opening"}
    assert [row["event"] for row in rows] == ["swap", "swap", "fee", "tip", "withdrawal", "upkeep"]
    given = {
        event: sum(one.amount for one in found if one.event == event)
        for event in ("fee", "tip", "withdrawal", "upkeep")
    }
    assert given == {"fee": FEE, "tip": TIP, "withdrawal": 2 * 10**9, "upkeep": BASE}
    swapped = [(one.token, one.amount) for one in found if one.event == "swap"]
    assert swapped == [(SOL_MINT, AMOUNT), (USDC_MINT, plan.legs[1].amount_in)]
    left = opening + 5 * 10**9 + plan.expected_amount_out - AMOUNT - sum(given.values())
    assert left == stage.holdings(SOL_MINT)


@ONE
async def test_wrapping_and_accounts_are_upkeep(stage: ChainStage) -> None:
    newcomer = KEYS[0]
    await stage.audit()
    before = stage.holdings(SOL_MINT)
    stage.send(wrap_sol(WALLETS[0], 10**9), newcomer)
    # An account for somebody else costs its rent.
    other = str(Keypair.from_seed(bytes(range(32))).pubkey())
    stage.send([pay(STRANGER, other, 10**9)], STRANGER)
    stage.send([open_account(WALLETS[0], other, USDC_MINT)], newcomer)
    told = await stage.audit()
    sol = told[SOL_MINT]
    assert (sol.upkeep, sol.moved, sol.difference) == (-2 * BASE - TOKEN_ACCOUNT_RENT, 0, 0)
    assert sol.balance == stage.holdings(SOL_MINT) == before + sol.upkeep
    # The wrapped SOL's account is closed, rent and all, and opened again.
    stage.send([unwrap_sol(WALLETS[0])], newcomer)
    stage.send(rewrap_sol(WALLETS[1], 10**8), KEYS[1])
    told = await stage.audit()
    assert (told[SOL_MINT].upkeep, told[SOL_MINT].difference) == (-4 * BASE - TOKEN_ACCOUNT_RENT, 0)
    assert told[SOL_MINT].balance == stage.holdings(SOL_MINT)
    assert stage.anomalies() == []


async def test_bookings_made_anew_are_the_same(stage: ChainStage, url: str) -> None:
    """A rebuild keeps the chain's evidence, and holds the results against it again."""
    plan = stage.plan(1)
    signature = stage.world.chain.send(bytes(stage.transaction(plan)))
    stage.advance()
    lie = stage.result(plan, signature, FILLED).replace(amount_out=plan.expected_amount_out + 5)
    messages: list[ExecutionResult] = [lie]
    stage.book(stage.submitted(plan, signature), lie)
    _, gone = executed(stage, 2, land=False)
    messages.append(gone)
    stage.advance(70)
    told = await stage.audit()
    before = books(url)
    count = len(stage.anomalies())
    assert count == 2
    stage.ledger.clear()
    stage.sequence = 0
    stage.ledger.book_plans([PlanEntry(1, plan)], Span("then", 0, 1))
    stage.book(*messages)
    assert books(url) == before
    again = await stage.audit()
    assert (again[SOL_MINT].difference, again[SOL_MINT].traded) == (0, told[SOL_MINT].traded)
    assert len(stage.anomalies()) == count


def books(url: str) -> Any:
    reader = open_report(url)
    try:
        report = reader.report()
    finally:
        reader.close()
    # The way there is another one: a correction stands right behind its result.
    books = {
        name: value for name, value in report.books.items() if name not in ("peak_lamports", "max_drawdown_lamports")
    }
    return books, report.tokens, report.statuses


@ONE
async def test_another_chain_is_an_alarm_and_a_new_opening(stage: ChainStage) -> None:
    plan, _ = executed(stage)
    await stage.audit()
    before = stage.ledger.totals().totals
    # Its market died, and began anew from the same seed.
    await stage.node.stop()
    stage.world = open_chain(load_registry(), ChainTerms(SEED, 400, traders=False))
    stage.node = RpcNode(stage.world.chain)
    url = await stage.node.start()
    announce(stage.config, url)
    async with Endpoints(stage.config).open((offline_endpoint(url),)) as stage.rpc:
        stage.auditor()
        opening = stage.holdings(SOL_MINT)
        plan, _ = executed(stage, 2)
        told = await stage.audit()
    sol = told[SOL_MINT]
    assert (sol.opening, sol.traded, sol.difference, sol.pending) == (opening, profit_of(plan), 0, 0)
    assert [one.rule for one in stage.anomalies()] == ["chain_changed"]
    assert stage.ledger.totals().totals[SOL_MINT]["executions"] == before[SOL_MINT]["executions"] + 1


class Killed(Exception):
    """Stands for kill -9."""


@pytest.mark.parametrize("place", ["before", "after"])
async def test_killed_around_a_booking_it_goes_on_where_it_stopped(
    stage: ChainStage, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = executed(stage)
    stage.advance(40)
    advance = stage.ledger.advance

    def doomed(*given: Any) -> Any:
        if place == "after":
            advance(*given)
        raise Killed

    monkeypatch.setattr(stage.ledger, "advance", doomed)
    with pytest.raises(Killed):
        await stage.look()
    monkeypatch.undo()
    stage.auditor()
    second, _ = executed(stage, 2)
    told = await stage.audit()
    sol = told[SOL_MINT]
    assert (sol.traded, sol.difference, sol.transactions) == (profit_of(plan) + profit_of(second), 0, 2)
    assert stage.anomalies() == []


@ONE
async def test_two_auditors_book_nothing_twice(stage: ChainStage) -> None:
    plan, _ = executed(stage)
    stage.advance(40)
    first = stage.chain_desk, stage.reader
    stage.auditor()
    await stage.look()
    # The first one read the chain before the second one booked it.
    await first[0].look(first[1])
    told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].transactions) == (profit_of(plan), 1)


@ONE
async def test_a_chain_that_answers_badly_books_nothing_wrong(stage: ChainStage) -> None:
    """A node that fails, limits, truncates and lags: passes fail, none books what is not so."""
    opening = stage.holdings(SOL_MINT)
    plans = [executed(stage, number)[0] for number in range(2)]
    stage.advance(40)
    faults = stage.node.faults
    faults.limited = faults.failed = faults.truncated = 0.06
    failed = 0
    for _ in range(30):
        try:
            told = await stage.look()
        except RpcError:
            failed += 1
            continue
        if told and told[SOL_MINT].transactions == len(plans):
            break
    faults.limited = faults.failed = faults.truncated = 0.0
    told = await stage.audit()
    sol = told[SOL_MINT]
    assert (sol.opening, sol.traded, sol.difference) == (opening, sum(map(profit_of, plans)), 0)
    assert stage.anomalies() == []


@ONE
async def test_the_books_of_a_live_chain_begin_where_the_auditor_came_or_the_first_plan_was_sent(
    tmp_path: Path, ledger: Ledger
) -> None:
    async with chain_stage(tmp_path, ledger, **{"executor.mode": "live"}) as stage:
        # Long before us.
        stage.send([pay(STRANGER, WALLETS[0], 5 * 10**9)], STRANGER)
        stage.advance(40)
        opening = stage.holdings(SOL_MINT)
        plan, _ = executed(stage)
        # The auditor comes when that is final already.
        told = await stage.audit()
        sol = told[SOL_MINT]
        assert (sol.opening, sol.traded, sol.moved, sol.difference) == (opening, profit_of(plan), 0, 0)
        stage.send([pay(STRANGER, WALLETS[1], 10**9)], STRANGER)
        told = await stage.audit()
        assert (told[SOL_MINT].opening, told[SOL_MINT].moved, told[SOL_MINT].difference) == (opening, 10**9, 0)
        assert stage.anomalies() == []


@ONE
async def test_an_account_that_a_stranger_opens_for_a_wallet_is_found(stage: ChainStage) -> None:
    """Opened and filled by others: the wallet signs nothing, and gains rent and tokens."""
    mint = next(one.mint for one in load_registry().tokens if one.mint not in (SOL_MINT, USDC_MINT))
    other = str(Keypair.from_seed(bytes(range(32))).pubkey())
    stage.chain_desk = ChainDesk(stage.context, stage.desk, stage.ledger, [*WALLETS, other])
    stage.reader = Reader(stage.rpc, [*WALLETS, other], Endpoints(stage.config).instance)
    await stage.audit()
    stranger = str(STRANGER.pubkey())
    stage.send(
        [open_account(stranger, other, mint), send_tokens(stranger, other, 77, mint, 9)],
        STRANGER,
    )
    told = await stage.audit()
    rent, tokens = told[SOL_MINT], told[mint]
    assert (rent.moved, rent.difference) == (TOKEN_ACCOUNT_RENT, 0)
    assert (tokens.balance, tokens.moved, tokens.difference) == (77, 77, 0)
    assert stage.anomalies() == []
