"""A program of the user's that signs: a bridge to a KMS or a hardware module.

It is started at the first signature and lives on. It reads requests and writes answers, a JSON document a line each:

    {"id": 7, "address": "<base58>", "message": "<base64 of the bytes to sign>"}
    {"id": 7, "signature": "<base64 of 64 bytes>"}        or   {"id": 7, "error": "why not"}

Answers may come in any order. Its standard error goes where ours goes. It ends when its input ends. No answer is
trusted: a signature is verified against address and message before anything is done with it. A program that ended, or
from which nothing came for several requests, is started again, with growing pauses; what waited for it has failed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from markets.solana.wallets.keys import SigningFailed, verify

__all__ = ["CommandSigner", "ProgramSettings", "SignerProgram"]

_log = logging.getLogger("pipeline.wallets")
_MOST_LINE = 16 << 10
_MOST_WORDS = 200


@dataclass(frozen=True, slots=True)
class ProgramSettings:
    """How long a signer program is waited for."""

    timeout_s: float = 1.0
    """one signature"""
    start_timeout_s: float = 10.0
    """the first signature after a start"""
    most_silent: int = 3
    """requests in a row without an answer before it is started again"""
    restart_s: float = 0.1
    """first pause before it is started again; doubles up to"""
    restart_max_s: float = 10.0
    most_waiting: int = 64
    """requests at once; more are refused"""


class SignerProgram:
    """One process of the signer program, and its successors."""

    def __init__(self, command: Sequence[str], settings: ProgramSettings | None = None) -> None:
        """Take the program and its arguments; nothing is started yet."""
        self._command = tuple(command)
        self._settings = settings or ProgramSettings()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._last_id = 0
        self._silent = 0
        self._answered = False
        self._failures = 0
        self._not_before = 0.0
        self._closed = False
        self.restarts = 0
        """How often it was started again."""

    def __repr__(self) -> str:
        """Name the program without its arguments."""
        return f"<signer program {self._command[0]}>"

    @property
    def pid(self) -> int | None:
        """Return the process id; None where none runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def sign(self, address: str, message: bytes) -> bytes:
        """Return the verified signature of an address over a message; raise SigningFailed."""
        process = await self._running()
        if len(self._waiting) >= self._settings.most_waiting:
            raise SigningFailed(f"{len(self._waiting)} signatures are waited for already")
        self._last_id += 1
        number = self._last_id
        request = {"id": number, "address": address, "message": base64.b64encode(message).decode()}
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        limit_s = self._settings.timeout_s if self._answered else self._settings.start_timeout_s
        try:
            assert process.stdin is not None
            async with asyncio.timeout(limit_s):
                process.stdin.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
                await process.stdin.drain()
                signature = await answer
        except TimeoutError:
            self._silent += 1
            if self._silent >= self._settings.most_silent:
                _log.error("the signer program is ended: %d requests in a row had no answer", self._silent)
                self._kill(process)
            raise SigningFailed(f"the signer program did not answer within {limit_s:g} s") from None
        except (ConnectionError, OSError):
            raise SigningFailed("the signer program ended") from None
        finally:
            self._waiting.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # looked at, for where the writing failed first
        if not verify(address, message, signature):
            raise SigningFailed(f"the signer program gave something else than a signature of {address}")
        return signature

    async def close(self) -> None:
        """End the program: its input ends, and it is killed where it does not follow."""
        self._closed = True
        process = self._process
        if process is not None and process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            if self._reading is not None:
                await asyncio.wait({self._reading}, timeout=1.0)
            self._kill(process)
        if self._reading is not None:
            await asyncio.wait({self._reading})

    async def _running(self) -> asyncio.subprocess.Process:
        """Return the running process; start one where there is none and none ended a moment ago."""
        async with self._starting:
            if self._closed:
                raise SigningFailed("the signer program was closed")
            process = self._process
            if process is not None and process.returncode is None:
                return process
            if self._reading is not None:
                await asyncio.wait({self._reading})  # it tells those who waited for the one that ended
            left_s = self._not_before - time.monotonic()
            if left_s > 0:
                raise SigningFailed(f"the signer program ended; it is started again in {left_s:.1f} s")
            if process is not None:
                self.restarts += 1
                _log.warning("the signer program is started again, restart %d", self.restarts)
            # Our own secrets are not its business.
            environment = {key: value for key, value in os.environ.items() if not key.startswith("PIPELINE_")}
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    env=environment,
                    limit=_MOST_LINE,
                    start_new_session=True,  # Ctrl-C on the terminal is for us; it ends when we do
                )
            except (OSError, ValueError) as error:
                words = getattr(error, "strerror", None) or "its name is no program's"
                raise SigningFailed(f"the signer program {self._command[0]} cannot be started: {words}") from None
            self._process, self._answered, self._silent = process, False, 0
            self._reading = asyncio.create_task(self._read(process), name="signer program")
            return process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Hand answers to those who wait, until the program ends."""
        assert process.stdout is not None
        why = "its output ended"
        try:
            while line := await process.stdout.readline():
                self._take(line)
        except (ValueError, RecursionError):  # a line over the limit, or one that is no answer
            why = "it wrote something else than answers"
        except (ConnectionError, OSError):
            why = "its output broke"
        self._kill(process)
        with suppress(ValueError, ConnectionError, OSError, TimeoutError):
            # A pipe that nobody reads from keeps the process from being waited for.
            async with asyncio.timeout(1.0):
                while await process.stdout.read(_MOST_LINE):
                    pass
                await process.wait()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(SigningFailed("the signer program ended"))
        self._failures = 1 if self._answered else self._failures + 1
        pause_s = min(self._settings.restart_s * 2.0 ** (self._failures - 1), self._settings.restart_max_s)
        self._not_before = time.monotonic() + pause_s
        if not self._closed:
            _log.error("the signer program ended (%s), exit code %s", why, process.returncode)

    def _take(self, line: bytes) -> None:
        """Read one answer; raise ValueError for what is none."""
        said: Any = json.loads(line)
        if not isinstance(said, dict) or not isinstance(said.get("id"), int):
            raise ValueError("no answer")
        self._silent, self._answered = 0, True
        answer = self._waiting.get(said["id"])
        if answer is None or answer.done():
            return  # too late, nobody waits for it any more
        signature, error = said.get("signature"), said.get("error")
        if isinstance(signature, str):
            try:
                answer.set_result(base64.b64decode(signature, validate=True))
            except ValueError:
                answer.set_exception(SigningFailed("the signer program gave a signature that is not base64"))
        else:
            words = error if isinstance(error, str) else "no signature and no reason"
            answer.set_exception(SigningFailed(f"the signer program refused: {_shown(words)}"))

    def _kill(self, process: asyncio.subprocess.Process) -> None:
        """Kill the program and what it started; `_read` sees it end."""
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


class CommandSigner:
    """One wallet whose signatures a program makes."""

    __slots__ = ("address", "program")

    def __init__(self, program: SignerProgram, address: str) -> None:
        """Sign for an address."""
        self.program = program
        self.address = address

    async def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over a message, verified; raise SigningFailed."""
        return await self.program.sign(self.address, message)

    def __repr__(self) -> str:
        """Return the address alone."""
        return f"<signer {self.address}>"


def _shown(text: str) -> str:
    line = "".join(char if char.isprintable() else "?" for char in text)
    return line if len(line) <= _MOST_WORDS else line[: _MOST_WORDS - 3] + "..."
