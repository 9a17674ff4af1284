"""`pipeline demo`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import settings
from pipeline.cli.output import JsonOption, console, print_json, print_line
from pipeline.errors import BadData, ExitCode, Failure, UsageFailure

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.demo.quotes import ProviderShare
    from pipeline.demo.run import Run
    from pipeline.supervisor import Supervisor

_REFRESH_S = 0.25


class DemoMode(StrEnum):
    """How the demonstration executes."""

    LOCALNET = "localnet"
    PAPER = "paper"


def demo(
    seconds: Annotated[float, typer.Option(min=1, help="Length of the market's day, in seconds of trading.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same opportunities, plans and P&L.")] = 1,
    recorded: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Run on a recorded snapshot of Whirlpool accounts (pubkey,base64; gzip)."),
    ] = None,
    mode: Annotated[
        DemoMode | None,
        typer.Option(
            help="localnet: real transactions on the offline chain (the default). paper: fills are computed; the only "
            "way on a recorded snapshot.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run everything offline with a live view, and check the invariants."""
    from pipeline.demo.run import Folders

    if recorded is not None and not recorded.is_file():
        raise BadData(f"{recorded}: no such file", "name a snapshot file: lines of pubkey,base64, gzip")
    if recorded is not None and mode is DemoMode.LOCALNET:
        raise UsageFailure("a recorded snapshot has no chain to execute on", "leave --mode out, or say --mode paper")
    if recorded is not None:
        import_module("localnet.recorded").load_recorded(recorded)  # refused before anything is started
    chosen = mode or (DemoMode.PAPER if recorded else DemoMode.LOCALNET)
    folders = Folders()
    try:
        slot_ms = settings.load().config.market.slot_ms
        overrides = {
            **folders.overrides(),
            "executor.mode": chosen.value,
            "market.seed": seed,
            "market.slots": max(1, round(seconds * 1000 / slot_ms)),
            "market.source": "recorded" if recorded else "offline",
            "market.recorded_path": str(recorded.resolve()) if recorded else "",
        }
        code = asyncio.run(_demo(overrides, as_json=json))
        if code != ExitCode.OK and not json and (kept := folders.keep_logs()):
            print_line(f"the workers' logs are kept in {kept}")
    except Failure as failure:
        if kept := folders.keep_logs():
            failure.fix = f"the workers' logs are kept in {kept}"
        raise
    finally:
        folders.remove()
    raise typer.Exit(code)


async def _demo(overrides: dict[str, object], *, as_json: bool) -> int:
    from pipeline.demo.run import run_demo

    config = settings.load(overrides).config
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    shown: list[tuple[Run, Supervisor]] = []
    running = asyncio.create_task(
        run_demo(
            config,
            stop=stop,
            on_start=lambda *pair: shown.append(pair),
            providers=_provider_shares,
            wallets=our_wallets,
            rival=rival_address,
        )
    )
    if as_json:
        run = await running
        print_json(document(run))
    else:
        run = await show(running, shown, _headline)
    return ExitCode.OK if run.held else ExitCode.CHECK_FAILED


async def show(running: asyncio.Task[Run], shown: list[tuple[Run, Supervisor]], headline: Callable[[Run], str]) -> Run:
    """Draw a run while it lasts, where there is a terminal, and its summary when it has ended."""
    from rich.live import Live

    from pipeline.demo.tokens import names_and_amounts
    from pipeline.demo.view import live_view, summary_view

    name_of, amount_of = names_and_amounts()
    out = console()
    if sys.stdout.isatty():
        with Live(console=out, screen=True, auto_refresh=False) as live:
            while not running.done():
                for run, supervisor in shown:
                    view = live_view(
                        run.seen,
                        run.tally,
                        expected=list(supervisor.workers),
                        headline=headline(run),
                        now_s=time.monotonic(),
                        name_of=name_of,
                        amount_of=amount_of,
                    )
                    live.update(view, refresh=True)
                await asyncio.wait([running], timeout=_REFRESH_S)
    else:
        out.print("starting the server, the streams and the workers ...")
    run = await running
    out.print(summary_view(run.tally, run.checks, run.quotes, name_of=name_of, amount_of=amount_of, facts=facts(run)))
    return run


