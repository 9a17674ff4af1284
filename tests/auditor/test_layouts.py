"""Books of another layout: refused, replaced when told to, never read."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from pipeline.ledger import Ledger, LedgerError, older_than, open_report
from pipeline.ledger.models import LAYOUT


def first_layout(url: str, layout: int) -> None:
    """As much of the first layout's tables as tells them."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE books (id INTEGER PRIMARY KEY, layout INTEGER)"))
        connection.execute(
            text("CREATE TABLE executions (id VARCHAR(64) PRIMARY KEY, sequence BIGINT, status VARCHAR(24))")
        )
        connection.execute(text("CREATE TABLE plans (id VARCHAR(64) PRIMARY KEY)"))
        connection.execute(text(f"INSERT INTO books VALUES (1, {layout})"))
        connection.execute(text("INSERT INTO executions VALUES ('a', 4, 'FILLED'), ('b', 9, 'EXPIRED')"))
    engine.dispose()


def test_the_first_layout_is_refused_and_replaced_by_a_rebuild(url: str) -> None:
    first_layout(url, 1)
    with pytest.raises(LedgerError, match=f"layout 1, this version writes {LAYOUT}") as refused:
        Ledger(url, starting_capital_lamports=1)
    assert "pipeline pnl --rebuild" in refused.value.fix
    with pytest.raises(LedgerError, match="layout 1") as unread:
        open_report(url)
    assert "pipeline pnl --rebuild" in unread.value.fix
    assert (older_than(url, 5), older_than(url, 10)) == (1, 2)
    ledger = Ledger(url, starting_capital_lamports=1, replace_older=True)
    assert ledger.totals().totals == {}
    ledger.close()
    again = Ledger(url, starting_capital_lamports=1)
    again.close()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_later_layout_is_never_replaced(url: str) -> None:
    first_layout(url, LAYOUT + 1)
    with pytest.raises(LedgerError, match=f"layout {LAYOUT + 1}, this version writes"):
        Ledger(url, starting_capital_lamports=1, replace_older=True)


def test_no_books_have_nothing_older(tmp_path: Path) -> None:
    assert older_than(f"sqlite:///{tmp_path}/none.sqlite3", 10) == 0
