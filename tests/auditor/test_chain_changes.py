"""When what is followed changes: wallets that come and go, a node whose history begins later than the books ended."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from markets.tokens import SOL_MINT
from pipeline import run_files
from pipeline.ledger import ChainMoved
from workers.auditor import chain
from workers.auditor.chain import ChainDesk
from workers.auditor.chain_reader import Reader
from workers.auditor.endpoints import Endpoints
from workers.auditor.walk import Entry

from .chain_deeds import executed, pay, profit_of
from .chain_stage import KEYS, STRANGER, WALLETS, ChainStage

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


def follow(stage: ChainStage, wallets: Sequence[str]) -> None:
    """The auditor starts anew with these wallets."""
    stage.auditor()
    stage.chain_desk = ChainDesk(stage.context, stage.desk, stage.ledger, wallets)
    stage.reader = Reader(stage.rpc, wallets, Endpoints(stage.config).instance)


async def test_a_wallet_that_is_added_begins_with_what_it_holds(stage: ChainStage) -> None:
    """Before that, what one of ours gave it had left; and what others gave it was none of the books' business."""
    follow(stage, WALLETS[:1])
    await stage.audit()
    stage.send([pay(STRANGER, WALLETS[1], 5 * 10**9)], STRANGER)
    stage.send([pay(KEYS[0], WALLETS[1], 7 * 10**9)], KEYS[0])
    told = await stage.audit()
    assert (told[SOL_MINT].moved, told[SOL_MINT].difference) == (-7 * 10**9, 0)
    follow(stage, WALLETS)
    stage.send([pay(KEYS[1], WALLETS[0], 10**9)], KEYS[1])
    told = await stage.audit()
    assert (told[SOL_MINT].moved, told[SOL_MINT].upkeep) == (-7 * 10**9, -2 * 5_000)
    assert (told[SOL_MINT].balance, told[SOL_MINT].difference) == (stage.holdings(SOL_MINT), 0)
    assert stage.anomalies() == []


async def test_a_wallet_that_the_books_know_is_followed_on(stage: ChainStage) -> None:
    """Whoever takes it out of the configuration does not take its lamports out of the books."""
    await stage.audit()
    follow(stage, WALLETS[:1])
    stage.send([pay(STRANGER, WALLETS[1], 5 * 10**9)], STRANGER)
    told = await stage.audit()
    assert (told[SOL_MINT].moved, told[SOL_MINT].difference) == (5 * 10**9, 0)
    assert told[SOL_MINT].balance == stage.holdings(SOL_MINT)


async def test_where_the_history_begins_later_than_the_books_ended_they_begin_anew(
    stage: ChainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said of what nobody tells any more: no result in between is called vanished."""
    await stage.audit()
    plan, _ = executed(stage)
    stage.send([pay(STRANGER, WALLETS[0], 7)], STRANGER)
    stage.advance(60)
    first = stage.world.chain.slot - 20
    second, _ = executed(stage, 2)
    follow(stage, WALLETS)
    history, read = stage.reader.history, stage.reader.first_slot

    async def pruned(address: str, **asked: int) -> Sequence[Entry]:
        return [entry for entry in await history(address, **asked) if entry.slot >= first]

    async def begins() -> int:
        assert await read() < first  # the offline chain keeps more than that
        return first

    monkeypatch.setattr(stage.reader, "history", pruned)
    monkeypatch.setattr(stage.reader, "first_slot", begins)
    monkeypatch.setattr(chain, "_FAR_SLOTS", 30)
    stage.advance(40)
    with pytest.raises(ChainMoved):
        await stage.look()
    stage.reader.begin_anew()
    told = await stage.audit()
    sol = told[SOL_MINT]
    assert (sol.traded, sol.moved, sol.difference, sol.pending) == (profit_of(second), 0, 0, 0)
    assert sol.balance == stage.holdings(SOL_MINT)
    [anomaly] = stage.anomalies()
    assert anomaly.rule == "history_pruned"
    assert f"begins at slot {first}" in anomaly.detail
    assert stage.ledger.totals().totals[SOL_MINT]["net_profit"] == profit_of(plan) + profit_of(second)


async def test_an_auditor_that_was_away_for_long_goes_on_while_transactions_are_told(
    stage: ChainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offline chain lets go of accounts and blocks long before it lets go of transactions."""
    await stage.audit()
    plan, _ = executed(stage)
    stage.advance(400)
    monkeypatch.setattr(chain, "_FAR_SLOTS", 100)
    told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference, told[SOL_MINT].pending) == (profit_of(plan), 0, 0)
    assert stage.anomalies() == []


async def test_a_market_that_is_stopping_is_no_other_chain(stage: ChainStage) -> None:
    """Its run file goes before its node does."""
    await stage.audit()
    plan, _ = executed(stage)
    run_files.remove(stage.config, run_files.OFFLINE_CHAIN)
    told = await stage.audit()
    assert (told[SOL_MINT].traded, told[SOL_MINT].difference, stage.anomalies()) == (profit_of(plan), 0, [])
