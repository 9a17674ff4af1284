"""`pipeline bench`."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.output import JsonOption, print_json, print_line, print_table
from pipeline.errors import ExitCode, UsageFailure

if TYPE_CHECKING:
    from bench.report import Report


def bench(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Benchmark; without it, list them.", show_default=False)
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Write the result to bench/RESULTS.md.")] = False,
    json: JsonOption = False,
) -> None:
    """Measure against a named baseline."""
    known = benches()
    if name is None:
        if record:
            raise UsageFailure("--record needs the name of a benchmark", "`pipeline bench` lists them")
        if json:
            print_json(known)
        else:
            print_table("", ["benchmark", "measures"], sorted(known.items()))
        return
    module = name.replace("_", "-")
    if module not in known:
        raise UsageFailure(f"there is no benchmark {name!r}", f"benchmarks: {', '.join(sorted(known))}")
    report: Report = import_module(f"bench.{module.replace('-', '_')}").run()
    from bench import report as reporting

    if json:
        print_json({**report, "machine": reporting.machine()})
    else:
        _print(report)
    if record:
        reporting.record(report)
    if reporting.missed(report):
        raise typer.Exit(ExitCode.CHECK_FAILED)


def benches() -> dict[str, str]:
    """Return the benchmarks and the first line of what they say about themselves, without running them."""
    spec = find_spec("bench")
    if spec is None or not spec.submodule_search_locations:
        return {}
    found = {}
    for path in sorted(Path(spec.submodule_search_locations[0]).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            found[path.stem.replace("_", "-")] = (ast.get_docstring(tree) or "").splitlines()[0]
    return found


def _print(report: Report) -> None:
    from bench.report import machine, missed, shown

    print_line(f"{report['what']}\n{machine()}")
    rows = [
        (
            item["name"],
            f"{shown(item['ours'])} {item['unit']}",
            item["baseline"],
            f"{shown(item['baseline_value'])} {item['unit']}" if item["baseline_value"] is not None else "",
            f"{shown(item['ratio'])}x" if item["ratio"] is not None else "",
            item["goal"],
            {True: "yes", False: "NO", None: ""}[item["met"]],
        )
        for item in report["rows"]
    ]
    columns = ["what", "ours", "baseline", "baseline's", "ratio", "goal", "met"]
    print_table("", columns, rows, right=("ours", "baseline's", "ratio"))
    for note in report.get("notes", []):
        print_line(note)
    if failed := missed(report):
        print_line(f"{len(failed)} of {len(report['rows'])} rows missed their goal")
