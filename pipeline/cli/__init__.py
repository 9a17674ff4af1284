"""Command line: `pipeline COMMAND`.

Commands live in modules of their own, imported when they are called, so that `pipeline --help` answers at once.
A module registers by standing in `COMMANDS`; it offers a function with typer annotations, or a `typer.Typer` for a
group of commands. Expected failures (`pipeline.errors.Failure`) become one message and an exit code here; nothing else
needs to catch them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline.cli import settings


class _Entry(NamedTuple):
    """Where a command lives, and its line in `--help`."""

    target: str
    panel: str
    help: str


RUN, LOOK, SAFETY, SETUP = "Run", "Look", "Safety", "Set up and measure"

COMMANDS: dict[str, _Entry] = {
    "demo": _Entry("demo:demo", RUN, "Run everything offline with a live view, and check the invariants."),
    "chaos": _Entry(
        "chaos:chaos", RUN, "Run on the offline chain with faults and kills, and check that nothing is lost."
    ),
    "up": _Entry("up:up", RUN, "Run every worker, supervised, until stopped."),
    "localnet": _Entry(
        "localnet:localnet", RUN, "Run the offline Solana chain alone, with traders, RPC and a block engine."
    ),
    "worker": _Entry("run_worker:worker", RUN, "Run one worker in this process."),
    "status": _Entry("status:status", LOOK, "Show workers, streams, the permit and recent anomalies."),
    "providers": _Entry("providers:providers", LOOK, "Show the external quote providers."),
    "quotes": _Entry("quotes:quotes", LOOK, "Show the best quotes of the running quote core."),
    "pools": _Entry("pools:app", LOOK, "Find pools on chain, list and show them."),
    "tap": _Entry("streams:tap", LOOK, "Show messages of a stream or subject, decoded."),
    "decode": _Entry("decode:decode", LOOK, "Decode one message from standard input to JSON."),
    "dead-letters": _Entry("dead_letters:app", LOOK, "List, show and replay messages that were given up."),
    "pnl": _Entry("pnl:pnl", LOOK, "Show profit and loss."),
    "trades": _Entry("pnl:trades", LOOK, "List and export booked trades."),
    "halt": _Entry("permit:halt", SAFETY, "Stop all trading now."),
    "resume": _Entry("permit:resume", SAFETY, "Allow trading again."),
    "init-streams": _Entry("streams:init_streams", SETUP, "Create the streams, or bring them back to the table."),
    "wallet": _Entry("wallet:app", SETUP, "Make, list and prepare the wallets that sign."),
    "config": _Entry("config:app", SETUP, "Show the configuration and where each value comes from."),
    "doctor": _Entry("doctor:doctor", SETUP, "Check this installation and say how to mend it."),
    "bench": _Entry("bench:bench", SETUP, "Measure against a named baseline."),
    "version": _Entry("version:version", SETUP, "Show versions."),
}


class _Group(TyperGroup):
    """A command with commands of its own: lists them with their whole lines, where click cuts them short."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in the order in which they were made."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_line(command.help)) for name, command in self.commands.items()])


def _first_line(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())


class _LazyCommand(TyperCommand):
    """Stand-in that knows its help line and imports the command when it is called."""

    def __init__(self, name: str, entry: _Entry) -> None:
        super().__init__(name, help=entry.help, rich_help_panel=entry.panel)
        self._target = entry.target

    def load(self) -> Any:
        """Import the command itself."""
        module_name, attribute = self._target.split(":")
        found = getattr(import_module(f"pipeline.cli.{module_name}"), attribute)
        if isinstance(found, typer.Typer):
            found.rich_markup_mode = None
            found.info.cls = _Group
            return typer.main.get_group(found)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(self.name)(found)
        return typer.main.get_command(single)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Hand over to the real command, which parses its own arguments."""
        return self.load().make_context(info_name, args, parent=parent, **extra)


class _LazyGroup(TyperGroup):
    """The root: lists its commands without importing them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = COMMANDS.get(cmd_name)
        return _LazyCommand(cmd_name, entry) if entry else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in the order of their table, panel by panel."""
        for panel in dict.fromkeys(entry.panel for entry in COMMANDS.values()):
            with formatter.section(panel):
                formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items() if entry.panel == panel])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self.commands = {name: _LazyCommand(name, entry) for name, entry in COMMANDS.items()}  # for "did you mean"
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_LazyGroup,
    name="pipeline",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: rich's takes twice as long to import as all the rest
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import_module("pipeline.cli.version").version()
        raise typer.Exit


@app.callback()
def root(
    config: Annotated[
        Path | None,
        typer.Option("--config", help="User file, instead of ~/.config/pipeline/config.toml.", show_default=False),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override one key: --set nats.url=nats://host:4222. Repeatable."
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show versions and exit.")
    ] = False,
) -> None:
    """Low-latency arbitrage pipeline: typed workers over NATS JetStream, with a kill switch that fails closed."""
    settings.remember(config, set_ or [], debug=debug)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line."""
    arguments = settings.hoist(list(sys.argv[1:] if args is None else args))
    try:
        app(arguments, prog_name="pipeline")
    except Exception as error:
        from pipeline.cli.output import report_failure

        if settings.debug():
            raise
        sys.exit(report_failure(error, as_json="--json" in arguments))
