"""The books: exact, idempotent, in step with the stream; on SQLite and on PostgreSQL."""

from __future__ import annotations

import random
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from pipeline.ledger import Entry, Ledger, LedgerError, PlanEntry, PositionMoved, Span, open_report, unbookable
from pipeline.ledger.models import AMOUNT_MAX
from pipeline.messages import ExecutionResult, ExecutionStatus, decode
from workers.auditor.snapshot import snapshots
from workers.auditor.valuation import value_of

from .conftest import CAPITAL
from .results import JITO, SOL_MINT, USDC_MINT, a_plan, a_result

CREATED = "2026-01-01T00:00:00Z"


def book(ledger: Ledger, results: list[ExecutionResult], *, after: int = 0, created: str = CREATED):
    entries = [Entry(after + index, result) for index, result in enumerate(results, 1)]
    return ledger.book(entries, Span(created, after, after + len(results)), value_of)


def test_books_one_fill(ledger: Ledger, url: str) -> None:
    booked = book(ledger, [a_result(gross=7_000)])
    assert booked.position == 1
    assert booked.totals[SOL_MINT] == {
        "executions": 1,
        "filled": 1,
        "wins": 1,
        "gross_profit": 7_000,
        "fees_lamports": 5_100,
        "tips_lamports": 400,
        "cost": 5_500,
        "net_profit": 1_500,
        "expected_profit": 1_510,
        "expected_of_filled": 1_510,
        "net_lamports": 1_500,
        "net_usd_e6": 225,
    }
    reader = open_report(url)
    report = reader.report()
    assert report.books["net_lamports"] == 1_500
    assert report.positions == {"EXECUTED": 1}
    assert report.statuses == {"FILLED": 1}
    [trade] = list(reader.trades())
    assert (trade["net_profit"], trade["equity_lamports"], trade["status"]) == (1_500, 1_500, "FILLED")
    reader.close()


def test_a_revert_pays_fees_and_no_tip(ledger: Ledger) -> None:
    booked = book(ledger, [a_result(status=ExecutionStatus.REVERTED)])
    total = booked.totals[SOL_MINT]
    assert (total["filled"], total["wins"], total["net_profit"]) == (0, 0, -5_100)
    assert (total["fees_lamports"], total["tips_lamports"]) == (5_100, 0)
    assert booked.books["max_drawdown_lamports"] == 5_100


@pytest.mark.parametrize("status", [s for s in ExecutionStatus if s.value >= ExecutionStatus.EXPIRED])
def test_what_never_began_costs_nothing(ledger: Ledger, status: ExecutionStatus) -> None:
    total = book(ledger, [a_result(status=status)]).totals[SOL_MINT]
    assert (total["executions"], total["filled"], total["net_profit"], total["cost"]) == (1, 0, 0, 0)


def test_drawdown_is_peak_to_trough(ledger: Ledger) -> None:
    gains = [15_500, -4_500, -9_500, 35_500, -500]  # net +10,000 -10,000 -15,000 +30,000 -6,000
    booked = book(ledger, [a_result(number, gross=gross) for number, gross in enumerate(gains)])
    assert booked.books["net_lamports"] == 9_000
    assert booked.books["peak_lamports"] == 15_000
    assert booked.books["max_drawdown_lamports"] == 25_000
    assert booked.books["peak_lamports"] - booked.books["net_lamports"] == 6_000


def test_a_repeat_is_not_booked_again(ledger: Ledger) -> None:
    book(ledger, [a_result(1), a_result(2)])
    booked = book(ledger, [a_result(2), a_result(1), a_result(3), a_result(3)], after=2)
    assert booked.duplicates == 3
    assert [result.plan_id for result in booked.results] == [a_result(3).plan_id]
    assert ledger.totals().totals[SOL_MINT]["executions"] == 3
    assert booked.position == 6


