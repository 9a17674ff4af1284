"""Expected against realised, ratios, breakdowns; lots."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import Entry, Ledger, PlanEntry, Span, open_report
from pipeline.ledger.chain_models import SOL
from pipeline.ledger.corrections import NEVER_LANDED, Case, Outcome, by_token, correct
from pipeline.ledger.figures import (
    MIN_HOURS,
    MIN_TRADES,
    breakdown,
    causes,
    hour_of,
    max_drawdown,
    ratios,
    sharpe,
    sortino,
)
from pipeline.ledger.lots import Book, Transfer, disposals
from pipeline.ledger.rows import execution_row, fill_rows, plan_row
from pipeline.ledger.trades import CAUSES, Trade, trades_of
from pipeline.messages import ExecutionStatus
from workers.auditor.valuation import value_of

from .results import JITO, SOL_MINT, USDC_MINT, a_plan, a_result

HOUR_NS = 3_600_000_000_000


def a_trade(number: int = 1, *, planned: bool = True, **given: Any) -> Trade:
    """A trade of `a_result(number)` beside `a_plan(number)`."""
    result = a_result(number, **given)
    row = execution_row(Entry(number, result), value_of, 0)
    plan = plan_row(PlanEntry(number, a_plan(number, token=result.token)))
    names = ("amount_in", "expected_amount_out", "tip", "cost")
    of_plan = {f"plan_{name}": plan[name] if planned else None for name in names}
    [trade] = trades_of([row | of_plan | {"legs": plan["legs"], "pair": "SOL/JitoSOL"}], {result.id: fill_rows(result)})
    return trade


def test_a_fill_s_difference_is_split_without_a_rest() -> None:
    # Planned: 10,000 gross, costs of 5,500 of which 400 are tip. Realised: 9,000 gross, 100 more tip, 30 more fee.
    trade = a_trade(gross=9_000, fees=(5_000, 130, 500), expected_profit=4_500)
    assert trade.causes() == {"slippage": -1_000, "tip": -100, "fee": -30}
    assert sum(trade.causes().values()) == trade.figures["net_profit"] - 4_500


@given(
    st.integers(-(10**9), 10**9),
    st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)),
    st.integers(0, 10**7),
    st.sampled_from([SOL_MINT, USDC_MINT]),
)
def test_causes_add_up_whatever_happened(gross: int, fees: tuple[int, int, int], cost: int, token: str) -> None:
    trade = a_trade(gross=gross, amount_in=10**10, fees=fees, cost=cost, token=token, expected_profit=4_500)
    assert sum(trade.causes().values()) == trade.figures["net_profit"] - 4_500
    assert trade.causes().keys() <= CAUSES.keys()


@pytest.mark.parametrize("status", list(ExecutionStatus)[2:])
def test_what_was_not_filled_has_one_cause(status: ExecutionStatus) -> None:
    trade = a_trade(status=status, expected_profit=4_500)
    [(cause, amount)] = trade.causes().items()
    assert cause in CAUSES.keys() - {"unknown", "fork"}
    assert amount == trade.figures["net_profit"] - 4_500
    assert (amount == -4_500) == (status != ExecutionStatus.REVERTED)


@pytest.mark.parametrize("status", [ExecutionStatus.DROPPED, ExecutionStatus.FILLED])
def test_what_landed_and_failed_was_reverted_whatever_it_was_booked_as(status: ExecutionStatus) -> None:
    case = a_case(status=status)
    found = correct(case, Outcome(True, base_fee=5_000, priority_fee=100), value_of, signature="s", clock_ns=0)
    assert found is not None
    names = {"plan_amount_in": 0, "plan_expected_amount_out": 0, "plan_tip": 0, "plan_cost": 0, "legs": "[]"}
    [trade] = trades_of([case.execution | names, found.row | names], {})
    assert set(trade.causes()) == {"reverted"}


def test_without_its_plan_a_difference_is_unknown() -> None:
    assert set(a_trade(planned=False, gross=9_000).causes()) == {"unknown"}


def test_sums_of_causes_per_token() -> None:
    trades = [a_trade(1, gross=9_000, expected_profit=4_500), a_trade(2, status=ExecutionStatus.DROPPED, gross=9_000)]
    found = {(row["token"], row["cause"]): (row["trades"], row["difference"]) for row in causes(trades)}
    assert found == {
        (SOL_MINT, "slippage"): (1, -1_000),
        (SOL_MINT, "competitor"): (1, -trades[1].row["expected_profit"]),
    }


def test_ratios_are_the_textbook_s() -> None:
    returns = [3.0, -1.0, 2.0, 0.0]
    assert sharpe(returns, 4) == pytest.approx(1.0 / statistics.stdev(returns))
    assert sortino(returns, 4) == pytest.approx(1.0 / math.sqrt(1.0 / 4))
    assert sharpe(returns, 5) is None
    assert sortino(returns, 5) is None
    assert sharpe([1.0] * 40, 4) is None
    assert sortino([1.0] * 40, 4) is None


def test_ratios_need_their_sample_and_count_empty_hours() -> None:
    trades = [
        a_trade(number, gross=6_000 + 100 * (number % 5), finished_ns=HOUR_NS * 10**5) for number in range(MIN_TRADES)
    ]
    assert ratios(trades[:-1]).sharpe_per_trade is None
    found = ratios(trades)
    assert found.sharpe_per_trade is not None
    assert (found.hours, found.sharpe_per_hour) == (1, None)
    # Two trades, MIN_HOURS - 1 hours apart: all hours between them count as nothing earned.
    ends = [
        a_trade(1, gross=9_000, finished_ns=HOUR_NS * 10**5),
        a_trade(2, gross=0, finished_ns=HOUR_NS * (10**5 + MIN_HOURS - 1)),
    ]
    found = ratios(ends)
    hourly = [3_500.0, *[0.0] * (MIN_HOURS - 2), -5_500.0]
    assert found.hours == MIN_HOURS
    year = math.sqrt(8_760)
    assert found.sharpe_per_hour == pytest.approx(year * statistics.fmean(hourly) / statistics.stdev(hourly))
    assert found.sortino_per_hour == pytest.approx(year * statistics.fmean(hourly) / math.sqrt(5_500.0**2 / MIN_HOURS))


def test_breakdowns_add_up_and_never_mix_tokens() -> None:
    trades = [a_trade(number, gross=6_000 + number, token=[SOL_MINT, USDC_MINT][number % 2]) for number in range(6)]
    for by in ("pair", "venue", "hour"):
        rows = breakdown(trades, by, lambda trade: trade.row["pair"])
        assert len(rows) == 2
        assert sum(row["net_profit"] for row in rows) == sum(trade.figures["net_profit"] for trade in trades)
        assert sum(row["executions"] for row in rows) == 6
    [row, _] = breakdown(trades, "venue", str)
    assert row["venue"] == "WHIRLPOOL > RAYDIUM_CPMM"
    for name in ("fees_lamports", "tips_lamports", "cost", "expected_profit", "wins", "filled", "net_lamports"):
        assert sum(row[name] for row in rows) > 0
    assert hour_of(1_790_000_000_000_000_000) == "2026-09-21 14:00"
    assert hour_of(10**30) == ""


def test_each_row_has_its_own_risk_and_causes() -> None:
    # Half of them in SOL (profits 500, 600, ...), half in USDC without a price: the row's own token needs none.
    trades = [
        a_trade(number, gross=6_000 + 100 * (number // 2 % 5), token=token, price=0 if token == USDC_MINT else 1)
        for number in range(2 * MIN_TRADES)
        for token in [[SOL_MINT, USDC_MINT][number % 2]]
    ]
    trades += [
        a_trade(100, status=ExecutionStatus.REVERTED),
        a_trade(101, status=ExecutionStatus.DROPPED),  # paid nothing: no trade of the series
        a_trade(102, gross=1_500),
    ]
    rows = {row["token"]: row for row in breakdown(trades, "pair", lambda trade: trade.row["pair"])}
    sol, usdc = rows[SOL_MINT], rows[USDC_MINT]
    series = [500.0 + 100 * (number % 5) for number in range(MIN_TRADES)]
    assert usdc["ratios"]["trades"] == MIN_TRADES
    assert usdc["ratios"]["sharpe_per_trade"] == pytest.approx(statistics.fmean(series) / statistics.stdev(series))
    assert usdc["ratios"]["sortino_per_trade"] is None  # nothing was lost
    assert (usdc["ratios"]["hours"], usdc["ratios"]["sharpe_per_hour"]) == (1, None)
    assert usdc["max_drawdown"] == 0
    series += [-5_100.0, -4_000.0]
    assert sol["ratios"]["trades"] == MIN_TRADES + 2
    downside = math.sqrt((5_100.0**2 + 4_000.0**2) / (MIN_TRADES + 2))
    assert sol["ratios"]["sortino_per_trade"] == pytest.approx(statistics.fmean(series) / downside)
    assert sol["max_drawdown"] == 9_100
    counts = {one["cause"]: one["trades"] for one in sol["causes"]}
    assert (counts["competitor"], counts["reverted"], counts["slippage"]) == (1, 1, MIN_TRADES + 1)
    assert sum(one["difference"] for one in sol["causes"]) == sol["net_profit"] - sol["expected_profit"]


def test_rows_with_too_few_trades_have_no_ratio() -> None:
    trades = [a_trade(number, gross=6_000 + number) for number in range(MIN_TRADES - 1)]
    for by in ("pair", "venue", "hour"):
        [row] = breakdown(trades, by, lambda trade: trade.row["pair"])
        assert row["ratios"]["trades"] == MIN_TRADES - 1
        assert not {value for name, value in row["ratios"].items() if name not in ("trades", "hours")} - {None}


def test_the_drawdown_of_a_row_begins_at_nothing() -> None:
    assert max_drawdown([]) == 0
    assert max_drawdown([-3, -2, 10, -4, 3, -5, 20]) == 6
    assert max_drawdown([-3, -2]) == 5


# Corrections


def a_case(**given: Any) -> Case:
    result = a_result(**given)
    return Case(execution_row(Entry(1, result), value_of, 0), fill_rows(result), plan_row(PlanEntry(1, a_plan())), [])


def test_a_correction_makes_the_sums_true() -> None:
    case = a_case(gross=9_000, token=USDC_MINT, cost=900)
    truth = Outcome(True, True, 1_000_000, 1_008_000, 5_000, 200, 400, ((1_000_000, 990_000), (985_000, 1_008_000)))
    found = correct(case, truth, value_of, signature="s", clock_ns=0)
    assert found is not None
    assert found.rule == "booked_otherwise"
    together = {
        name: case.execution[name] + found.row[name]
        for name in ("amount_out", "gross_profit", "priority_fee", "net_profit")
    }
    # 5,600 lamports at 900 for 5,500, rounded up.
    assert together == {"amount_out": 1_008_000, "gross_profit": 8_000, "priority_fee": 200, "net_profit": 8_000 - 917}
    fills = [*case.fills, *found.fills]
    for name, total in (("amount_in", 1_985_000), ("amount_out", 1_998_000)):
        assert sum(fill[name] for fill in fills) == total
    assert by_token(case, truth) == {USDC_MINT: 8_000, JITO: 5_000, SOL: -5_600}
    booked = ((1_000_000, 1_000_000), (1_000_000, 1_009_000))
    same = Outcome(True, True, 1_000_000, 1_009_000, 5_000, 100, 400, booked)
    assert correct(case, same, value_of, signature="s", clock_ns=0) is None


def test_a_fill_that_never_was_is_taken_back_whole() -> None:
    case = a_case(gross=9_000)
    found = correct(case, NEVER_LANDED, value_of, signature="s", clock_ns=0)
    assert found is not None
    for name in (
        "filled",
        "wins",
        "gross_profit",
        "base_fee",
        "tip",
        "cost",
        "net_profit",
        "expected_of_filled",
        "net_lamports",
        "net_usd_e6",
    ):
        assert case.execution[name] + found.row[name] == 0, name
    names = {"plan_amount_in": 0, "plan_expected_amount_out": 0, "plan_tip": 0, "plan_cost": 0, "legs": "[]"}
    fills = {case.execution["id"]: case.fills, found.row["id"]: found.fills}
    [trade] = trades_of([case.execution | names, found.row | names], fills)
    assert (trade.fills, trade.landed, set(trade.causes())) == ([], False, {"fork"})


# Lots

AMOUNTS = st.integers(1, 10**12)


@given(st.lists(st.tuples(st.booleans(), AMOUNTS, st.integers(0, 10**15)), max_size=30))
def test_nothing_of_a_lot_is_lost_or_made_up(steps: list[tuple[bool, int, int]]) -> None:
    book = Book(USDC_MINT)
    about = {"event": "swap", "disposed_ns": 5, "reference": "", "signature": ""}
    got = spent = cost = proceeds = 0
    made = []
    for acquires, amount, usd in steps:
        if acquires:
            book.acquire(JITO, amount, usd, 1, "swap")
            got += amount
            cost += usd
        else:
            parts = list(book.dispose(JITO, amount, usd, about))
            assert sum(one.amount for one in parts) == amount
            assert sum(one.proceeds_usd_e6 for one in parts) == usd
            made += parts
            spent += amount
            proceeds += usd
    recorded = [one for one in made if one.source != "unrecorded"]
    left = book.lots.get(JITO, ())
    assert sum(one.amount for one in recorded) + sum(lot.amount for lot in left) == got
    assert sum(one.cost_usd_e6 for one in recorded) + sum(lot.cost_usd_e6 for lot in left) == cost
    # What no lot covers has neither gain nor loss.
    assert all(one.cost_usd_e6 == one.proceeds_usd_e6 for one in made if one.source == "unrecorded")


def test_first_in_first_out() -> None:
    book = Book(USDC_MINT)
    book.acquire(SOL, 10, 100, 1, "deposit")
    book.acquire(SOL, 10, 300, 2, "deposit")
    about = {"event": "swap", "disposed_ns": 5, "reference": "r", "signature": "s"}
    parts = list(book.dispose(SOL, 15, 450, about))
    assert [(one.amount, one.cost_usd_e6, one.proceeds_usd_e6, one.acquired_ns) for one in parts] == [
        (10, 100, 300, 1),
        (5, 150, 150, 2),
    ]


def test_disposals_of_a_cycle_and_of_what_the_owner_does() -> None:
    trade = a_trade(gross=6_000, price=150_000_000, amount_in=10**9)
    transfers = [
        Transfer("opening", (1, 0, -1), SOL, 2 * 10**9, 1, ""),
        Transfer("deposit", (1, 5, 0), USDC_MINT, 70, 2, "d"),
        Transfer("withdrawal", (1, 9, 0), SOL, -(10**8), 3, "w"),
        Transfer("upkeep", (1, 9, 1), SOL, -5_000, 4, "u"),
    ]
    found = list(disposals([((1, 7, 0), trade)], transfers, USDC_MINT))
    events = [(one.event, one.token, one.amount) for one in found]
    assert events == [
        ("swap", SOL, 10**9),
        ("swap", JITO, 10**9),
        ("fee", SOL, 5_100),
        ("tip", SOL, 400),
        ("withdrawal", SOL, 10**8),
        ("upkeep", SOL, 5_000),
    ]
    # The first leg goes at the price that the opening was put in at; the second brings what the gap was worth.
    assert (found[0].cost_usd_e6, found[0].proceeds_usd_e6, found[0].source) == (150_000_000, 150_000_000, "opening")
    assert found[1].proceeds_usd_e6 - found[1].cost_usd_e6 == (10**9 + 6_000) * 150_000_000 // 10**9 - 150_000_000
    assert all(one.proceeds_usd_e6 == 0 for one in found if one.event in ("fee", "tip", "upkeep"))
    assert found[4].cost_usd_e6 == found[4].proceeds_usd_e6


def test_a_later_opening_opens_no_lot_twice() -> None:
    """Books that began anew hold what is there, and most of it has its lots already."""
    trade = a_trade(gross=6_000, price=150_000_000, amount_in=10**9)
    transfers = [
        Transfer("opening", (1, 0, -1), SOL, 2 * 10**9, 1, ""),
        Transfer("opening", (1, 0, -1), JITO, 50, 1, ""),
        Transfer("opening", (2, 9, -1), SOL, 10**9, 8, ""),
        Transfer("opening", (2, 9, -1), JITO, 70, 8, ""),
        Transfer("opening", (2, 9, -1), USDC_MINT, 0, 8, ""),
        Transfer("withdrawal", (2, 10, 0), SOL, -(10**9), 9, "w"),
        Transfer("withdrawal", (2, 10, 1), JITO, -70, 9, "x"),
    ]
    found = list(disposals([((1, 7, 0), trade)], transfers, USDC_MINT))
    gone = [(one.token, one.amount, one.signature, one.source) for one in found if one.event == "withdrawal"]
    # The trade left 2 SOL and 500 lamports (6,000 less 5,500 of fees and tip); 1 SOL is there at the second opening.
    assert sum(amount for token, amount, signature, _ in gone if (token, signature) == (SOL, "")) == 10**9 + 500
    assert sum(amount for token, amount, signature, _ in gone if (token, signature) == (SOL, "w")) == 10**9
    assert sum(amount for token, amount, *_ in gone if token == JITO) == 70
    assert not [one for one in found if one.source == "unrecorded"]


def test_trades_from_the_books(ledger: Ledger, url: str) -> None:
    ledger.book_plans([PlanEntry(1, a_plan(1)), PlanEntry(2, a_plan(2))], Span("t", 0, 2))
    entries = [
        Entry(1, a_result(1, gross=6_000, expected_profit=4_500)),
        Entry(2, a_result(2, status=ExecutionStatus.EXPIRED)),
    ]
    ledger.book(entries, Span("t", 0, 2), value_of)
    reader = open_report(url)
    try:
        trades = reader.all_trades()
        assert (reader.reconciliations(), reader.transfers()) == ([], [])
    finally:
        reader.close()
    assert [(trade.venues, set(trade.causes())) for trade in trades] == [
        ("WHIRLPOOL > RAYDIUM_CPMM", {"slippage"}),
        ("WHIRLPOOL > RAYDIUM_CPMM", {"expired"}),
    ]
