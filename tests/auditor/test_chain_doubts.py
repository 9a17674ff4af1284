"""What an auditor may get wrong about a chain that is told by several nodes, late, in part, or twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from localnet.chain_world import ChainTerms, open_chain
from localnet.rpc_node import RpcNode
from markets.solana.rpc.endpoint import offline_endpoint
from markets.tokens import SOL_MINT, USDC_MINT, load_registry
from pipeline.ledger import Ledger, PlanEntry, Span, open_report
from pipeline.messages import PnlSnapshot
from workers.auditor.chain import ChainDesk
from workers.auditor.chain_reader import Reader
from workers.auditor.endpoints import Endpoints
from workers.auditor.walk import Entry, Read

from .chain_deeds import DROPPED, FILLED, executed, pay, profit_of
from .chain_stage import SEED, STRANGER, WALLETS, ChainStage, announce, chain_stage, send_tokens

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
PATIENT = {"auditor.plan_grace_s": 60.0}


async def begun_anew(stage: ChainStage) -> None:
    """The market died and began anew from the same seed; the auditor has not noticed."""
    await stage.node.stop()
    stage.world = open_chain(load_registry(), ChainTerms(SEED, 400, traders=False))
    stage.node = RpcNode(stage.world.chain)
    stage.url = await stage.node.start()
    announce(stage.config, stage.url)


async def test_a_height_from_a_node_that_is_ahead_takes_nothing_back(
    stage: ChainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node tells the height, another one, far behind, the history: what landed in between is not called lost."""
    await stage.audit()
    plan = stage.plan()
    transaction = stage.transaction(plan)
    result = stage.result(plan, str(transaction.signatures[0]), FILLED)
    stage.book(stage.submitted(plan, result.signature), result)
    stage.advance(50)
    assert stage.world.chain.send(bytes(transaction)) == result.signature
    stage.advance(45)
    call = stage.rpc.call

    async def by_two_nodes(method: str, *given: Any, **named: Any) -> Any:
        stage.node.faults.behind_slots = 0 if method in ("getBlockHeight", "getEpochInfo") else 40
        return await call(method, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(stage.rpc, "call", by_two_nodes)
        await stage.look()
    stage.node.faults.behind_slots = 0
    told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference, stage.anomalies()) == (profit_of(plan), 0, [])
    assert stage.ledger.totals().totals[SOL_MINT]["net_profit"] == profit_of(plan)