def test_position_and_booking_are_one(ledger: Ledger) -> None:
    book(ledger, [a_result(1)])
    with pytest.raises(PositionMoved) as moved:
        ledger.book([Entry(1, a_result(9))], Span(CREATED, 0, 1), value_of)
    assert moved.value.stored == 1
    assert ledger.totals().totals[SOL_MINT]["executions"] == 1
    with pytest.raises(PositionMoved):
        ledger.book([Entry(4, a_result(9))], Span(CREATED, 3, 4), value_of)
    assert ledger.position("EXECUTED", CREATED) == 1


def test_a_stream_made_anew_begins_at_its_beginning(ledger: Ledger) -> None:
    book(ledger, [a_result(1), a_result(2)])
    assert ledger.position("EXECUTED", "2026-02-02") == 0
    booked = book(ledger, [a_result(3)], created="2026-02-02")
    assert booked.position == 1
    assert ledger.totals().totals[SOL_MINT]["executions"] == 3


def test_a_failed_booking_leaves_nothing(ledger: Ledger) -> None:
    too_much = a_result(2).replace(amount_out=2**64 - 1, amount_in=0)
    assert unbookable(too_much)
    with pytest.raises(Exception, match=r"too large|out of range|overflow|bigint"):
        book(ledger, [a_result(1), too_much])
    assert ledger.totals().totals == {}
    assert ledger.position("EXECUTED", CREATED) == 0


def test_reopened_books_go_on(url: str) -> None:
    first = Ledger(url, starting_capital_lamports=CAPITAL)
    book(first, [a_result(1), a_result(2)])
    first.close()
    second = Ledger(url, starting_capital_lamports=CAPITAL + 1)
    assert second.position("EXECUTED", CREATED) == 2
    booked = book(second, [a_result(3)], after=2)
    assert booked.totals[SOL_MINT]["executions"] == 3
    assert booked.books["starting_capital_lamports"] == CAPITAL + 1
    second.close()


def test_two_tokens_and_missing_prices(ledger: Ledger, url: str) -> None:
    results = [
        a_result(1, gross=10_000),
        a_result(2, gross=2_000_000, token=USDC_MINT, cost=1_000, price=200_000_000),
        a_result(3, gross=10_000, price=0),
        a_result(4, gross=10_000, token=JITO),
        a_result(5, status=ExecutionStatus.EXPIRED),
    ]
    booked = book(ledger, results)
    # 1,999,000 millionths of a USD at 200 USD per SOL are 9,995,000 lamports
    assert booked.totals[USDC_MINT]["net_lamports"] == 9_995_000
    assert booked.books["net_lamports"] == 4_500 + 9_995_000 + 4_500
    assert booked.books["net_usd_e6"] == 675 + 1_999_000
    assert booked.books["unvalued"] == 2
    ledger.name_tokens([(SOL_MINT, "SOL", 9), (USDC_MINT, "USDC", 6), (JITO, "JitoSOL", 9)])
    ledger.name_tokens([(SOL_MINT, "SOL", 9)])
    reader = open_report(url)
    pairs = {row["pair"]: row["net_profit"] for row in reader.report().pairs}
    assert pairs == {"JitoSOL/SOL": 4_500, "SOL/JitoSOL": 9_000, "USDC/JitoSOL": 1_999_000, "SOL/?": 0}
    ledger.book_plans([PlanEntry(1, a_plan(5))], Span(CREATED, 0, 1))
    pairs = {row["pair"]: row["executions"] for row in reader.report().pairs}
    assert pairs["SOL/JitoSOL"] == 3
    reader.close()


def test_plans_are_found_missing_once(ledger: Ledger) -> None:
    book(ledger, [a_result(1), a_result(2)])
    assert ledger.book_plans([PlanEntry(1, a_plan(1)), PlanEntry(1, a_plan(1))], Span(CREATED, 0, 1)) == 1
    assert ledger.book_plans([PlanEntry(1, a_plan(1))], Span(CREATED, 1, 1)) == 0
    assert ledger.unchecked(booked_before_ns=0) == []
    found = ledger.unchecked(booked_before_ns=2**62)
    assert {(row.plan_id, row.plan_known) for row in found} == {(a_plan(1).id, True), (a_plan(2).id, False)}
    ledger.mark_checked([row.result_id for row in found])
    assert ledger.unchecked(booked_before_ns=2**62) == []


