"""Execution: plan received -> bundle bytes on the socket, through the real pipeline, and transaction building alone.

The whole pipeline runs as it does in the demonstration: market with the offline chain, quote core, scanner, planner,
executor and manager, each its own process, a nats-server that syncs before it acknowledges. The plans are those that
it makes itself of what the simulated traders leave behind. This process stands before the chain's block engine: it
reads every bundle from the socket, notes the time and hands it on. Measured is from the moment the executor received
the plan until the bundle's last byte was read at the other end: blockhash and fees, lane, building, simulation (or
not), signature, the claim in the key-value bucket, deadline and gate. Afterwards the streams, the recorder and the
chain itself are held against each other: every plan one result, every submission one bundle, and every filled plan's
transaction in a final block.

The baseline does the same steps one after the other, naively, against the same chain, server and socket.
"""

from __future__ import annotations

from statistics import median

import uvloop

from bench.execute_build import measure, quantile
from bench.execute_stage import ENVIRONMENT, Measured, Stage
from bench.execute_textbook import textbook
from bench.pipeline import told
from bench.pipeline_stage import own_server
from bench.report import Report, Row, row
from pipeline.bus import Bus
from pipeline.config import load_config

SLOTS = 500
GOALS_MS = {False: 3.0, True: 6.0}
BASELINE = "nats-py, solana-py, aiohttp, one after the other"


def run(slots: int = SLOTS) -> Report:
    """Measure building alone, then the way of plans without and with simulation."""
    rows = measure()
    notes: list[str] = []
    for simulate in (False, True):
        with own_server(ENVIRONMENT):
            more, note = uvloop.run(_way(slots, simulate=simulate))
        rows += more
        notes.append(note)
    what = "Plan received -> bundle bytes read from the socket; the whole pipeline and the offline chain, 6 processes"
    return {"bench": "execute", "what": what, "rows": rows, "notes": notes}


async def _way(slots: int, *, simulate: bool) -> tuple[list[Row], str]:
    stage = Stage(slots=slots, simulate=simulate)
    try:
        ours = await stage.run()
        bus = await Bus.connect(load_config().nats, name="bench")
        try:
            theirs = await textbook(
                bus.js, stage.chain_url, stage.engine_url, stage.recorder, count=len(ours.arrived), simulate=simulate
            )
        finally:
            await bus.close()
    finally:
        stage.stop()
    name = "with simulation" if simulate else "without simulation"
    goal = GOALS_MS[simulate]
    middle = quantile(ours.arrived, 0.5)
    rows = [
        row(
            f"{name}, p50", "ms", middle, BASELINE, quantile(theirs, 0.5), goal=f"<= {goal:.0f} ms", met=middle <= goal
        ),
        row(f"{name}, p99", "ms", quantile(ours.arrived, 0.99), BASELINE, quantile(theirs, 0.99)),
    ]
    return rows, _note(name, ours)


def _note(name: str, ours: Measured) -> str:
    stations = (
        ("built", ours.built),
        ("simulated", ours.simulated),
        ("signed and claimed", ours.claimed),
        ("gate passed", ours.gated),
        ("read at the other end", ours.arrived),
    )
    shown = ", ".join(f"{what} {median(times):.2f}" for what, times in stations if times)
    without = median(
        claimed - before for claimed, before in zip(ours.claimed, ours.simulated or ours.built, strict=True)
    )
    return (
        f"{name.capitalize()}: {told(ours.outcomes)}; ms from the received plan, medians: {shown}. "
        f"The claim, a write that nats-server syncs to disk, is most of the {without:.2f} ms before the gate.\n"
    )
