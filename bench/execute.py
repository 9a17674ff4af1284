"""Execution: plan received -> bundle bytes on the socket, on the offline chain; and transaction building alone.

The plans are of real gaps: the market worker runs the offline chain, whose simulated traders leave them behind, at ten
slots a second. This process stands before the chain's block engine: it reads every bundle from the socket, notes the
time and hands it on. Measured is from the moment the executor received the plan until the bundle's last byte was read
at the other end: blockhash and fees, lane, building, simulation (or not), signature, the claim in the key-value bucket
of a nats-server that syncs before it acknowledges, deadline and gate.

First the executor with what it cannot do without: chain, manager and server, each its own process; this process finds
the cycles and decides on them, by the scanner's and the planner's own code. Then the whole pipeline, each worker its
own process. Afterwards the streams, the recorder and the chain itself are held against each other: every plan one
result, every submission one bundle, and every filled plan's transaction in a final block.

The baseline does the same steps one after the other, naively, against the same chain, server and socket.
"""

from __future__ import annotations

import os
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

SLOTS, SLOTS_WHOLE = 500, 300
GOALS_MS = {False: 3.0, True: 6.0}
BASELINE = "nats-py, solana-py, aiohttp, one after the other"


def run(slots: int = SLOTS, slots_whole: int = SLOTS_WHOLE) -> Report:
    """Measure building alone, then the way of plans without and with simulation."""
    # Six processes on few cores: what else runs on the machine weighs more here than anywhere.
    notes = [f"Load of the machine when it began, without the benchmark: {os.getloadavg()[0]:.1f}.\n"]
    rows = measure()
    for alone, count in ((True, slots), (False, slots_whole)):
        for simulate in (False, True):
            with own_server(ENVIRONMENT):
                more, note = uvloop.run(_way(count, simulate=simulate, alone=alone))
            rows += more
            notes.append(note)
    what = "Plan received -> bundle bytes read from the socket, on the offline chain in another process"
    return {"bench": "execute", "what": what, "rows": rows, "notes": notes}


async def _way(slots: int, *, simulate: bool, alone: bool) -> tuple[list[Row], str]:
    stage = Stage(slots=slots, simulate=simulate, alone=alone)
    theirs: list[float] = []
    try:
        ours = await stage.run()
        if alone:
            bus = await Bus.connect(load_config().nats, name="bench")
            try:
                theirs = await textbook(
                    bus.js,
                    stage.chain_url,
                    stage.engine_url,
                    stage.recorder,
                    count=len(ours.arrived),
                    simulate=simulate,
                )
            finally:
                await bus.close()
    finally:
        stage.stop()
    name = "with simulation" if simulate else "without simulation"
    middle, far = quantile(ours.arrived, 0.5), quantile(ours.arrived, 0.99)
    if not alone:
        name += ", whole pipeline"
        return [row(f"{name}, p50", "ms", middle), row(f"{name}, p99", "ms", far)], _note(name, ours)
    goal = GOALS_MS[simulate]
    return [
        row(
            f"{name}, p50", "ms", middle, BASELINE, quantile(theirs, 0.5), goal=f"<= {goal:.0f} ms", met=middle <= goal
        ),
        row(f"{name}, p99", "ms", far, BASELINE, quantile(theirs, 0.99)),
    ], _note(name, ours)


def _note(name: str, ours: Measured) -> str:
    stations = (
        ("built", ours.built),
        ("simulated", ours.simulated),
        ("signed and claimed", ours.claimed),
        ("gate passed", ours.gated),
        ("read at the other end", ours.arrived),
    )
    shown = ", ".join(f"{what} {median(times):.2f}" for what, times in stations if times)
    if ours.simulated:
        before = "Simulation and claim go on side by side, from the built transaction on."
    else:
        claim = median(claimed - built for claimed, built in zip(ours.claimed, ours.built, strict=True))
        before = f"The claim, a write that nats-server syncs to disk, is most of the {claim:.2f} ms before the gate."
    return f"{name.capitalize()}: {told(ours.outcomes)}; ms from the received plan, medians: {shown}. {before}\n"