def test_rebuilding_gives_the_same_books(ledger: Ledger, url: str) -> None:
    chance = random.Random(7)
    results = [
        a_result(number, gross=chance.randint(-20_000, 40_000), status=chance.choice(list(ExecutionStatus)[1:]))
        for number in range(200)
    ]
    for start in range(0, 200, 17):
        book(ledger, results[start : start + 17], after=start)
    reader = open_report(url)
    before, trades = reader.report(), [row | {"booked_ns": 0} for row in reader.trades()]
    ledger.clear()
    assert ledger.totals().totals == {}
    assert ledger.position("EXECUTED", CREATED) == 0
    book(ledger, results)
    assert reader.report() == before
    assert [row | {"booked_ns": 0} for row in reader.trades()] == trades
    assert [row["id"] for row in reader.trades(newest=3)] == [result.id for result in results[-3:]]
    reader.close()


def test_a_report_is_of_one_moment(ledger: Ledger, url: str) -> None:
    """Reports that are taken while somebody books never show half a booking."""
    done = threading.Event()

    def booking() -> None:
        for start in range(0, 200, 4):
            book(ledger, [a_result(start + number, gross=6_000 + number) for number in range(4)], after=start)
        done.set()

    book(ledger, [])
    writer = threading.Thread(target=booking)
    writer.start()
    reader, reports = open_report(url), 0
    while not done.is_set():
        report = reader.report()
        assert report.books["net_lamports"] == sum(row["net_profit"] for row in report.tokens)
        assert report.books["net_lamports"] == sum(row["net_profit"] for row in report.pairs)
        assert report.positions["EXECUTED"] == sum(row["executions"] for row in report.tokens)
        assert sum(report.statuses.values()) == report.positions["EXECUTED"]
        reports += 1
    writer.join()
    assert reports > 3
    reader.close()


def fitting(amount: int | None) -> int:
    return amount if amount is not None and abs(amount) <= AMOUNT_MAX else 0


def test_sums_have_no_limit(ledger: Ledger, url: str) -> None:
    """Results at the end of what a column holds, more than one of them."""
    most = AMOUNT_MAX - 10
    results = [a_result(number, amount_in=0, gross=most, cost=0, expected_profit=0) for number in range(5)]
    results += [a_result(number, amount_in=most, gross=-most, cost=0, expected_profit=0) for number in range(5, 12)]
    results += [a_result(12, gross=-(10**12), amount_in=10**12, token=USDC_MINT, price=1)]
    assert not any(unbookable(result) for result in results)
    booked = book(ledger, results)
    assert booked.totals[SOL_MINT]["net_profit"] == -2 * most
    assert booked.books["peak_lamports"] == 5 * most
    assert booked.books["max_drawdown_lamports"] == 7 * most
    assert booked.books["unvalued"] == 1  # its value in lamports is more than a column holds
    for message in snapshots(booked, cause="", created_ns=1, producer="auditor"):
        assert decode(message.encode()) == message
    reader = open_report(url)
    report = reader.report()
    assert [row["net_profit"] for row in report.pairs if row["token"] == SOL_MINT] == [-2 * most]
    assert report.tokens[1]["net_profit"] == -2 * most
    assert [row["equity_lamports"] for row in reader.trades()][4] == 5 * most
    reader.close()