def _provider_shares(config: Config) -> list[ProviderShare]:
    """Ask the running quote core about its external providers; none where it does not answer any more."""
    from pipeline.cli.providers import provider_page, read_page
    from pipeline.demo.quotes import ProviderShare

    try:
        rows, _totals = read_page(provider_page(config))
    except Failure:
        return []
    return [ProviderShare(row.provider, row.requests, row.good, sum(row.bad.values()), row.state) for row in rows]


def our_wallets(config: Config) -> list[str]:
    """Return the addresses of the wallets that trade; no secret is needed for that."""
    wallets = import_module("markets.solana.wallets")
    chosen = wallets.wallet_settings(config.wallets, seed=config.market.seed, data_directory=config.data_directory)
    return list(wallets.public_addresses(chosen))


def rival_address(config: Config) -> str:
    """Return the address of the offline chain's rival, "" where there is none."""
    if not config.localnet.rival_chance:
        return ""
    return str(import_module("localnet.chain_genesis").trader_keypair(config.market.seed, "rival").pubkey())


def _headline(run: Run) -> str:
    market = run.config.market
    phase = "closing" if run.seen.closing else "trading" if run.seen.slot else "starting"
    source = "recorded pools" if market.source == "recorded" else f"simulated market, seed {market.seed}"
    return f"pipeline demo: {source}, {run.config.executor.mode} mode; {phase}, slot {run.seen.slot}"


_MODES = {
    "paper": "paper: fills are computed, nothing is sent",
    "localnet": "localnet: real transactions, executed by the offline chain; pool programs are stand-ins",
}


def _rivalry(run: Run) -> str:
    """Return whether there was a rival, and what the chain's history says of it and of our dropped plans."""
    if run.rivalry is None:
        return "off"
    dropped = run.tally.results_by_status()["DROPPED"]
    ours = (
        f"it was first at {run.rivalry.first} of our {dropped} dropped plans" if dropped else "no plan of ours dropped"
    )
    return f"on: {run.rivalry.landed:,} cycles of its own landed; {ours}"


def facts(run: Run) -> dict[str, str]:
    """Return what a summary says of the run itself."""
    market = run.config.market
    restarts = ", ".join(f"{name} {count}" for name, count in sorted(run.seen.restarts.items()))
    rival = {"rival": _rivalry(run)} if run.on_chain else {}
    return {
        "market": f"recorded pools ({market.recorded_path})" if market.source == "recorded" else "simulated",
        "mode": _MODES.get(run.config.executor.mode, run.config.executor.mode),
        **rival,
        "seed": str(market.seed),
        "slots": f"{market.slots} asked for" + (", interrupted" if run.interrupted else "") + f"; last {run.seen.slot}",
        "took": f"{run.elapsed_s:.1f} s",
        "restarts": restarts or "none",
        "fingerprint": f"{run.tally.fingerprint()} (the same for the same seed and slots)",
    }


def document(run: Run) -> dict[str, object]:
    """Return a run as JSON holds it."""
    tally = run.tally
    return {
        "held": run.held,
        "checks": [{"name": check.name, "held": check.held, "detail": check.detail} for check in run.checks],
        "fingerprint": tally.fingerprint(),
        "seed": run.config.market.seed,
        "source": run.config.market.source,
        "mode": run.config.executor.mode,
        "slots": run.config.market.slots,
        "interrupted": run.interrupted,
        "elapsed_s": round(run.elapsed_s, 3),
        "opportunities": len(tally.opportunities),
        "plans": len(tally.plans),
        "refusals": len(tally.refusals),
        "refusals_by_reason": dict(tally.refusals_by_reason()),
        "executions": len(tally.results),
        "executions_by_status": dict(tally.results_by_status()),
        "net_profit": tally.net_profit(),
        "dead_letters": len(tally.dead_letters),
        "reconciliation": {
            token: {
                "opening": found.opening,
                "balance": found.balance,
                "traded": found.traded,
                "moved": found.moved,
                "upkeep": found.upkeep,
                "difference": found.difference,
            }
            for token, found in sorted(tally.reconciliations.items())
        },
        "rival": asdict(run.rivalry) if run.rivalry else None,
        "quotes": asdict(run.quotes),
        "restarts": run.seen.restarts,
    }
