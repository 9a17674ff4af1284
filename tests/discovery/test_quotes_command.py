"""`pipeline quotes` over tables as the quote core writes them: who is best, in which words, and how it fails."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from markets.confidence import Factors
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline._core import Pool
from pipeline.cli.quote_rows import Boards, Tokens
from pipeline.cli.quotes import view
from pipeline.cli.token_names import known_tokens
from pipeline.messages import PoolState, Protocol, Staleness
from pipeline.shm import QUOTES_INTERNAL
from tests.discovery.conftest import AMOUNTS, Run
from tests.executor.pools import pool_state
from tests.quote_tables import write_pool
from workers.quote_core.book import Offer
from workers.quote_core.rating import Rating
from workers.quote_core.tables import Tables

NEAR, FAR = "SimNear" + "1" * 36, "SimFar" + "2" * 37
PRICE = 150_000_000


def as_pool(state: PoolState) -> Pool:
    accounts = [(one.address, one.owner, one.data) for one in state.accounts]
    return Pool.parse(int(state.protocol), state.pool, accounts, state.slot, 1, 10**9)


def pool(address: str, sol: int = 10**13) -> Pool:
    """A deep pool at 150 USDC a SOL, or at less where it holds more SOL."""
    return as_pool(pool_state(address, (sol, 10**13 * PRICE // 10**9), mints=(SOL_MINT, USDC_MINT)))


def offer(amount_out: int, trust: float, provider: str = "someone", worth: int = 0) -> Offer:
    """An external quote whose factors all are the same."""
    rating = Rating(Factors(*[trust] * 5), trust, Staleness.FRESH, worth)
    return Offer(provider, "", Protocol.UNKNOWN, SOL_MINT, USDC_MINT, 10**9, amount_out, 0, 1.0, 10, 5 * 10**9, rating)


def fill(tables: Tables) -> None:
    write_pool(tables, pool(NEAR), 4 * 10**9, AMOUNTS)
    write_pool(tables, pool(FAR, 10**13 * 101 // 100), 4 * 10**9, AMOUNTS)
    tables.commit(10, 5 * 10**9)


def quotes(run: Run, *options: str) -> list[dict[str, object]]:
    done = run("quotes", "--json", *options)
    assert done.code == 0, done.err
    return json.loads(done.out)["quotes"]


def test_the_best_pool_of_each_direction_with_its_rate_and_age(run: Run, tables: Tables):
    fill(tables)
    forward, reverse = quotes(run)
    assert (forward["symbol_in"], forward["symbol_out"], forward["amount_in"]) == ("SOL", "USDC", 10**9)
    assert forward["internal"]["source"] == NEAR
    assert forward["internal"]["others"] == 1
    assert reverse["internal"]["source"] == FAR
    assert reverse["amount_in"] == 10**9
    best = forward["internal"]
    assert float(best["rate"]) == pytest.approx(best["amount_out"] / 10**6, rel=1e-8)
    assert 149 < float(best["rate"]) < 150
    assert best["age_s"] == pytest.approx(1, abs=0.9)
    assert (best["staleness"], best["protocol"], best["oracle_bps"]) == ("fresh", "raydium_cpmm", None)
    assert forward["external"] is None
    assert forward["best"] == "internal"


def test_every_amount_on_request_and_one_pair_in_either_order(run: Run, tables: Tables):
    fill(tables)
    assert [row["amount_in"] for row in quotes(run, "--all")] == [*AMOUNTS, *AMOUNTS]
    assert [row["pair"] for row in quotes(run, "--pair", "usdc/sol")] == ["SOL/USDC"] * 2
    refused = run("quotes", "--pair", "SOL/DOGE")
    assert refused.code == 2
    assert "SOL/USDC" in refused.err


def test_best_is_by_output_weighted_with_confidence(run: Run, tables: Tables):
    fill(tables)
    inside = quotes(run)[0]["internal"]
    more = inside["amount_out"] * 101 // 100
    assert 0.5 < inside["confidence"] < 0.9  # no oracle tells
    tables.write_external(offer(more, 0.5))
    tables.commit_external(10, 5 * 10**9)
    row = quotes(run)[0]
    assert (row["external"]["amount_out"], row["external"]["band"]) == (more, "cautious")
    assert row["best"] == "internal"
    # Twice as much that nobody believes does not beat a sound offer.
    tables.write_external(offer(more, 0.95, worth=more * 100 // 99))
    tables.write_external(offer(more * 2, 0.1, provider="liar"))
    tables.commit_external(10, 5 * 10**9)
    row = quotes(run)[0]
    assert (row["best"], row["external"]["source"], row["external"]["others"]) == ("external", "someone", 1)
    assert row["external"]["oracle_bps"] == pytest.approx(-100, abs=0.1)
    assert row["external"]["band"] == "execute"
    assert row["external"]["factors"]["oracle"] == pytest.approx(0.95, abs=1e-3)


def test_the_table_has_a_star_at_the_better_one_and_says_who_writes(run: Run, tables: Tables):
    fill(tables)
    done = run("quotes", "-p", "SOL/USDC")
    assert done.code == 0
    assert f"quote core runs (process {os.getpid()}): slot 10" in done.out
    assert "* internal" in done.out
    assert f"raydium_cpmm {NEAR} (+1)" in done.out


def test_a_void_quote_is_not_shown(run: Run, tables: Tables):
    fill(tables)
    tables.forget(NEAR, 11, 6 * 10**9)
    tables.forget(FAR, 11, 6 * 10**9)
    tables.commit(11, 6 * 10**9)
    done = run("quotes")
    assert done.code == 0
    assert "no quotes yet" in done.out
    assert "12 quotes void" in done.out


def test_a_dead_writer_is_said_and_what_it_wrote_is_shown(run: Run, tables: Tables):
    fill(tables)
    tables.close()
    done = run("quotes")
    assert done.code == 1
    assert "no longer runs" in done.out
    assert "internal" in done.out
    document = json.loads(run("quotes", "--json").out)
    assert document["writer"]["alive"] is False
    assert document["quotes"]


def test_missing_and_foreign_files_are_said(run: Run, home: Path):
    missing = run("quotes")
    assert missing.code == 3
    assert "pipeline up" in missing.err
    (home / "shm").mkdir()
    (home / "shm" / QUOTES_INTERNAL).write_bytes(b"something else" * 1000)
    foreign = run("quotes", "--json")
    assert foreign.code == 5
    assert json.loads(foreign.err)["error"]["exit"] == "BAD_DATA"


def test_watching_follows_the_writer(home: Path, tables: Tables):
    fill(tables)
    command = [sys.executable, "-m", "pipeline", "quotes", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        write_pool(tables, pool(NEAR, 10**13 * 99 // 100), 6 * 10**9, AMOUNTS)
        tables.commit(11, 6 * 10**9)
        deadline = time.monotonic() + 10
        while (line := json.loads(watching.stdout.readline()))["writer"]["slot"] != 11:
            assert time.monotonic() < deadline
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
    assert first["writer"]["slot"] == 10
    assert line["quotes"][0]["internal"]["amount_out"] > first["quotes"][0]["internal"]["amount_out"]


def test_amounts_are_readable_where_the_token_is_known():
    tokens = Tokens({SOL_MINT: "SOL"}, {SOL_MINT: 9, USDC_MINT: 6})
    assert tokens.amount(SOL_MINT, 1_500_000_000) == "1.5 SOL"
    assert tokens.amount(SOL_MINT, 1_000_000_000_000) == "1,000 SOL"
    assert tokens.amount(SOL_MINT, 0) == "0 SOL"
    assert tokens.amount("x" * 44, 12_345) == "12,345 base units of xxxx..xxxx"
    assert tokens.rate(SOL_MINT, USDC_MINT, 2 * 10**9, 300 * 10**6) == "150"
    assert tokens.rate(SOL_MINT, "x" * 44, 10**9, 1) == ""


@pytest.mark.parametrize(
    ("width", "shown", "left_out"),
    [
        (80, {"give", "get", "conf", "age"}, {"rate", "source", "state"}),
        (200, {"pair", "rate", "state", "source"}, set()),
    ],
)
def test_narrow_terminals_get_fewer_columns_and_no_broken_ones(
    home: Path, tables: Tables, width: int, shown: set[str], left_out: set[str]
):
    fill(tables)
    tokens = known_tokens()
    out = Console(width=width, file=io.StringIO(), color_system=None)
    out.print(view(Boards(home / "shm", tokens).look(None, "all"), tokens, width=width, rows=4))
    lines = out.file.getvalue().splitlines()
    heads = set(next(line for line in lines if line.lstrip().startswith(("give", "pair"))).split())
    assert heads >= shown
    assert not heads & left_out
    assert lines[-1].startswith("2 more")
    assert "\u2026" not in "".join(lines)