async def test_what_was_taken_back_wrongly_is_given_back(
    stage: ChainStage, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node lied about the height; then the transaction is on the final chain: corrected, and corrected again."""
    await stage.audit()
    plan, result = executed(stage)

    async def far_too_high() -> tuple[int, int]:
        return 0, 10**12

    with monkeypatch.context() as patched:
        patched.setattr(stage.reader, "height", far_too_high)
        stage.advance(1)
        await stage.look()
    assert stage.ledger.totals().totals[SOL_MINT]["net_profit"] == 0
    told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference) == (profit_of(plan), 0)
    assert [one.rule for one in stage.anomalies()] == ["transaction_vanished", "transaction_landed_after_all"]
    total = stage.ledger.totals().totals[SOL_MINT]
    assert (total["net_profit"], total["filled"], total["wins"]) == (profit_of(plan), 1, 1)
    reader = open_report(url)
    try:
        [trade] = reader.all_trades()
        rows = [(row["status"], row["equity_lamports"]) for row in reader.trades()]
    finally:
        reader.close()
    assert rows == [("FILLED", profit_of(plan)), ("CORRECTION", 0), ("CORRECTION", profit_of(plan))]
    assert (trade.figures["net_profit"], trade.net_lamports) == (profit_of(plan), profit_of(plan))
    assert [(fill["amount_in"], fill["amount_out"]) for fill in trade.fills] == [
        (fill.amount_in, fill.amount_out) for fill in result.fills
    ]
    assert "fork" not in trade.causes()


async def test_tokens_sent_while_the_accounts_could_not_be_read_at_one_slot_are_found(
    stage: ChainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in no wallet's history, and balances that would show them are not there: histories of all are read."""
    await stage.audit()
    stage.send([send_tokens(str(STRANGER.pubkey()), WALLETS[0], 77)], STRANGER)
    read = stage.reader.read

    async def of_several_slots(*given: Any) -> tuple[int, dict[str, Read] | None]:
        return (await read(*given))[0], None

    with monkeypatch.context() as patched:
        patched.setattr(stage.reader, "read", of_several_slots)
        await stage.audit()
    told = await stage.audit()
    assert (told[USDC_MINT].moved, told[USDC_MINT].difference, stage.anomalies()) == (77, 0, [])


async def test_a_history_that_is_late_is_waited_for(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node tells balances before it tells the transaction behind them."""
    async with chain_stage(tmp_path, ledger, **PATIENT) as stage:
        await stage.audit()
        plan, _ = executed(stage)
        stage.send([pay(STRANGER, WALLETS[0], 7)], STRANGER)

        async def nothing_yet(*_: Any, **__: Any) -> Sequence[Entry]:
            return []

        with monkeypatch.context() as patched:
            patched.setattr(stage.reader, "history", nothing_yet)
            await stage.audit()
        told = await stage.audit()
        sol = told[SOL_MINT]
        assert (sol.traded, sol.moved, sol.difference, stage.anomalies()) == (profit_of(plan), 7, 0, [])


async def test_a_history_that_never_comes_is_an_alarm(stage: ChainStage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.audit()
    stage.send([pay(STRANGER, WALLETS[0], 7)], STRANGER)

    async def nothing(*_: Any, **__: Any) -> Sequence[Entry]:
        return []

    monkeypatch.setattr(stage.reader, "history", nothing)
    await stage.audit()
    told = await stage.audit()
    assert told[SOL_MINT].difference == 7
    assert [one.rule for one in stage.anomalies()] == ["reconciliation_difference"]


async def test_a_result_of_a_chain_that_was_not_noticed_yet_is_still_held_against_it(stage: ChainStage) -> None:
    """It was booked before the auditor saw the new chain, and its transaction becomes final later."""
    executed(stage)
    await stage.audit()
    await begun_anew(stage)
    async with Endpoints(stage.config).open((offline_endpoint(stage.url),)) as stage.rpc:
        stage.auditor()
        stage.advance(40)
        plan, result = executed(stage, 2, status=DROPPED)
        await stage.look()
        # Booking something else settles as well.
        stage.book(stage.result(stage.plan(3), "", DROPPED))
        told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference, told[SOL_MINT].pending) == (profit_of(plan), 0, 0)
    rules = [(one.rule, one.causation_id) for one in stage.anomalies()]
    assert rules[1:] == [("transaction_landed_after_all", result.id)]
    booked = stage.ledger.totals().totals[SOL_MINT]
    assert (booked["filled"], booked["executions"]) == (2, 3)


async def test_fresh_books_take_nothing_back_of_a_chain_before(stage: ChainStage, tmp_path: Path) -> None:
    """EXECUTED holds a week, of chains that are gone; books that are new have never heard of them."""
    plan, result = executed(stage)
    unresulted = stage.plan(2)
    submitted = stage.submitted(unresulted, "never"), stage.submitted(plan, result.signature)
    await begun_anew(stage)
    stage.ledger = Ledger(f"sqlite:///{tmp_path}/fresh.sqlite3", starting_capital_lamports=1)
    stage.sequence = 0
    async with Endpoints(stage.config).open((offline_endpoint(stage.url),)) as stage.rpc:
        stage.auditor()
        stage.book(*submitted, result, result.replace(id="dropped", status=DROPPED, signature="other"))
        stage.advance(7)  # or the same seed gives the same transaction
        second, _ = executed(stage, 3)
        stage.advance(500)
        told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference, stage.anomalies()) == (profit_of(second), 0, [])
    reader = open_report(f"sqlite:///{tmp_path}/fresh.sqlite3")
    try:
        assert [trade.row["proof"] for trade in reader.all_trades()] == ["lost", "lost", "proved"]
    finally:
        reader.close()
        stage.ledger.close()


async def test_the_same_transaction_on_two_chains_of_one_seed_is_settled_once(stage: ChainStage, url: str) -> None:
    """The same seed gives the same transactions: after a rebuild both chains bear the one result out."""
    plan, result = executed(stage)
    await stage.audit()
    await begun_anew(stage)
    async with Endpoints(stage.config).open((offline_endpoint(stage.url),)) as stage.rpc:
        stage.auditor()
        again, second = executed(stage)
        assert (again.id, second.signature) == (plan.id, result.signature)
        told = await stage.audit()
        assert (told[SOL_MINT].traded, told[SOL_MINT].difference) == (profit_of(plan), 0)
        stage.ledger.clear()
        stage.sequence = 0
        stage.ledger.book_plans([PlanEntry(1, plan)], Span("then", 0, 1))
        # Told otherwise than it was: corrected once.
        stage.book(result.replace(amount_out=result.amount_out - 9))
        told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference) == (profit_of(plan), 0)
    reader = open_report(url)
    try:
        assert reader.report().statuses == {"CORRECTION": 1, "FILLED": 1}
    finally:
        reader.close()
    assert stage.ledger.totals().totals[SOL_MINT]["net_profit"] == profit_of(plan)


async def test_a_transaction_that_two_results_claim_is_no_profit_twice(stage: ChainStage) -> None:
    """Whoever booked it again: the chain gave it once, and the books do not come out."""
    plan, result = executed(stage)
    told = await stage.audit()
    assert told[SOL_MINT].difference == 0
    stage.book(result.replace(id="another", attempt=2))
    told = await stage.audit()
    assert stage.ledger.totals().totals[SOL_MINT]["net_profit"] == 2 * profit_of(plan)
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference) == (2 * profit_of(plan), -profit_of(plan))
    assert "reconciliation_difference" in [one.rule for one in stage.anomalies()]


async def test_what_a_correction_changed_is_published(stage: ChainStage) -> None:
    """Under an id of its own: one that repeats is taken for a repeat, and the risk rules would not hear of it."""
    await stage.audit()
    _, result = executed(stage, land=False)
    stage.desk.announce(stage.ledger.totals())
    stage.advance(60)
    await stage.audit()
    told = {one.id: one for one in stage.bus.published if isinstance(one, PnlSnapshot)}
    assert [one.net_profit for one in told.values()] == [result.net_profit, 0]


async def test_of_a_wallet_that_is_not_followed_nothing_is_taken_back(stage: ChainStage) -> None:
    """Its history is not read, so its absence there says nothing."""
    stage.chain_desk = ChainDesk(stage.context, stage.desk, stage.ledger, WALLETS[1:])
    stage.reader = Reader(stage.rpc, WALLETS[1:], Endpoints(stage.config).instance)
    await stage.audit()
    plan, _ = executed(stage)
    stage.advance(80)
    told = await stage.audit()
    assert (told[SOL_MINT].pending, told[SOL_MINT].difference, stage.anomalies()) == (1, 0, [])
    assert stage.ledger.totals().totals[SOL_MINT]["net_profit"] == profit_of(plan)


@pytest.mark.parametrize("land", [True, False])
async def test_a_transaction_of_which_no_result_tells_is_named(stage: ChainStage, land: bool) -> None:
    """Its executor never came back: what it did stands on the chain, and in no profit."""
    await stage.audit()
    plan = stage.plan()
    transaction = stage.transaction(plan)
    submitted = stage.submitted(plan, str(transaction.signatures[0]))
    stage.book(submitted)
    if land:
        stage.world.chain.send(bytes(transaction))
    stage.advance(300)
    told = await stage.audit()
    assert (told[SOL_MINT].pending, stage.anomalies()) == (1, [])
    stage.advance(100)
    told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference) == (profit_of(plan) if land else 0, 0)
    [anomaly] = stage.anomalies()
    assert (anomaly.rule, anomaly.causation_id) == ("submission_without_result", submitted.signature)
    assert ("is on the final chain" in anomaly.detail) is land
    await stage.audit()
    assert len(stage.anomalies()) == 1
