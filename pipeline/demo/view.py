"""Draw a running demonstration for a terminal. Pure: figures in, renderables out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.demo.quotes import QuoteSummary
from pipeline.demo.tally import Check, Tally
from pipeline.messages import WorkerHealth, enum_name
from pipeline.supervisor import Event, State

NameOf = Callable[[str], str]
AmountOf = Callable[[str, int], str]

_STATE_STYLE = {"READY": "green", "DEGRADED": "yellow", "DRAINING": "yellow", "STOPPED": "dim", "FINISHED": "dim"}
_PERMIT_STYLE = {"ACTIVE": "green", "REDUCING": "yellow", "HALTED": "bold red"}
_STATUS_STYLE = {"FILLED": "green", "REVERTED": "red"}
_STALE_HEALTH_S = 3.0


@dataclass
class Seen:
    """What the view shows beside the tally: the workers' last health, by worker, and when it came."""

    health: dict[str, tuple[WorkerHealth, float]] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    supervised: dict[str, State] = field(default_factory=dict)
    slot: int = 0
    closing: bool = False

    def note(self, event: Event) -> None:
        """Take what the supervisor says of a process."""
        self.supervised[event.name] = event.state
        if event.state is State.RESTARTING:
            self.restarts[event.name] = self.restarts.get(event.name, 0) + 1