amounts = st.integers(-(10**12), 10**12)
outcomes = st.tuples(
    amounts,
    st.sampled_from(list(ExecutionStatus)[1:]),
    st.sampled_from([SOL_MINT, USDC_MINT, JITO]),
    st.sampled_from([0, 1, 150_000_000]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(outcomes, max_size=30), data=st.data())
def test_sums_are_exact_for_any_order_and_any_repeats(rows: list, data: st.DataObject) -> None:
    results = [
        a_result(number, amount_in=2 * 10**12, gross=gross, status=status, token=token, price=price)
        for number, (gross, status, token, price) in enumerate(rows)
    ]
    order = data.draw(
        st.permutations(results + data.draw(st.lists(st.sampled_from(results), max_size=9)) if results else [])
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=3)))
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{folder}/books.sqlite3", starting_capital_lamports=CAPITAL)
        for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
            book(ledger, order[start:end], after=start)
        found = ledger.totals()
        ledger.close()
    for token in {result.token for result in results}:
        mine = [result for result in results if result.token == token]
        total = found.totals[token]
        assert total["executions"] == len(mine)
        assert total["net_profit"] == sum(result.net_profit for result in mine)
        assert total["gross_profit"] == sum(result.gross_profit for result in mine)
        assert total["cost"] == sum(result.cost for result in mine)
        assert total["fees_lamports"] == sum(result.base_fee + result.priority_fee for result in mine)
        assert total["tips_lamports"] == sum(result.tip for result in mine)
        assert total["net_profit"] == total["gross_profit"] - total["cost"]
    valued = [value_of(result.token, result.net_profit, result.sol_price_usd_e6) for result in results]
    assert found.books["net_lamports"] == sum(fitting(value.lamports) for value in valued)
    assert found.books["net_usd_e6"] == sum(fitting(value.usd_e6) for value in valued)
    assert found.books["peak_lamports"] >= max(0, found.books["net_lamports"])
    assert found.books["max_drawdown_lamports"] >= found.books["peak_lamports"] - found.books["net_lamports"]


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"id": "x" * 65},
        {"plan_id": "nul\0"},
        {"token": "böse"},
        {"amount_in": AMOUNT_MAX + 1},
        {"sol_price_usd_e6": 2**64 - 1},
        {"tip": 2**63},
    ],
)
def test_what_no_column_can_hold_is_refused(changes: dict) -> None:
    assert unbookable(a_result(1)) is None
    assert unbookable(a_plan(1)) is None
    assert unbookable(a_result(1).replace(**changes))


def test_unbookable_fills_and_legs() -> None:
    result, plan = a_result(1), a_plan(1)
    fills = [result.fills[0].replace(pool=""), result.fills[1]]
    assert unbookable(result.replace(fills=fills))
    assert unbookable(result.replace(fills=[result.fills[0].replace(amount_out=2**64 - 1)]))
    assert unbookable(plan.replace(legs=[plan.legs[0].replace(token_out="\n")]))


def test_detail_may_hold_anything(ledger: Ledger, url: str) -> None:
    book(ledger, [a_result(1).replace(detail="a\0b'; drop table executions; --\n\u2028")])
    reader = open_report(url)
    assert next(iter(reader.trades()))["detail"] == "ab'; drop table executions; --\n\u2028"
    reader.close()


@pytest.mark.parametrize("bad", ["", "nonsense", "mysql://x/y", "oracle://a"])
def test_bad_addresses_are_refused(bad: str) -> None:
    with pytest.raises(LedgerError, match="database_url"):
        Ledger(bad, starting_capital_lamports=1)


def test_no_server_no_books() -> None:
    with pytest.raises(LedgerError, match="cannot open the books"):
        Ledger("postgresql://nobody@127.0.0.1:1/none?connect_timeout=2", starting_capital_lamports=1)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite3"
    path.write_bytes(b"this is not a database, and long enough to be taken for one" * 100)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger(f"sqlite:///{path}", starting_capital_lamports=1)
    with pytest.raises(LedgerError, match="not a database"):
        open_report(f"sqlite:///{path}")
    with pytest.raises(LedgerError, match="no books"):
        open_report(f"sqlite:///{tmp_path}/missing.sqlite3")


def test_books_of_another_layout_are_refused(url: str) -> None:
    Ledger(url, starting_capital_lamports=1).close()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE books SET layout = 99"))
    engine.dispose()
    with pytest.raises(LedgerError, match="layout 99"):
        Ledger(url, starting_capital_lamports=1)
    with pytest.raises(LedgerError, match="layout 99"):
        open_report(url)


def test_sqlite_is_durable(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/deep/er/books.sqlite3", starting_capital_lamports=1)
    with ledger._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
    ledger.close()
