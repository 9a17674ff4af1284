"""`pipeline doctor`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from pipeline.checkup import Finding, examine
from pipeline.cli import settings
from pipeline.cli.output import JsonOption, print_json, print_line, print_table
from pipeline.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence


def doctor(json: JsonOption = False) -> None:
    """Check this installation and say how to mend it."""
    findings = asyncio.run(examine(settings.config(), embedded=settings.load().config.nats.embedded))
    bad = [finding for finding in findings if finding.level == "bad"]
    if json:
        print_json({"ok": not bad, "findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
        print_line(f"\n{len(bad)} of {len(findings)} checks failed" if bad else "\nnothing stands in the way")
    if bad:
        raise typer.Exit(ExitCode.CHECK_FAILED)


def _print(findings: Sequence[Finding]) -> None:
    print_table(
        "",
        ["check", "", "found"],
        [(finding.check, finding.level, finding.found) for finding in findings],
    )
    for finding in findings:
        if finding.fix:
            print_line(f"\n{finding.check}: {finding.fix}")
