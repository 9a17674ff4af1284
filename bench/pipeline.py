"""Pipeline: quote change -> plan at the executor's gate, through the real scanner, planner and executor.

This process plays the quote core: it writes a changed pool's snapshot and quotes to shared memory and commits. Scanner,
planner and executor are the real workers, each its own process, with every check on: the search with all costs, the
planner's re-quote, six checks, risk score and limits, the claim in the key-value bucket, deadline and permit. JetStream
stores to files and syncs before it acknowledges. The time is from before the quotes are written until the gate was
passed (`gated_ns` of the result). Afterwards the streams are read back: every change is one opportunity, every
opportunity one plan or refusal, every plan one result.

The baseline relays messages of the same sizes over three hops on the same server, in the same run: nats-py, pull
`fetch(10)`, awaited publish, no codec, no checks, no claim.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import uvloop

from bench.pipeline_baseline import Relay
from bench.pipeline_stage import ENVIRONMENT, WINDOW, Measured, Stage, own_server
from bench.pipeline_world import World
from bench.report import Report, Row, row
from pipeline.bus import Bus
from pipeline.config import load_config
from pipeline.messages import ExecutionPlan, Opportunity
from pipeline.nats_server import EmbeddedNats
from pipeline.streams import reconcile

RATES = (500, 1_000)
SECONDS = 8.0
WARM_UP_S = 2.0
SUSTAINED_CHANGES = 20_000
SUSTAINED_RELAYED = 6_000
GROUPS, PER_SLOT = 800, 400
P50_GOAL_MS, P99_GOAL_MS, SUSTAINED_GOAL = 0.6, 1.5, 10_000


def quantile(values: list[float], share: float) -> float:
    """Return a quantile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def told(outcomes: Counter[str]) -> str:
    """Return counts as words."""
    return ", ".join(f"{count:,} {name}" for name, count in outcomes.most_common())


def told_us(spent: dict[str, float]) -> str:
    """Return microseconds as words."""
    return ", ".join(f"{name} {value:.0f}" for name, value in spent.items())


def run(seconds: float = SECONDS, sustained: int = SUSTAINED_CHANGES, relayed: int = SUSTAINED_RELAYED) -> Report:
    """Measure ours and the baseline in turn."""
    with own_server(ENVIRONMENT) as (server, shm):
        return uvloop.run(_run(server, shm, seconds, sustained, relayed))


async def _run(server: EmbeddedNats, shm: Path, seconds: float, sustained: int, relayed: int) -> Report:
    bus = await Bus.connect(load_config().nats, name="bench")
    await reconcile(bus.js)
    stage = Stage(bus, World(shm, GROUPS, PER_SLOT), server.pid)
    rows: list[Row] = []
    notes: list[str] = []
    try:
        beating = asyncio.create_task(_beat(stage.world))
        await stage.start_workers()
        relay = Relay(stage, await _sizes(bus))
        await relay.start(server.url)
        warm = int(RATES[-1] * WARM_UP_S)
        await stage.measure(stage.at_rate(RATES[-1], warm), warm)
        await relay.at_rate(RATES[0], warm)
        for rate in RATES:
            count = int(rate * seconds)
            ours = await stage.measure(stage.at_rate(rate, count), count)
            theirs = await relay.at_rate(rate, count)
            rows += _rate_rows(rate, ours, theirs)
            stations = ", ".join(
                f"{name} {quantile(times, 0.5):.2f} / {quantile(times, 0.99):.2f}"
                for name, times in (
                    ("opportunity", ours.opportunity),
                    ("plan", ours.plan),
                    ("plan received", ours.received),
                    ("gate", ours.gated),
                )
            )
            notes.append(f"At {rate:,}/s, {told(ours.outcomes)}; ms from the change, p50 / p99: {stations}.\n")
        flat = await stage.measure(stage.flat_out(sustained), sustained)
        relay_per_s = await relay.flat_out(relayed)
        rows.append(
            row(
                *("sustained, nothing lost or doubled", "/s", flat.per_s, "nats-py relay", relay_per_s),
                goal=f">= {SUSTAINED_GOAL:,} /s",
                met=flat.per_s >= SUSTAINED_GOAL,
                more_is_better=True,
            )
        )
        notes.append(
            f"Sustained: {told(flat.outcomes)}; {WINDOW} on their way at once, up to the stored result (claim, fill, "
            f"settled claim, result). Processor time per change, us: {told_us(flat.cpu_us)}."
        )
        beating.cancel()
    finally:
        stage.stop()
        await bus.close()
    what = "Quote change -> plan past the executor's gate: scanner, planner, executor, nats-server with sync always"
    return {"bench": "pipeline", "what": what, "rows": rows, "notes": notes}


def _rate_rows(rate: int, ours: Measured, theirs: list[float]) -> list[Row]:
    rows = []
    for share, goal, ratio in ((0.5, P50_GOAL_MS, 3.0), (0.99, P99_GOAL_MS, 10.0)):
        mine, other = quantile(ours.gated, share), quantile(theirs, share)
        met, text = mine <= goal, f"<= {goal} ms"
        if rate == RATES[-1]:
            met, text = met and other >= ratio * mine, f"{text}, >= {ratio:.0f}x"
        name = f"{rate:,}/s, p{share * 100:.0f}"
        rows.append(row(name, "ms", mine, "nats-py relay, 3 hops", other, goal=text, met=met))
    return rows


async def _sizes(bus: Bus) -> tuple[int, ...]:
    """Return the payload sizes of the three hops: a pool's change is about a quote, then opportunity and plan."""
    sizes: dict[type, int] = {}
    for name in ("OPPORTUNITIES", "PLANNED"):
        async for message, _ in bus.read(name, last=1):
            sizes[type(message)] = len(message.encode()) if not isinstance(message, Exception) else 0
    return 512, sizes[Opportunity], sizes[ExecutionPlan]


async def _beat(world: World) -> None:
    while True:
        world.heartbeat()
        await asyncio.sleep(0.5)
