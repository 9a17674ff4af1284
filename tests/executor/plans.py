"""Plans, and a venue, a bucket and a stream that outlive the executor in front of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from markets.costs import Costs
from markets.tokens import SOL_MINT
from markets.venue import (
    NO_TRACE,
    Filled,
    Landing,
    NeverBegun,
    NotPrepared,
    Prepared,
    Recovery,
    Trace,
    Undecided,
)
from pipeline.bus import PublishFailed
from pipeline.claims import Claim, ClaimsUnavailable
from pipeline.ids import deterministic_id
from pipeline.messages import ExecutionPlan, ExecutionResult, Fill, Leg, Mode, Protocol

JITO = "J1toso1uCk3RLmjorhTtrVwY9HJ7X8V9yYac6Y7kGCPn"
SLOT_NS = 100_000_000
START_NS = 1_767_225_600_000_000_000


def a_plan(
    number: int = 1, *, slot: int = 10, pools: tuple[str, str] = ("cheap", "dear"), **changes: Any
) -> ExecutionPlan:
    """1 SOL around two pools; costs 106,000 lamports."""
    opportunity_id = deterministic_id("opportunity", number)
    amount_in = changes.get("amount_in", 10**9)
    least = changes.get("min_amount_out", amount_in + 106_000)
    fields: dict[str, Any] = {
        "id": deterministic_id("outcome", opportunity_id),
        "correlation_id": opportunity_id,
        "causation_id": opportunity_id,
        "created_ns": 1,
        "producer": "planner",
        "mode": Mode.PAPER,
        "token": SOL_MINT,
        "amount_in": amount_in,
        "expected_amount_out": amount_in + 5_000_000,
        "min_amount_out": least,
        "expected_profit": 4_894_000,
        "base_fee": 5_000,
        "priority_fee": 1_000,
        "tip": 100_000,
        "cost": 106_000,
        "confidence": 0.9,
        "slot": slot,
        "planned_ns": START_NS + slot * SLOT_NS,
        "expires_ns": START_NS + (slot + 3) * SLOT_NS,
        "permit_epoch": 3,
        "legs": [
            Leg(
                pool=pools[0],
                protocol=Protocol.WHIRLPOOL,
                token_in=SOL_MINT,
                token_out=JITO,
                amount_in=amount_in,
                amount_out=amount_in,
            ),
            Leg(
                pool=pools[1],
                protocol=Protocol.RAYDIUM_CPMM,
                token_in=JITO,
                token_out=SOL_MINT,
                amount_in=amount_in,
                amount_out=amount_in + 5_000_000,
                min_amount_out=least,
            ),
        ],
    }
    return ExecutionPlan(**(fields | changes))


@dataclass
class Bucket:
    """Claims with compare-and-set; `lose` makes the next answers get lost after the write, or before it."""

    entries: dict[str, Claim] = field(default_factory=dict)
    revision: int = 0
    lose: list[str] = field(default_factory=list)
    writes: int = 0
    written: Callable[[], object] = lambda: None
    error: type[BaseException] = ClaimsUnavailable

    async def create(self, key: str, value: bytes) -> int | None:
        self._lost("before create")
        if key in self.entries:
            return None
        return self._put("create", key, value)

    async def get(self, key: str) -> Claim | None:
        self._lost("get")
        return self.entries.get(key)

    async def update(self, key: str, value: bytes, revision: int) -> int | None:
        self._lost("before update")
        if self.entries[key].revision != revision:
            return None
        return self._put("update", key, value)

    def _put(self, what: str, key: str, value: bytes) -> int:
        self.revision += 1
        self.writes += 1
        self.entries[key] = Claim(value, self.revision)
        self.written()
        self._lost(f"after {what}")
        return self.revision

    def _lost(self, where: str) -> None:
        if where in self.lose:
            self.lose.remove(where)
            raise self.error(f"no answer {where}")


@dataclass
class Stream:
    """Results by id; a repeat is dropped, as the server does."""

    results: dict[str, ExecutionResult] = field(default_factory=dict)
    published: int = 0
    failing: int = 0
    error: type[BaseException] = PublishFailed

    async def publish(self, result: ExecutionResult) -> None:
        if self.failing:
            self.failing -= 1
            raise self.error("not stored")
        self.published += 1
        self.results.setdefault(result.id, result)


@dataclass
class Chain:
    """What has really happened, by reference: outlives every executor."""

    begun: dict[str, int] = field(default_factory=dict)
    landed: dict[str, Landing] = field(default_factory=dict)


@dataclass
class FakeVenue:
    """Fills at once. With a chain its effects outlive the process, as on a real venue; without one they end with it."""

    chain: Chain | None = None
    undecided: int = 0
    mode: Mode = Mode.PAPER
    slot: int = 10
    now_ns: int = START_NS + 10 * SLOT_NS
    refusal: NotPrepared | None = None
    prepared: list[str] = field(default_factory=list)
    submitted: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    open_tickets: int = 0

    def announce(self, plan: ExecutionPlan) -> int:
        self.open_tickets += 1
        return self.open_tickets

    def decided(self, ticket: int) -> None:
        self.open_tickets -= 1

    async def prepare(self, plan: ExecutionPlan) -> Prepared | NotPrepared:
        self.prepared.append(plan.id)
        if self.refusal is not None:
            return self.refusal
        trace = Trace(signature=f"sig-{plan.id}", wallet="wallet", last_valid_block_height=160)
        return Prepared(f"tx-{plan.id}", trace if self.chain is not None else NO_TRACE)

    def withdraw(self, prepared: Prepared) -> None:
        self.withdrawn.append(prepared.reference)

    def submit(self, plan: ExecutionPlan, prepared: Prepared) -> asyncio.Future[Landing]:
        reference = prepared.reference
        self.submitted.append(plan.id)
        landing = filled(plan)
        if self.chain is not None:
            self.chain.begun[reference] = self.chain.begun.get(reference, 0) + 1
            self.chain.landed[reference] = landing
        future: asyncio.Future[Landing] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, landing)
        return future

    async def recover(self, plan: ExecutionPlan, reference: str) -> Recovery:
        if self.undecided:
            self.undecided -= 1
            return Undecided(0.0, Trace(signature=f"sig-{plan.id}"))
        if self.chain is None:
            return NeverBegun()
        return self.chain.landed.get(reference, NeverBegun())


def filled(plan: ExecutionPlan, *, slot: int = 11, extra: int = 5_000_000) -> Filled:
    """Every leg of a plan filled."""
    amounts = [plan.amount_in, plan.amount_in, plan.amount_in + extra]
    fills = tuple(
        Fill(
            pool=leg.pool,
            protocol=leg.protocol,
            token_in=leg.token_in,
            token_out=leg.token_out,
            amount_in=amounts[index],
            amount_out=amounts[index + 1],
            expected_amount_out=leg.amount_out,
            slot=slot,
        )
        for index, leg in enumerate(plan.legs)
    )
    return Filled(slot, fills, 150_000_000, Costs(plan.base_fee, plan.priority_fee, plan.tip))
