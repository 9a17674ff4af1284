"""The command line within the test's process: as a process of its own, each command takes half a second to start."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from unittest import mock

from pipeline.cli import main


class Ran(NamedTuple):
    """What a command said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def ran(arguments: tuple[str, ...], environment: Mapping[str, str]) -> Ran:
    """Run a command with an environment, in a thread: the command has an event loop of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_run, arguments, environment).result()


def _run(arguments: tuple[str, ...], environment: Mapping[str, str]) -> Ran:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main(list(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())
