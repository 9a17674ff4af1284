"""Effects of real transactions of the offline chain: every encoding says the same, and what the accounts say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair
from solders.system_program import TransferParams, transfer

from markets.solana.transactions.effects import effect_of, fills_of
from markets.solana.transactions.keys import pubkey
from markets.solana.transactions.tips import TIP_ACCOUNTS, tip_instruction
from markets.solana.transactions.token_accounts import open_account, rewrap_sol, unwrap_sol, wrap_sol
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.ledger import Ledger
from workers.auditor.explain import gains

from .chain_stage import FEE, KEYS, STRANGER, TIP, WALLETS, ChainStage, chain_stage, send_tokens

OWN = [*WALLETS, str(STRANGER.pubkey())]
SIGNERS = [*KEYS, STRANGER]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[ChainStage]:
    ledger = Ledger(f"sqlite:///{tmp_path}/books.sqlite3", starting_capital_lamports=1)
    async with chain_stage(tmp_path, ledger) as found:
        yield found
    ledger.close()


async def told(stage: ChainStage, signature: str, encoding: str) -> dict[str, Any]:
    options = {"encoding": encoding, "commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    return await stage.rpc.call("getTransaction", [signature, options], read=dict)


async def test_every_encoding_of_a_cycle_says_the_same(stage: ChainStage) -> None:
    plan = stage.plan()
    signature = stage.world.chain.send(bytes(stage.transaction(plan)))
    stage.advance(2)
    found = [effect_of(await told(stage, signature, name), WALLETS) for name in ("json", "base64", "jsonParsed")]
    kept = [{name: value for name, value in asdict(one).items() if name != "steps"} for one in found]
    # A parsed instruction names no accounts; all else is the same.
    assert kept[0] == kept[1] == kept[2]
    assert [(step.program, step.height) for step in found[0].steps] == [(s.program, s.height) for s in found[2].steps]
    for effect in found:
        assert (effect.fee, effect.tip) == (FEE, TIP)
        legs = [(fill.amount_in, fill.amount_out) for fill in fills_of(effect, plan.legs, WALLETS[0])]
        assert legs == [(leg.amount_in, leg.amount_out) for leg in plan.legs]
        assert gains(effect) == {SOL_MINT: plan.expected_amount_out - plan.amount_in - FEE - TIP}


# What somebody does: (who, what, how much), several in one transaction.
DEEDS = st.lists(
    st.tuples(st.sampled_from(["pay", "tokens", "wrap", "unwrap", "rewrap", "tip", "open"]), st.integers(1, 10**7)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_whatever_is_done_the_effect_is_what_the_accounts_say(stage: ChainStage, data: st.DataObject) -> None:
    who = data.draw(st.integers(0, 1), label="who")
    instructions = []
    for what, amount in data.draw(DEEDS, label="deeds"):
        other = OWN[data.draw(st.integers(0, 2), label="whom")]
        me = OWN[who]
        match what:
            case "pay":
                payment = TransferParams(from_pubkey=pubkey(me), to_pubkey=pubkey(other), lamports=amount)
                instructions.append(transfer(payment))
            case "tokens":
                instructions.append(send_tokens(me, other, amount))
            case "wrap":
                instructions += wrap_sol(me, amount)
            case "unwrap":
                instructions.append(unwrap_sol(me))
            case "rewrap":
                instructions += rewrap_sol(me, amount)
            case "tip":
                instructions.append(tip_instruction(me, TIP_ACCOUNTS[amount % 8], amount))
            case _:
                fresh = Keypair.from_seed(amount.to_bytes(32, "little"))
                instructions.append(open_account(me, str(fresh.pubkey()), USDC_MINT))
    before = holdings(stage)
    signature = stage.send(instructions, SIGNERS[who])
    stage.advance()
    now = holdings(stage)
    found = [effect_of(await told(stage, signature, name), OWN) for name in ("json", "base64", "jsonParsed")]
    for effect in found:
        assert effect.lamports == {
            wallet: now[wallet, SOL_MINT] - before[wallet, SOL_MINT] for wallet in effect.lamports
        }
        for wallet in OWN:
            gained = now.get((wallet, USDC_MINT), 0) - before.get((wallet, USDC_MINT), 0)
            assert effect.tokens.get(wallet, {}).get(USDC_MINT, 0) == gained
        if effect.error is not None:
            assert effect.lamports[OWN[who]] == -effect.fee
            assert effect.tip == 0
    kept = [{name: value for name, value in asdict(one).items() if name != "steps"} for one in found]
    assert kept[0] == kept[1] == kept[2]


def holdings(stage: ChainStage) -> dict[tuple[str, str], int]:
    """What each wallet holds, by wallet and token; SOL in all its accounts."""
    held: dict[tuple[str, str], int] = {}
    for token in (SOL_MINT, USDC_MINT):
        for wallet in OWN:
            held[wallet, token] = stage.holdings(token, [wallet], "processed")
    return held
