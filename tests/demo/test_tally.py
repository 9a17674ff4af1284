"""The invariants of a run: they hold for a sound run, and each fails for its own fault."""

from collections.abc import Callable

import pytest

from pipeline.demo.tally import Booked, Tally, check_run
from pipeline.messages import (
    DeadLetter,
    ExecutionPlan,
    ExecutionResult,
    ExecutionStatus,
    Opportunity,
    PlanRefusal,
    Refusal,
    RefusalReason,
)

SOL, USDC = "sol-mint", "usdc-mint"


def sound_run() -> tuple[Tally, dict[str, Booked]]:
    tally = Tally()
    for number in range(4):
        tally.add(Opportunity(id=f"o{number}", correlation_id=f"o{number}", token=SOL, amount_in=1000 + number))
    for number in range(3):
        token = USDC if number == 2 else SOL
        tally.add(ExecutionPlan(id=f"p{number}", correlation_id=f"o{number}", token=token))
        tally.add(
            ExecutionResult(
                id=f"r{number}",
                correlation_id=f"o{number}",
                plan_id=f"p{number}",
                token=token,
                status=ExecutionStatus.REVERTED if number == 1 else ExecutionStatus.FILLED,
                net_profit=-5 if number == 1 else 100 * (number + 1),
            )
        )
    tally.add(PlanRefusal(id="f3", correlation_id="o3", reasons=[Refusal(reason=RefusalReason.EXPIRED)]))
    return tally, {SOL: Booked(2, 95), USDC: Booked(1, 300)}


def test_a_sound_run_holds() -> None:
    tally, booked = sound_run()
    assert [check.held for check in check_run(tally, booked, left_running=[])] == [True] * 5
    assert tally.unsettled() == (0, 0)
    assert tally.refusals_by_reason() == {"EXPIRED": 1}
    assert tally.results_by_status() == {"FILLED": 2, "REVERTED": 1}
    assert tally.net_profit() == {SOL: 95, USDC: 300}


FAULTS: list[tuple[int, Callable[[Tally, dict[str, Booked]], object]]] = [
    (0, lambda tally, booked: tally.add(Opportunity(id="o9", correlation_id="o9"))),
    (0, lambda tally, booked: tally.add(PlanRefusal(id="f0", correlation_id="o0"))),
    (0, lambda tally, booked: tally.add(PlanRefusal(id="f9", correlation_id="never found"))),
    (1, lambda tally, booked: tally.results.pop("r0")),
    (1, lambda tally, booked: tally.add(ExecutionResult(id="again", plan_id="p0"))),
    (1, lambda tally, booked: tally.add(ExecutionResult(id="r9", plan_id="never planned"))),
    (2, lambda tally, booked: booked.update({SOL: Booked(2, 96)})),
    (2, lambda tally, booked: booked.pop(USDC)),
    (2, lambda tally, booked: booked.update({SOL: Booked(3, 95)})),
    (3, lambda tally, booked: tally.add(DeadLetter(id="d", stream="PLANNED", stream_sequence=7))),
]


@pytest.mark.parametrize(("index", "spoil"), FAULTS)
def test_each_fault_breaks_its_invariant(index: int, spoil: Callable[[Tally, dict[str, Booked]], object]) -> None:
    tally, booked = sound_run()
    spoil(tally, booked)
    assert not check_run(tally, booked, left_running=[])[index].held


def test_a_process_left_running_is_named() -> None:
    tally, booked = sound_run()
    last = check_run(tally, booked, left_running=["scanner (42)"])[-1]
    assert not last.held
    assert "scanner (42)" in last.detail


def test_the_fingerprint_ignores_when_and_where_but_not_what() -> None:
    first, _ = sound_run()
    second, _ = sound_run()
    moved = first.results["r0"].replace(created_ns=99, producer="elsewhere", finished_ns=7)
    second.results["r0"] = moved
    assert first.fingerprint() == second.fingerprint()
    second.results["r0"] = moved.replace(net_profit=101)
    assert first.fingerprint() != second.fingerprint()


def test_a_repeat_counts_once() -> None:
    tally, booked = sound_run()
    tally.add_all([*tally.results.values(), *tally.plans.values(), *tally.opportunities.values()])
    assert all(check.held for check in check_run(tally, booked, left_running=[]))
