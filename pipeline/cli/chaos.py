"""`pipeline chaos`."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import settings
from pipeline.cli.output import JsonOption, print_json, print_line
from pipeline.errors import ExitCode, Failure, UsageFailure

if TYPE_CHECKING:
    from pipeline.chaos.drive import Driver
    from pipeline.chaos.schedule import Step


def chaos(
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same market and the same schedule.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.2, max=24 * 60, help="Length of trading.")] = 2,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", metavar="NAME", help="Only this fault, beside kills and halts. Repeatable."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would happen when, and run nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Run on the offline chain with faults and kills, and check that nothing is lost.

    Transactions are dropped or land late, bundles are lost, nodes limit, fail, stall, fall behind and cut websockets,
    blockhashes are old, forks take confirmed blocks back; executor and auditor are killed, trading is halted and
    resumed. At the end every plan must have one result and at most one transaction, and the books must equal the chain.
    """
    from pipeline.chaos.schedule import FAULTS, schedule

    if unknown := [name for name in fault or [] if name not in FAULTS]:
        raise UsageFailure(f"no fault {unknown[0]!r}", f"known: {', '.join(FAULTS)}")
    steps = schedule(seed, minutes * 60, tuple(fault or FAULTS))
    if plan:
        for step in steps:
            print_json(_step(step)) if json else print_line(_line(step))
        return
    raise typer.Exit(_run(seed, minutes, steps, as_json=json))


def _run(seed: int, minutes: float, steps: list[Step], *, as_json: bool) -> int:
    from pipeline.demo.run import Folders

    folders = Folders()
    try:
        slot_ms = settings.load().config.market.slot_ms
        overrides = {
            **folders.overrides(),
            "executor.mode": "localnet",
            "market.seed": seed,
            "market.lockstep": False,
            "market.slots": max(1, round(minutes * 60_000 / slot_ms)),
            "market.source": "offline",
            "localnet.fault_seed": seed,
            "external.enabled": False,
            "supervisor.workers": [name for name in settings.load().config.supervisor.workers if name != "providers"],
        }
        code = asyncio.run(_chaos(overrides, steps, as_json=as_json))
        if code != ExitCode.OK and (kept := folders.keep_logs()) and not as_json:
            print_line(f"the workers' logs are kept in {kept}")
        return code
    except Failure as failure:
        if kept := folders.keep_logs():
            failure.fix = f"the workers' logs are kept in {kept}"
        raise
    finally:
        folders.remove()


async def _chaos(overrides: dict[str, object], steps: list[Step], *, as_json: bool) -> int:
    from pipeline.chaos.drive import Driver, chaos_checks
    from pipeline.cli.demo import document, facts, our_wallets, rival_address
    from pipeline.cli.output import console
    from pipeline.demo.run import run_demo
    from pipeline.demo.tokens import names_and_amounts
    from pipeline.demo.view import summary_view

    config = settings.load(overrides).config
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tell = (lambda step: print_line(_line(step))) if not as_json else (lambda _step: None)
    driver = Driver(steps, tell)
    if not as_json:
        print_line("starting the server, the streams and the workers ...")
    run = await run_demo(
        config,
        stop=stop,
        wallets=our_wallets,
        rival=rival_address,
        during=driver.run,
        disturbed=driver.done.may_have_forked,
    )
    results = list(run.tally.results.values())
    run.checks += chaos_checks(driver.done, results, Counter(run.seen.restarts))
    if as_json:
        print_json(document(run) | _done(driver))
    else:
        name_of, amount_of = names_and_amounts()
        view = summary_view(
            run.tally, run.checks, run.quotes, name_of=name_of, amount_of=amount_of, facts=facts(run) | _said(driver)
        )
        console().print(view)
    return ExitCode.OK if run.held else ExitCode.CHECK_FAILED


def _done(driver: Driver) -> dict[str, object]:
    done = driver.done
    return {
        "kills": dict(done.kills),
        "faults_on_s": {name: round(on_s, 3) for name, on_s in done.faults.items()},
        "faults_happened": done.happened,
        "halts": len(done.halts),
    }


def _said(driver: Driver) -> dict[str, str]:
    done = driver.done
    return {
        "kills": ", ".join(f"{name} {count}" for name, count in sorted(done.kills.items())) or "none",
        "faults": ", ".join(f"{name} {done.happened.get(name, 0):,}" for name in sorted(done.faults)) or "none",
        "halts": str(len(done.halts)),
    }


def _step(step: Step) -> dict[str, object]:
    return {"at_s": round(step.at_s, 3), "kind": step.kind, "name": step.name, "values": dict(step.values)}


def _line(step: Step) -> str:
    values = " ".join(f"{name}={value:g}" for name, value in step.values.items())
    name = step.name or ("everything" if step.kind == "clear" else "")
    return f"{step.at_s:7.1f} s  {step.kind:<6} {name} {values}".rstrip()
