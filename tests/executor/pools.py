"""Real pool states for a paper market: Raydium CPMM accounts, byte for byte as the program lays them out."""

from __future__ import annotations

from typing import Any

from localnet.layouts import cpmm, cpmm_config, simulated_address, token_account
from markets.pool_states import PoolStates
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.ids import deterministic_id
from pipeline.messages import AccountData, ExecutionPlan, PoolState, Protocol, SlotUpdate

from .plans import JITO, SLOT_NS, START_NS, a_plan

CHEAP, DEAR, DOLLAR = (simulated_address("test", name) for name in ("cheap", "dear", "dollar"))
DEEP = 10**13


def pool_state(
    address: str,
    reserves: tuple[int, int],
    *,
    slot: int = 10,
    mints: tuple[str, str] = (SOL_MINT, JITO),
    complete: bool = True,
    base: PoolState | None = None,
    version: int = 1,
) -> PoolState:
    """A pool of constant product with a fee of 0.01 %; a change holds its vaults alone."""
    vaults = [simulated_address(address, "vault", side) for side in (0, 1)]
    config = simulated_address("test-config")
    accounts = [
        cpmm(address, mints, vaults, (9, 9), lp_supply=10**12, config=config),
        cpmm_config(config, 100),
        token_account(vaults[0], mints[0], address, reserves[0]),
        token_account(vaults[1], mints[1], address, reserves[1]),
    ]
    return PoolState(
        id=deterministic_id("state", address, slot, version, int(complete)),
        causation_id="" if complete or base is None else base.id,
        pool=address,
        protocol=Protocol.RAYDIUM_CPMM,
        slot=slot,
        write_version=version,
        observed_ns=START_NS + slot * SLOT_NS,
        complete=complete,
        accounts=[
            AccountData(address=name, owner=owner, data=data)
            for name, owner, data in (accounts if complete else accounts[2:])
        ],
    )


def gap(bps: int = 200, *, slot: int = 10) -> list[PoolState]:
    """Two SOL/JitoSOL pools whose prices differ by so much, and a pool that prices SOL at 150 USDC."""
    return [
        pool_state(CHEAP, (DEEP, DEEP * (10_000 + bps) // 10_000), slot=slot),
        pool_state(DEAR, (DEEP, DEEP), slot=slot),
        pool_state(DOLLAR, (10**13, 1_500_000 * 10**6), slot=slot, mints=(SOL_MINT, USDC_MINT)),
    ]


def crossing(number: int = 1, *, slack_bps: int = 0, **changes: Any) -> ExecutionPlan:
    """A plan made for `gap()`: its second leg takes what the cheap pool is expected to give, or so much less."""
    plan = a_plan(number, pools=(CHEAP, DEAR), **changes)
    states = PoolStates()
    for state in gap():
        states.apply(state)
    cheap = states.get(CHEAP)
    assert cheap is not None
    given = cheap.quote_in(True, plan.amount_in).amount_out
    first, last = plan.legs
    taken = given * (10_000 - slack_bps) // 10_000
    return plan.replace(legs=[first.replace(amount_out=given), last.replace(amount_in=taken)])


def slot_update(slot: int, *, changed: int = 0, closing: bool = False) -> SlotUpdate:
    return SlotUpdate(
        id=deterministic_id("slot", slot),
        slot=slot,
        market_ns=START_NS + slot * SLOT_NS,
        pools_changed=changed,
        closing=closing,
    )
