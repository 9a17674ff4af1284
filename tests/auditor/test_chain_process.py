"""The auditor as a process over a real offline chain: ready without it, killed while it reads, exact in the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from solders.system_program import TransferParams, transfer
from trading_stage import Stage, eventually, everything

from markets.solana.transactions.keys import pubkey
from markets.tokens import SOL_MINT
from pipeline.bus import Bus
from pipeline.ledger import Ledger
from pipeline.messages import Anomaly, ExecutionStatus, Reconciliation

from .chain_stage import FEE, SEED, STRANGER, TIP, WALLETS, ChainStage, announce, chain_stage

pytestmark = pytest.mark.integration
PATIENCE_S = 60.0
"""For a process to start and do its work while many others run; nothing waits so long where it is there sooner."""
CAPITAL = 100_000_000_000


@pytest.fixture
async def stage(tmp_path: Path, url: str) -> AsyncIterator[Stage]:
    stage = Stage(
        tmp_path,
        **{
            "auditor.database_url": url,
            "auditor.walk_s": 0.05,
            "auditor.plan_grace_s": 2.0,
            "executor.mode": "localnet",
            "market.seed": SEED,
        },
    )
    await stage.open()
    yield stage
    stage.close()


@pytest.fixture
async def bus(stage: Stage) -> AsyncIterator[Bus]:
    bus = await stage.bus()
    yield bus
    await bus.close()


@pytest.fixture
async def chain(tmp_path: Path, url: str) -> AsyncIterator[ChainStage]:
    """A chain that is served, and not announced yet: its run file is another folder's."""
    ledger = Ledger(url, starting_capital_lamports=CAPITAL)
    async with chain_stage(tmp_path / "elsewhere", ledger) as found:
        yield found
    ledger.close()


async def executed(chain: ChainStage, bus: Bus, number: int, status: ExecutionStatus = ExecutionStatus.FILLED) -> int:
    """Land a plan, and publish what an executor would; return its profit."""
    plan = chain.plan(number)
    transaction = chain.transaction(plan)
    signature = chain.world.chain.send(bytes(transaction))
    chain.advance()
    await bus.publish(plan)
    await bus.publish(chain.submitted(plan, signature))
    await bus.publish(chain.result(plan, signature, status))
    return plan.expected_amount_out - plan.amount_in - FEE - TIP


async def reconciled(stage: Stage, bus: Bus, transactions: int) -> Reconciliation:
    async def last() -> Reconciliation | None:
        for _, message in await bus.last(f"metrics.reconciliation.{SOL_MINT}"):
            if isinstance(message, Reconciliation) and message.transactions >= transactions and not message.pending:
                return message
        return None

    found: Reconciliation = await eventually(
        last, within_s=PATIENCE_S, what=f"{transactions} transactions held", logs=stage.logs
    )
    return found


async def test_killed_while_it_reads_the_chain_it_is_exact_in_the_end(
    stage: Stage, bus: Bus, chain: ChainStage, url: str
) -> None:
    opening = chain.holdings(SOL_MINT)
    first = stage.start("auditor", {"PIPELINE_CRASH_AT": "walked"})
    profit = await executed(chain, bus, 1)
    chain.advance(33)
    # Ready and booking without a chain; then the chain appears.
    announce(stage.config(), chain.url)
    assert await stage.ended(first, PATIENCE_S) == -9
    profit += await executed(chain, bus, 2)
    # Booked as dropped, and on the chain.
    profit += await executed(chain, bus, 3, ExecutionStatus.DROPPED)
    chain.send(
        [transfer(TransferParams(from_pubkey=STRANGER.pubkey(), to_pubkey=pubkey(WALLETS[1]), lamports=12_345))],
        STRANGER,
    )
    chain.advance(33)
    second = stage.start("auditor", {"PIPELINE_CRASH_AT": "walking"})
    assert await stage.ended(second, PATIENCE_S) == -9
    live = stage.start("auditor")
    held = await reconciled(stage, bus, 4)
    assert (held.opening, held.traded, held.moved, held.upkeep, held.difference) == (opening, profit, 12_345, 0, 0)
    assert held.balance == chain.holdings(SOL_MINT)
    found = await everything(bus, "METRICS", "metrics.anomaly.>")
    rules = [message.rule for message in found if isinstance(message, Anomaly)]
    assert rules == ["transaction_landed_after_all"]
    # A rebuild while it runs keeps the evidence, and comes to the same.
    shown = [json.loads((await stage.cli("pnl", *more, "--json")).stdout) for more in ((), ("--rebuild",))]
    assert shown[0]["tokens"] == shown[1]["tokens"]
    [sol] = [one for one in shown[1]["reconciliation"] if one["token"] == SOL_MINT]
    assert (sol["difference"], sol["traded"], sol["pending"]) == (0, profit, 0)
    assert await stage.stop(live) == 0
    table = await stage.cli("pnl", "--reconcile")
    assert "Books against the chain" in table.stdout
    assert "Not explained" not in table.stdout
