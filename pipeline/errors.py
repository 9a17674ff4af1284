"""Failures that the program expects: each says what happened, what to do, and which exit code it means.

Exit codes: 0 ok, 1 check failed, drift or a broken invariant, 2 usage or bad configuration, 3 cannot reach the server,
4 refused (permit, ownership), 5 bad data, 70 internal error.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code means; stable."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    BAD_DATA = 5
    INTERNAL = 70
    INTERRUPTED = 130


class Failure(Exception):
    """An expected failure. `what` happened, `fix` is what to do about it."""

    exit_code = ExitCode.CHECK_FAILED

    def __init__(self, what: str, fix: str = "") -> None:
        """Keep the two sentences."""
        super().__init__(what)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        """Return both sentences, for logs."""
        return f"{self.what} ({self.fix})" if self.fix else self.what


class CheckFailed(Failure):
    """A check found drift, or an invariant is broken."""


class UsageFailure(Failure):
    """The command or its configuration makes no sense."""

    exit_code = ExitCode.USAGE


class Unreachable(Failure):
    """The NATS server, or another service, does not answer."""

    exit_code = ExitCode.UNREACHABLE


class Refused(Failure):
    """The permit, or who owns a thing, does not allow it."""

    exit_code = ExitCode.REFUSED


class BadData(Failure):
    """Input that cannot be read."""

    exit_code = ExitCode.BAD_DATA
