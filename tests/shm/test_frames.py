"""A quote table as a DataFrame: names, words, and integers without loss."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from shm_processes import table_of

from pipeline.messages import ConfidenceBand, Protocol, Staleness
from pipeline.shm import QUOTE_VOID, QuoteTable, QuoteTableWriter

PAGE = Path(__file__).parents[2] / "docs/shared-memory.md"


def test_ids_are_names_and_integers_are_whole(folder: Path) -> None:
    pytest.importorskip("pandas")
    with QuoteTableWriter(folder / "quotes") as writer:
        pool, local = writer.intern("pool", "pool one"), writer.intern("provider", "local")
        sol, usdc = writer.intern("token", "SOL"), writer.intern("token", "USDC")
        pair = writer.intern("pair", "SOL/USDC")
        known = writer.entry(pool, sol, usdc, pair=pair, provider=local, protocol=Protocol.MARINADE, amount_index=7)
        writer.entry(0, usdc, sol)
        torn = writer.entry(pool, usdc, sol)
        most = 2**64 - 1
        writer.write(
            known, most, most - 2, most - 4, -5, 1.5, 0.75, Staleness.VERY_STALE, most - 6, most - 8, most - 10,
            most - 12, 3, (1, 0.8, 0, 0.5, 1 / 4095),
        )  # fmt: skip
        writer.commit(9, 90)
        writer._tear(torn)
        frame = QuoteTable(folder / "quotes").to_pandas()
    assert frame.attrs == {"slot": 9, "market_ns": 90, "whole": False, "busy": [torn]}
    assert list(frame.index) == [0, 1]
    row, void = frame.loc[known].to_dict(), frame.loc[1].to_dict()
    assert row == {
        "pair": "SOL/USDC", "pool": "pool one", "provider": "local", "protocol": "marinade", "token_in": "SOL",
        "token_out": "USDC", "amount_index": 7, "amount_in": most, "amount_out": most - 2, "fee_amount": most - 8,
        "oracle_amount_out": most - 10, "price_impact_bps": 1.5, "confidence": 0.75, "band": "verify",
        "factor_age": 1.0, "factor_hops": 3276 / 4095, "factor_oracle": 0.0, "factor_provider": 2048 / 4095,
        "factor_slippage": 1 / 4095, "staleness": "very stale", "slot": most - 4, "write_version": most - 6,
        "quoted_ns": -5, "route": most - 12, "hops": 3, "batch": 1,
    }  # fmt: skip
    assert str(frame["amount_in"].dtype) == str(frame["oracle_amount_out"].dtype) == "uint64"
    assert (void["staleness"], void["band"], void["token_in"]) == ("void", "skip", "USDC")
    assert void["pool"] != void["pool"], "no pool"


def test_the_bands_are_those_of_the_entries(folder: Path) -> None:
    pytest.importorskip("pandas")
    writer = table_of(folder / "quotes", 8)
    for index, confidence in enumerate((0.0, 0.49, 0.5, 0.69, 0.7, 0.89, 0.9, 1.0)):
        writer.write(index, 1, 1, 1, 1, confidence=confidence)
    writer.write(0, 1, 1, 1, 1, staleness=QUOTE_VOID)
    table = QuoteTable(folder / "quotes")
    entries = [table.read(index) for index in range(8)]
    assert list(table.to_pandas()["band"]) == [ConfidenceBand(entry.band).name.lower() for entry in entries if entry]


def test_an_empty_table_has_the_same_columns(folder: Path) -> None:
    pytest.importorskip("pandas")
    writer = QuoteTableWriter(folder / "quotes")
    table = QuoteTable(folder / "quotes")
    empty = table.to_pandas()
    assert len(empty) == 0
    one, other = writer.intern("token", "one"), writer.intern("token", "other")
    writer.entry(0, one, other)
    assert list(table.to_pandas().columns) == list(empty.columns)


def test_without_pandas_it_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table_of(folder / "quotes")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="extra 'notebook'"):
        QuoteTable(folder / "quotes").to_pandas()


def test_the_example_on_the_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    writer = table_of(folder / "quotes-internal", 3)
    pair = writer.intern("pair", "SOL/USDC")
    index = writer.entry(1, 1, 2, pair=pair, provider=writer.intern("provider", "local"), amount_index=1)
    writer.write(index, 2_000, 4_000, 1, 1, confidence=0.95)
    writer.commit(2, 2)
    [code] = [
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
        if "pandas" in block
    ]
    place = "/dev/shm/pipeline-default"
    assert place in code
    scope: dict[str, object] = {}
    exec(code.replace(place, str(folder)), scope)  # the page's own text
    assert [float(value) for value in scope["best"].values] == [2.0]
