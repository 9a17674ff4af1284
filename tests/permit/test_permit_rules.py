"""The rules as plain functions, and the windows they look at."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import load_config
from pipeline.messages import PnlSnapshot, WorkerHealth, WorkerState
from pipeline.permit.change import REASON_LENGTH
from workers.system_manager import rules
from workers.system_manager.books import Books
from workers.system_manager.rules import Broken, Health, Pnl, TooFew, Waiting, Within
from workers.system_manager.watch import Watch

SETTINGS = load_config({}, environment={}).rules
REPORT = Health(
    at_s=0.0,
    id="h",
    worker="executor",
    instance="a",
    stopping=False,
    handled=0,
    failed=0,
    rpc_calls=0,
    rpc_failures=0,
    memory_ratio=0.1,
    detail="",
)


def reports(*counts: tuple[int, int]) -> list[Health]:
    return [
        replace(REPORT, at_s=float(i), id=f"h{i}", handled=handled, failed=failed)
        for i, (handled, failed) in enumerate(counts)
    ]


def snapshot(executions: int, profit: int, capital: int = 1000) -> Pnl:
    return Pnl(0.0, f"p{executions}", executions, executions, profit, profit, capital)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([], TooFew("error_ratio", "executor", 0, 20)),
        ([(100, 900)], TooFew("error_ratio", "executor", 0, 20)),  # counters of before the window say nothing
        ([(0, 0), (9, 10)], TooFew("error_ratio", "executor", 19, 20)),
        ([(0, 0), (10, 10)], Within("error_ratio", "executor", 0.5, 0.5)),  # the limit itself holds
        ([(0, 0), (9, 11)], Broken("error_ratio", "executor", 0.55, 0.5, "executor: 11 of 20 messages failed", "h1")),
        (
            [(1000, 0), (1001, 99)],
            Broken("error_ratio", "executor", 0.99, 0.5, "executor: 99 of 100 messages failed", "h1"),
        ),
    ],
)
def test_error_ratio(counts: list[tuple[int, int]], expected: rules.Outcome) -> None:
    assert rules.error_ratio("executor", reports(*counts), limit=0.5, minimum=20) == expected


def test_a_restarted_worker_counts_from_zero_and_is_no_negative_rate() -> None:
    window = reports((1000, 500), (1010, 500))
    window += [replace(report, instance="b", at_s=2.0 + i) for i, report in enumerate(reports((5, 0), (10, 30)))]
    outcome = rules.error_ratio("executor", window, limit=0.5, minimum=20)
    assert isinstance(outcome, Broken)
    assert outcome.measured == 30 / 50


def test_rpc_failures() -> None:
    first, last = REPORT, replace(REPORT, rpc_calls=10, rpc_failures=9, id="x")
    outcome = rules.rpc_failures("executor", [first, last], limit=0.8, minimum=10)
    assert outcome == Broken("rpc_failures", "executor", 0.9, 0.8, "executor: 9 of 10 RPC calls failed", "x")
    assert isinstance(rules.rpc_failures("executor", [first, last], limit=0.8, minimum=11), TooFew)
    assert isinstance(
        rules.rpc_failures("executor", [first, replace(last, rpc_failures=8)], limit=0.8, minimum=10), Within
    )


def test_memory_must_be_high_in_every_report_of_the_window() -> None:
    high = [replace(REPORT, memory_ratio=0.95)] * 4
    assert isinstance(rules.memory("w", high, limit=0.9, minimum=5), TooFew)
    assert isinstance(rules.memory("w", [*high, replace(REPORT, memory_ratio=0.9)], limit=0.9, minimum=5), Within)
    assert isinstance(rules.memory("w", [*high, replace(REPORT, memory_ratio=0.91)], limit=0.9, minimum=5), Broken)
    # Another process under the same name starts its own sample.
    assert isinstance(
        rules.memory("w", [*high, replace(REPORT, memory_ratio=0.99, instance="b")], limit=0.9, minimum=5), TooFew
    )


@pytest.mark.parametrize(
    ("now_s", "watching_since_s", "stopping", "count", "expected"),
    [
        (10.0, 0.0, False, 3, Within),
        (10.1, 0.0, False, 3, Broken),
        (99.0, 0.0, False, 2, TooFew),
        (99.0, 0.0, True, 3, Within),
        (99.0, 95.0, False, 3, Within),  # nobody was listening before
        (99.0, 80.0, False, 3, Broken),
    ],
)
def test_silence(now_s: float, watching_since_s: float, stopping: bool, count: int, expected: type) -> None:
    outcome = rules.silent(
        "w",
        replace(REPORT, stopping=stopping),
        count,
        now_s=now_s,
        watching_since_s=watching_since_s,
        limit=10.0,
        minimum=3,
    )
    assert isinstance(outcome, expected)


FULL = "books: database or disk is full"


@pytest.mark.parametrize(
    ("waiting", "looked_s", "watching_since_s", "expected"),
    [
        ([], 99.0, 0.0, Within("unbooked", "auditor", 0.0, 10.0)),
        ([Waiting(5.0, "r1", 1)], 15.0, 0.0, Within("unbooked", "auditor", 10.0, 10.0)),  # the limit itself holds
        ([Waiting(5.0, "r1", 1)], 40.0, 30.0, Within("unbooked", "auditor", 10.0, 10.0)),  # nobody was listening before
        (
            [Waiting(5.0, "r1", 1), Waiting(14.0, "r2", 2)],
            15.5,
            0.0,
            Broken(
                "unbooked", "auditor", 10.5, 10.0, f"results have waited 10.5 s to be booked: auditor: {FULL}", "r1"
            ),
        ),
    ],
)
def test_the_oldest_result_that_waits_for_the_books_is_measured(
    waiting: list[Waiting], looked_s: float, watching_since_s: float, expected: rules.Outcome
) -> None:
    said = [replace(REPORT, worker="auditor", at_s=6.0, detail=FULL), replace(REPORT, worker="auditor", at_s=7.0)]
    outcome = rules.unbooked("auditor", waiting, said, looked_s=looked_s, watching_since_s=watching_since_s, limit=10.0)
    assert outcome == expected


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], "auditor has not reported meanwhile"),
        ([replace(REPORT, at_s=4.0, detail=FULL)], "auditor has not reported meanwhile"),
        ([replace(REPORT, at_s=6.0)], "auditor reports nothing amiss"),
        ([replace(REPORT, at_s=6.0, detail="x" * 5000)], f"auditor: {'x' * 300}"),
    ],
)
def test_why_nothing_is_booked_is_named(said: list[Health], words: str) -> None:
    waiting = [Waiting(5.0, "r1", 1)]
    outcome = rules.unbooked("auditor", waiting, said, looked_s=20.0, watching_since_s=0.0, limit=10.0)
    assert isinstance(outcome, Broken)
    assert outcome.detail == f"results have waited 15.0 s to be booked: {words}"
    assert len(outcome.detail) <= REASON_LENGTH


def test_drawdown_is_the_fall_from_the_peak_over_the_starting_capital() -> None:
    way = [snapshot(1, 50), snapshot(2, 200), snapshot(3, 120), snapshot(4, 100), snapshot(5, 99)]
    assert isinstance(rules.drawdown(way[:4], limit=0.1, minimum=5), TooFew)
    outcome = rules.drawdown(way, limit=0.1, minimum=5)
    assert isinstance(outcome, Broken)
    assert outcome.measured == 0.101
    assert isinstance(rules.drawdown([*way[:4], snapshot(5, 100)], limit=0.1, minimum=5), Within)
    assert isinstance(rules.drawdown([], limit=0.1, minimum=5), TooFew)
    assert isinstance(rules.drawdown([snapshot(i, -i, capital=0) for i in range(1, 7)], limit=0.1, minimum=5), Broken)


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=30), st.floats(0, 1), st.integers(1, 99)
)
def test_a_ratio_is_never_outside_its_bounds(counts: list[tuple[int, int]], limit: float, minimum: int) -> None:
    match rules.error_ratio("w", reports(*counts), limit=limit, minimum=minimum):
        case Within(measured=measured):
            assert 0 <= measured <= limit
        case Broken(measured=measured):
            assert limit < measured <= 1
        case TooFew(sample=sample):
            assert 0 <= sample < minimum


@given(st.lists(st.integers(-(10**12), 10**12), min_size=5, max_size=60), st.integers(1, 10**12), st.floats(0, 1))
def test_drawdown_equals_its_definition(profits: list[int], capital: int, limit: float) -> None:
    outcome = rules.drawdown([snapshot(i + 1, p, capital) for i, p in enumerate(profits)], limit=limit, minimum=5)
    fall = (max(profits) - profits[-1]) / capital
    assert isinstance(outcome, Broken if fall > limit else Within)
    assert isinstance(outcome, Broken | Within)
    assert outcome.measured == fall


def health(worker: str = "executor", sequence: int = 0, **fields: object) -> WorkerHealth:
    base: dict[str, object] = {
        "id": f"{worker}{sequence}",
        "worker": worker,
        "instance": "i",
        "state": WorkerState.READY,
    }
    return WorkerHealth(**{**base, **fields})


def pnl(executions: int, profit: int) -> PnlSnapshot:
    return PnlSnapshot(
        id=f"p{executions}",
        executions=executions,
        net_profit_lamports=profit,
        starting_capital_lamports=1000,
    )


def test_a_quiet_pipeline_breaks_nothing() -> None:
    watch = Watch(SETTINGS, 0.0)
    assert watch.broken(1e6, 1e6) == []
    for second in range(600):
        watch.health(health(sequence=second, handled=second * 10), float(second))
        assert watch.broken(float(second), float(second)) == []


def test_a_worker_that_falls_silent_is_named_and_one_that_stopped_is_not() -> None:
    watch = Watch(SETTINGS, 0.0)
    for second in range(5):
        watch.health(health("planner"), float(second))
        watch.health(health("scanner", state=WorkerState.STOPPED if second == 4 else WorkerState.READY), float(second))
    assert watch.broken(14.0, 0.0) == []
    assert [(broken.rule, broken.subject) for broken in watch.broken(14.5, 0.0)] == [("worker_silent", "planner")]


def test_a_resume_accepts_what_was() -> None:
    watch = Watch(SETTINGS, 0.0)
    for second in range(5):
        watch.health(health("planner", handled=0, failed=second * 100), float(second))
        watch.pnl(pnl(second + 1, -30 * second), float(second))
    assert {broken.rule for broken in watch.broken(4.0, 4.0)} == {"error_ratio", "drawdown"}
    watch.restart(20.0)
    assert watch.broken(20.0, 20.0) == []
    assert watch.broken(60.0, 60.0) == []  # the planner, silent when trading was resumed, counts again once it speaks
    for second in range(5):
        watch.pnl(pnl(6 + second, -120 - 25 * second), 20.0 + second)
    assert watch.broken(25.0, 25.0) == []
    watch.pnl(pnl(11, -221), 26.0)
    assert [broken.rule for broken in watch.broken(26.0, 26.0)] == ["drawdown"]


def test_time_of_not_listening_is_not_the_workers_silence() -> None:
    watch = Watch(SETTINGS, 0.0)
    for second in range(5):
        watch.health(health(), float(second))
    watch.deaf(100.0)
    assert watch.broken(109.9, 0.0) == []
    assert [broken.rule for broken in watch.broken(110.1, 0.0)] == ["worker_silent"]


def unbooked(watch: Watch, now_s: float) -> float:
    """How long the oldest result has waited, in seconds."""
    found = [outcome for outcome in watch.outcomes(now_s, now_s) if outcome.rule == "unbooked"]
    assert isinstance(found[0], Within | Broken)
    return found[0].measured


def test_results_wait_until_the_books_have_them() -> None:
    watch = Watch(SETTINGS, 0.0)
    watch.books(Books(7, "r7", 0), 1.0)
    assert unbooked(watch, 100.0) == 0.0, "what stood there before the first look is not waited for"
    watch.books(Books(9, "r9", 0), 101.0)
    watch.books(Books(12, "r12", 8), 105.0)
    assert unbooked(watch, 200.0) == 4.0, "measured at the last look: nothing is known of later"
    watch.books(Books(12, "r12", 9), 106.0)
    assert unbooked(watch, 106.0) == 1.0
    watch.books(Books(12, "r12", 12), 107.0)
    assert unbooked(watch, 107.0) == 0.0
    watch.books(Books(0, "", 12), 108.0)  # aged away, or no result at all
    watch.books(Books(13, "r13", 12), 109.0)
    watch.books(Books(0, "", 12), 119.5)
    assert [broken.rule for broken in watch.broken(119.5, 119.5)] == ["unbooked"]
    watch.books(Books(2, "s2", 13), 120.0)  # the stream began anew
    assert watch.broken(120.0, 120.0) == []


def test_an_auditor_that_comes_back_in_time_halts_nothing_and_one_that_stays_away_does() -> None:
    watch = Watch(SETTINGS, 0.0)
    watch.books(Books(0, "", 0), 0.0)
    for second in range(1, 60):
        # Killed every 12 s and back after 8, while results come every second.
        back = second % 12 < 4
        watch.books(Books(second, f"r{second}", second if back else second - second % 12 + 3), float(second))
        assert watch.broken(float(second), float(second)) == []
    for second in range(60, 75):
        watch.books(Books(second, f"r{second}", 59), float(second))
    assert [broken.rule for broken in watch.broken(74.0, 74.0)] == ["unbooked"]
    watch.restart(74.0)
    assert watch.broken(99.0, 99.0) == [], "a resume accepts what was"
    for second in range(100, 112):
        watch.books(Books(second, f"r{second}", 59), float(second))
    assert [broken.cause_id for broken in watch.broken(111.0, 111.0)] == ["r100"]


def test_the_windows_are_bounded() -> None:
    watch = Watch(SETTINGS, 0.0)
    for number in range(50_000):
        watch.books(Books(number, "r", 0), 1.0)
    for number in range(2000):
        watch.health(health(f"worker-{number}"), 0.0)
    for number in range(50_000):
        watch.pnl(pnl(number + 1, number), number * 10.0)
    watch.broken(1.0, 500_000.0)
    assert len(watch._workers) == 256
    assert len(watch._pnl) <= 4100
    assert len(watch._waiting) <= 4100


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-400, 400)), min_size=6, max_size=60))
def test_joining_close_snapshots_changes_no_drawdown(steps: list[tuple[int, int]]) -> None:
    watch = Watch(SETTINGS, 0.0)
    exact: list[Pnl] = []
    at_s = 0.0
    for number, (wait, profit) in enumerate(steps):
        at_s += wait
        watch.pnl(pnl(number + 1, profit), at_s)
        exact.append(snapshot(number + 1, profit))
    expected = rules.drawdown(exact, limit=SETTINGS.drawdown_ratio, minimum=SETTINGS.drawdown_min_executions)
    outcome = [outcome for outcome in watch.outcomes(at_s, at_s) if outcome.rule == "drawdown"]
    assert outcome == [expected]