def workers_table(seen: Seen, expected: list[str], now_s: float) -> Table:
    """Draw one row per worker: state, messages, rate and latency."""
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("worker", no_wrap=True)
    table.add_column("state")
    for title in ("handled", "published", "per s", "p50 us", "p99 us", "MB", "restarts"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("permit", no_wrap=True)
    for name in expected:
        known = seen.health.get(name)
        if known is None:
            state = seen.supervised.get(name, State.WAITING).value
            table.add_row(name, Text(state, style="dim"), *[""] * 6, str(seen.restarts.get(name, 0)), "")
            continue
        health, at_s = known
        state = enum_name(health.state) if now_s - at_s < _STALE_HEALTH_S else "DOWN"
        if seen.supervised.get(name) in (State.RESTARTING, State.STOPPED, State.FAILED, State.FINISHED):
            state = seen.supervised[name].name
        permit = enum_name(health.permit_state)
        table.add_row(
            name,
            Text(
                state.lower() + (f" ({health.detail})" if health.detail else ""),
                style=_STATE_STYLE.get(state, "bold red"),
            ),
            f"{health.handled:,}",
            f"{health.published:,}",
            f"{health.rate:,.0f}",
            f"{health.latency_p50_us:,.0f}",
            f"{health.latency_p99_us:,.0f}",
            f"{health.memory_bytes / 1e6:,.0f}",
            str(seen.restarts.get(name, 0)),
            Text(permit.lower(), style=_PERMIT_STYLE.get(permit, "")),
        )
    return table


def flow_table(tally: Tally) -> Table:
    """Draw the counts along the way of an opportunity."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="flow", title_justify="left")
    table.add_column("step")
    table.add_column("count", justify="right")
    table.add_row("opportunities", f"{len(tally.opportunities):,}")
    table.add_row("plans", f"{len(tally.plans):,}")
    table.add_row("refusals", f"{len(tally.refusals):,}")
    for reason, count in tally.refusals_by_reason().most_common():
        table.add_row(Text(f"  {reason.lower().replace('_', ' ')}", style="dim"), f"{count:,}")
    table.add_row("executions", f"{len(tally.results):,}")
    for status, count in tally.results_by_status().most_common():
        table.add_row(
            Text(f"  {status.lower().replace('_', ' ')}", style=_STATUS_STYLE.get(status, "dim")), f"{count:,}"
        )
    if tally.dead_letters:
        table.add_row(Text("dead letters", style="bold red"), f"{len(tally.dead_letters):,}")
    return table


def pnl_table(tally: Tally, name_of: NameOf, amount_of: AmountOf) -> Table:
    """Draw the auditor's P&L per token."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="P&L, as the auditor booked it", title_justify="left")
    table.add_column("token", no_wrap=True)
    for title in ("booked", "filled", "gross", "cost", "net", "expected"):
        table.add_column(title, justify="right", no_wrap=True)

    def figure(token: str, amount: int) -> str:
        return amount_of(token, amount).split(" ")[0]  # the row names the token

    for token, pnl in sorted(tally.pnl.items(), key=lambda item: name_of(item[0])):
        table.add_row(
            name_of(token),
            f"{pnl.executions:,}",
            f"{pnl.filled:,}",
            figure(token, pnl.gross_profit),
            figure(token, pnl.cost),
            Text(figure(token, pnl.net_profit), style="green" if pnl.net_profit >= 0 else "red"),
            figure(token, pnl.expected_profit),
        )
    if tally.pnl:
        newest = max(tally.pnl.values(), key=lambda pnl: pnl.stream_sequence)
        sol, usd = newest.net_profit_lamports / 1e9, newest.net_profit_usd_e6 / 1e6
        table.caption = (
            f"all tokens: {sol:+.9f} SOL, {usd:+,.2f} USD; drawdown {newest.max_drawdown_lamports / 1e9:.9f} SOL"
        )
        table.caption_justify = "left"
    return table


def books_table(tally: Tally, name_of: NameOf, amount_of: AmountOf) -> Table:
    """Draw the books beside the chain: what the wallets gained, and what of it is booked."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="the books and the chain", title_justify="left")
    table.add_column("token", no_wrap=True)
    for title in ("wallets hold", "change on chain", "booked P&L", "upkeep, owner", "difference"):
        table.add_column(title, justify="right", no_wrap=True)

    def figure(token: str, amount: int) -> str:
        return amount_of(token, amount).split(" ")[0]  # the row names the token

    for token, found in sorted(tally.reconciliations.items(), key=lambda item: name_of(item[0])):
        if found.balance == found.opening and not (found.traded or found.upkeep or found.moved or found.difference):
            continue
        difference = figure(token, found.difference) if found.difference else "0"
        table.add_row(
            name_of(token),
            figure(token, found.balance),
            figure(token, found.balance - found.opening),
            figure(token, found.traded),
            figure(token, found.upkeep + found.moved),
            Text(difference, style="bold red" if found.difference else "green"),
        )
    transactions = max(found.transactions for found in tally.reconciliations.values())
    slot = max(found.slot for found in tally.reconciliations.values())
    table.caption = f"{transactions:,} final transactions of our wallets, read up to slot {slot:,}"
    table.caption_justify = "left"
    return table


def last_results(tally: Tally, name_of: NameOf, amount_of: AmountOf, count: int = 6) -> Table:
    """Draw the newest executions."""
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, title="newest executions", title_justify="left")
    for title in ("slot", "cycle", "status"):
        table.add_column(title)
    for title in ("in", "net", "expected"):
        table.add_column(title, justify="right")
    for result in list(tally.results.values())[-count:][::-1]:
        plan = tally.plans.get(result.plan_id)
        tokens = [name_of(leg.token_in) for leg in plan.legs] if plan else [name_of(result.token)]
        status = enum_name(result.status)
        table.add_row(
            str(result.slot),
            " > ".join([*tokens, tokens[0]]),
            Text(status.lower().replace("_", " "), style=_STATUS_STYLE.get(status, "dim")),
            amount_of(result.token, result.amount_in),
            amount_of(result.token, result.net_profit),
            amount_of(result.token, result.expected_profit),
        )
    return table


def best_opportunities(tally: Tally, name_of: NameOf, amount_of: AmountOf, count: int = 5) -> Table:
    """Draw the opportunities with the highest net profit over the amount put in, and what became of each."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="best opportunities", title_justify="left")
    for title in ("slot", "cycle", "pools"):
        table.add_column(title)
    for title in ("in", "net", "bps"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("outcome")

    def figure(token: str, amount: int) -> str:
        return amount_of(token, amount).split(" ")[0]  # the cycle names the token

    refused = {refusal.correlation_id: refusal for refusal in tally.refusals.values()}
    ended = {result.correlation_id: enum_name(result.status) for result in tally.results.values()}
    for found in sorted(tally.opportunities.values(), key=lambda found: -found.profit_bps)[:count]:
        reasons = [enum_name(reason.reason) for reason in refused[found.id].reasons] if found.id in refused else []
        outcome = ", ".join(reasons) or ended.get(found.id, "UNSETTLED")
        table.add_row(
            str(found.slot),
            " > ".join([*(name_of(leg.token_in) for leg in found.legs), name_of(found.token)]),
            " > ".join(f"{leg.pool[:4]}..{leg.pool[-4:]}" for leg in found.legs),
            figure(found.token, found.amount_in),
            figure(found.token, found.net_profit),
            f"{found.profit_bps:,.1f}",
            outcome.lower().replace("_", " "),
        )
    return table


def live_view(
    seen: Seen,
    tally: Tally,
    *,
    expected: list[str],
    headline: str,
    now_s: float,
    name_of: NameOf,
    amount_of: AmountOf,
) -> RenderableType:
    """Draw the whole screen."""
    middle: RenderableType = Columns([flow_table(tally), pnl_table(tally, name_of, amount_of)], padding=(0, 4))
    return Group(
        Text(headline, style="bold"),
        workers_table(seen, expected, now_s),
        middle,
        last_results(tally, name_of, amount_of),
        Text("Ctrl-C stops cleanly and prints the summary", style="dim"),
    )


def quotes_table(quotes: QuoteSummary) -> Table:
    """Draw the quotes by confidence, and what each external provider was worth."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="quotes", title_justify="left")
    table.add_column("source")
    for title in ("asked", "good", "refused"):
        table.add_column(title, justify="right")
    table.add_column("")
    bands = ", ".join(f"{count:,} {band.lower()}" for band, count in quotes.bands.items())
    table.add_row("local", "", f"{sum(quotes.bands.values()):,}", f"{quotes.void:,}", f"{quotes.pools} pools: {bands}")
    for share in quotes.providers:
        style = "" if share.breaker == "closed" else "yellow"
        about = Text(f"breaker {share.breaker}", style=style)
        table.add_row(share.name, f"{share.asked:,}", f"{share.good:,}", f"{share.refused:,}", about)
    return table


def summary_view(
    tally: Tally,
    checks: list[Check],
    quotes: QuoteSummary,
    *,
    name_of: NameOf,
    amount_of: AmountOf,
    facts: Mapping[str, str],
) -> RenderableType:
    """Draw the closing summary: what happened, and whether every invariant held."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="invariants", title_justify="left")
    table.add_column("invariant")
    table.add_column("held")
    table.add_column("figures", overflow="fold")
    for check in checks:
        table.add_row(
            check.name, Text("yes", style="green") if check.held else Text("NO", style="bold red"), check.detail
        )
    about = Table.grid(padding=(0, 2))
    for key, value in facts.items():
        about.add_row(Text(key, style="dim"), value)
    middle: RenderableType = Columns([flow_table(tally), pnl_table(tally, name_of, amount_of)], padding=(0, 4))
    parts = [about, middle, best_opportunities(tally, name_of, amount_of), quotes_table(quotes)]
    if tally.reconciliations:
        parts.append(books_table(tally, name_of, amount_of))
    parts.append(table)
    return Panel(Group(*parts), title="summary", title_align="left", box=box.ROUNDED, expand=False)
