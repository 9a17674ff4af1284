"""What goes wrong when: a function of the seed and the length alone."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["fault", "clear", "kill", "halt", "resume"]

FAULTS: Mapping[str, Mapping[str, float]] = {
    # What is sent by RPC meets these two; a bundle that is lost is sent by RPC next.
    "dropped": {"dropped": 0.7, "bundle_lost": 1.0},
    "late": {"late": 0.9, "late_slots": 6, "bundle_lost": 1.0},
    "bundle_lost": {"bundle_lost": 0.6},
    "limited": {"limited": 0.3},
    "failed": {"failed": 0.3},
    "slow": {"slow": 0.3, "slow_s": 0.3},
    "behind_slots": {"behind_slots": 12},
    "cut": {"cut_chance": 0.2},
    "expired_blockhash": {"expired_blockhash": 0.5},
    "fork": {"fork_chance": 0.05, "fork_slots": 3},
}
"""Each fault with the settings that switch it on; see the page about the offline chain's services."""
KILLED = ("executor", "auditor")
_CALM_FROM = 0.85
"""Share of the run after which nothing new goes wrong: what was begun must be able to end."""
_WINDOW_S = (3.0, 8.0)
_HALT_S = (1.0, 3.0)
_GAPS = (0.6, 1.0, 1.2)
"""From one window's beginning to the next one's, in lengths of the window."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens, so many seconds after trading began."""

    at_s: float
    kind: Kind
    name: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


def schedule(seed: int, seconds: float, faults: Sequence[str] = tuple(FAULTS)) -> list[Step]:
    """Return the steps of a run in their order: windows of one fault each, kills, halts with their resumes.

    Every fault named has at least one window where the run is long enough; the order is shuffled again and again.
    Kills come every ten seconds or so, halts every twenty-five. At the end everything is switched off.
    """
    draw = random.Random(f"chaos/{seed}")
    calm = seconds * _CALM_FROM
    steps = [*_windows(draw, calm, list(faults)), *_kills(draw, calm), *_halts(draw, calm)]
    return [*sorted(steps, key=lambda step: (step.at_s, step.kind, step.name)), Step(calm, "clear")]


def window_s(steps: Sequence[Step]) -> dict[str, float]:
    """Return how long each fault of a schedule is on, s."""
    total: dict[str, float] = {}
    for step in steps:
        if step.kind in ("fault", "clear") and step.name:
            total[step.name] = total.get(step.name, 0.0) + (step.at_s if step.kind == "clear" else -step.at_s)
    return total


def _windows(draw: random.Random, calm: float, faults: list[str]) -> list[Step]:
    steps: list[Step] = []
    at, waiting = 1.0, list[str]()
    # Short runs get short windows, so that each fault has its turn, however the lengths are drawn.
    fit = min(1.0, (calm - 2) / (len(faults) * _WINDOW_S[1] * _GAPS[-1])) if faults else 1.0
    while faults and at < calm - 1:
        if not waiting:
            waiting = draw.sample(faults, len(faults))
        name = waiting.pop()
        length = draw.uniform(*_WINDOW_S) * fit
        steps += [Step(at, "fault", name, FAULTS[name]), Step(min(at + length, calm), "clear", name)]
        # Some windows overlap the next one.
        at += length * draw.choice(_GAPS)
    return steps


def _kills(draw: random.Random, calm: float) -> list[Step]:
    steps: list[Step] = []
    at = draw.uniform(2, 6)
    while at < calm:
        steps.append(Step(at, "kill", KILLED[len(steps) % 2] if len(steps) < 2 else draw.choice(KILLED)))
        at += draw.uniform(5, 15)
    return steps


def _halts(draw: random.Random, calm: float) -> list[Step]:
    steps: list[Step] = []
    at = draw.uniform(6, 12)
    while at < calm - _HALT_S[1]:
        length = draw.uniform(*_HALT_S)
        steps += [Step(at, "halt"), Step(at + length, "resume")]
        at += length + draw.uniform(15, 30)
    return steps
