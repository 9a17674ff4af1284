"""The schedule of a chaos run: a function of seed and length, every fault in it, everything switched off at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.chaos.drive import Done, chaos_checks
from pipeline.chaos.schedule import FAULTS, KILLED, Step, schedule, window_s
from pipeline.messages import ExecutionResult


@given(st.integers(0, 2**32), st.floats(60, 1200))
@settings(max_examples=60, deadline=None)
def test_every_fault_has_its_turn_and_ends(seed: int, seconds: float) -> None:
    steps = schedule(seed, seconds)
    assert steps == schedule(seed, seconds)
    assert steps == sorted(steps, key=lambda step: step.at_s)
    assert steps[-1] == Step(steps[-1].at_s, "clear")
    begun = Counter(step.name for step in steps if step.kind == "fault")
    ended = Counter(step.name for step in steps if step.kind == "clear" and step.name)
    assert begun.keys() == FAULTS.keys()
    assert begun == ended
    assert all(0 < on_s < seconds for on_s in window_s(steps).values())
    assert {step.name for step in steps if step.kind == "kill"} == set(KILLED)


@given(st.integers(0, 2**32), st.floats(60, 1200))
@settings(max_examples=60, deadline=None)
def test_every_halt_is_lifted_before_the_next(seed: int, seconds: float) -> None:
    kinds = [step.kind for step in schedule(seed, seconds) if step.kind in ("halt", "resume")]
    assert kinds
    assert kinds == ["halt", "resume"] * (len(kinds) // 2)


def test_another_seed_is_another_schedule() -> None:
    assert schedule(1, 60) != schedule(2, 60)


def test_only_the_faults_that_were_asked_for() -> None:
    steps = schedule(3, 60, ["fork"])
    assert {step.name for step in steps if step.kind == "fault"} == {"fork"}


def a_run() -> Done:
    done = Done(halts=[(100, 200)], happened={"fork": 3})
    done.faults["fork"] = 8.0
    done.kills["executor"] = 1
    return done


@pytest.mark.parametrize(
    ("submitted_ns", "happened", "restarts", "held"),
    [
        (99, 3, 1, [True, True, True]),
        (150, 3, 1, [False, True, True]),
        (250, 0, 1, [True, False, True]),
        (250, 3, 0, [True, True, False]),
    ],
)
def test_what_is_checked(submitted_ns: int, happened: int, restarts: int, held: list[bool]) -> None:
    done = a_run()
    done.happened["fork"] = happened
    results = [ExecutionResult(id="r", plan_id="p", submitted_ns=submitted_ns)]
    checks = chaos_checks(done, results, Counter(executor=restarts))
    assert [check.held for check in checks] == held


def test_the_plan_is_shown_without_running_anything() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "chaos", "--plan", "--seed", "5", "--minutes", "1", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(step["kind"], step["name"]) for step in steps] == [(step.kind, step.name) for step in schedule(5, 60)]


def test_a_fault_that_nobody_knows_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "chaos", "--fault", "gremlins"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "gremlins" in done.stderr
    assert "dropped" in done.stderr
