"""Results whose plan, or whose stream, is gone: nothing is accused of it, and nothing of them is lost unasked."""

from __future__ import annotations

from pipeline.ids import deterministic_id
from pipeline.ledger import Entry, Ledger, PlanEntry, Span, SubmissionEntry, older_than
from pipeline.messages import Anomaly, ExecutionSubmitted, Mode
from workers.auditor.desk import Desk
from workers.auditor.valuation import value_of

from .chain_stage import FakeBus
from .results import SOL_MINT, a_plan, a_result

HOUR_NS = 3_600_000_000_000
NOW_NS = 1_790_000_000_000_000_000


async def test_a_plan_that_left_its_stream_is_not_missed(ledger: Ledger) -> None:
    """After a rebuild: PLANNED keeps a day, EXECUTED a week."""
    ledger.book_plans([PlanEntry(1, a_plan(1))], Span("then", 0, 1))
    ages = {1: 0, 2: 0, 3: 25, 4: 24 * 6}
    results = [a_result(number, created_ns=NOW_NS - hours * HOUR_NS) for number, hours in ages.items()]
    ledger.book([Entry(number, one) for number, one in enumerate(results, 1)], Span("then", 0, 4), value_of)
    bus = FakeBus()
    desk = Desk(bus, ledger, producer="auditor", wall_ns=lambda: NOW_NS)
    await desk.check_plans(-(2**62))
    told = [(one.rule, one.causation_id) for one in bus.published if isinstance(one, Anomaly)]
    assert told == [("result_without_plan", results[1].id)]
    assert ledger.unchecked(booked_before_ns=2**62) == []


def test_results_of_a_stream_that_was_made_anew_are_older_than_it(ledger: Ledger, url: str) -> None:
    """Their sequences are of another count; a rebuild would lose them all the same."""
    ledger.book([Entry(number, a_result(number)) for number in (1, 2)], Span("first", 0, 2), value_of)
    assert (older_than(url, 1), older_than(url, 2), older_than(url, 1, 0)) == (0, 1, 0)
    assert older_than(url, 1, 2**62) == 2


def test_books_of_a_live_chain_begin_with_live_submissions(ledger: Ledger) -> None:
    """What was tried on the offline chain has slots of another chain."""
    tried = [(Mode.LOCALNET, 5), (Mode.LIVE, 90), (Mode.LIVE, 80)]
    entries = [
        SubmissionEntry(
            number,
            ExecutionSubmitted(
                id=deterministic_id(number),
                correlation_id="o",
                plan_id="p",
                mode=mode,
                signature=f"s{number}",
                wallet="w",
                token=SOL_MINT,
                slot=slot,
            ),
        )
        for number, (mode, slot) in enumerate(tried, 1)
    ]
    assert ledger.first_submission_slot() is None
    ledger.book([], Span("then", 0, 3), value_of, entries)
    assert ledger.first_submission_slot() == 80
