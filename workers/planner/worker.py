"""Wire the planner: opportunities in, exactly one plan or refusal for each out.

The decision is synchronous and in order of arrival; the opportunity is acknowledged when its answer is stored.
"""

from __future__ import annotations

import asyncio
from functools import partial

from pipeline.bus import Bus, Delivery, Reject, Stored
from pipeline.clock import NS_PER_MS
from pipeline.context import WorkerContext
from pipeline.crashpoint import crashpoint
from pipeline.messages import ExecutionPlan, ExecutionResult, Mode, Opportunity, PlanRefusal
from workers.planner.cycle import cycle_problem
from workers.planner.decide import Rules
from workers.planner.limits import PlanLimits
from workers.planner.open_plans import OpenPlans
from workers.planner.planner import Planner
from workers.planner.quotes import SharedQuotes

_LOOK_S = 1.0


async def run(context: WorkerContext) -> None:
    """Plan until told to stop."""
    config = context.config
    market = SharedQuotes(config.shm_directory)
    open_plans = OpenPlans()
    window_ns = config.planner.window_ms * NS_PER_MS
    planner = Planner(
        rules=Rules.of(config.planner, config.tip),
        open_plans=open_plans,
        limits=PlanLimits(open_plans, max_plans=config.planner.max_plans, window_ns=window_ns),
        market=market,
        gate=context.gate.check,
        mode=Mode[config.executor.mode.upper()],
        wall_ns=context.clock,
        producer=context.name,
    )
    bus = context.bus

    def on_opportunity(opportunity: Opportunity, _delivery: Delivery) -> asyncio.Future[Stored] | None:
        if problem := cycle_problem(opportunity):
            raise Reject(f"not a cycle: {problem}")
        outcome = planner.answer(opportunity)
        if outcome is None:
            return None
        crashpoint("decided")
        stored = bus.publish_soon(outcome)
        stored.add_done_callback(partial(_stored, planner, opportunity.id))
        return stored

    def on_result(result: ExecutionResult, _delivery: Delivery) -> None:
        planner.settle(result)

    # Results first: one that comes in while the streams are read is then not missed.
    await bus.consume(
        "EXECUTED",
        "executed.result",
        durable="planner-results",
        handler=on_result,
        description="planner: results end the exposure of their plans",
    )
    await remember(bus, planner, config.planner.rebuild_messages)
    context.log.info("exposure rebuilt", open_plans=planner.open_plans)
    await bus.consume(
        "OPPORTUNITIES",
        "opportunity.found",
        durable="planner",
        handler=on_opportunity,
        description="planner: answers each opportunity with one plan or refusal",
        max_in_flight=config.planner.max_in_flight,
    )
    while not context.stopping.is_set():
        if market.trouble:
            context.health.degraded(f"no quotes: {market.trouble}", cause="quotes")
        else:
            context.health.recovered(cause="quotes")
        try:
            await asyncio.wait_for(context.stopping.wait(), _LOOK_S)
        except TimeoutError:
            continue


async def remember(bus: Bus, planner: Planner, count: int) -> None:
    """Read back what an earlier process decided, and what became of it."""
    async for message, _ in bus.read("PLANNED", last=count):
        if isinstance(message, ExecutionPlan | PlanRefusal):
            planner.remember(message)
    async for message, _ in bus.read("EXECUTED", "executed.result", last=count):
        if isinstance(message, ExecutionResult):
            planner.settle(message)


def _stored(planner: Planner, opportunity_id: str, future: asyncio.Future[Stored]) -> None:
    """Forget the answer only once it is in the stream; a failed publish is repeated with the opportunity."""
    if not future.cancelled() and future.exception() is None:
        planner.stored(opportunity_id)
        crashpoint("planned")
