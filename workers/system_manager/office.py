"""One system manager at a time: an office held in the key-value bucket, taken and kept by compare-and-set.

The office keeps two managers from talking at once. Safety does not hang on it: a manager that lost it without noticing
still speaks of an epoch, and an epoch that is out of date is ignored.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nats.js.errors import APIError, KeyWrongLastSequenceError, NotFoundError

from pipeline.clock import NS_PER_S
from pipeline.permit.link import LATCH_BUCKET, MANAGER_KEY

if TYPE_CHECKING:
    from nats.js import JetStreamContext

__all__ = ["Holder", "Office", "this_process"]

_STREAM = f"KV_{LATCH_BUCKET}"
_SUBJECT = f"$KV.{LATCH_BUCKET}.{MANAGER_KEY}"
KEEP_NS = 1 * NS_PER_S
TRUST_NS = 2 * NS_PER_S
TAKE_NS = 3 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds the office."""

    host: str
    boot: str
    pid: int
    process_started: int
    since_ns: int
    mode: str = ""
    """the trading mode it manages: whoever trades live looks for a manager that halts live trading at its start"""

    @property
    def described(self) -> str:
        """Return host and process id."""
        return f"{self.host}:{self.pid}"

    def surely_dead(self, here: Holder) -> bool:
        """Tell whether it was a process of this host that is gone."""
        if (self.host, self.boot) != (here.host, here.boot):
            return False
        return _started(self.pid) != self.process_started


def this_process(wall_ns: int, mode: str = "") -> Holder:
    """Describe this process, as the manager of a trading mode."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return Holder(socket.gethostname(), boot, os.getpid(), _started(os.getpid()), wall_ns, mode)


def _started(pid: int) -> int:
    """Return when a process started, in ticks since boot; 0 where there is no such process, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


class Office:
    """Take the office, keep it, and know when it may be lost."""

    def __init__(self, js: JetStreamContext, me: Holder) -> None:
        """Hold nothing yet."""
        self._js = js
        self._me = me
        self._revision = 0
        self._kept_ns = 0
        self._seen_revision = -1
        self._seen_ns = 0
        self.other: Holder | None = None

    @property
    def instance(self) -> str:
        """Return what tells this manager from every other one, earlier ones of this process included."""
        return f"{self._me.described}:{self._me.since_ns}"

    def held(self, now_ns: int) -> bool:
        """Tell whether the office was ours a moment ago: short enough that nobody else can have taken it."""
        return self._revision > 0 and now_ns - self._kept_ns < TRUST_NS

    async def keep(self, now_ns: int) -> bool:
        """Take or keep the office as the time demands; return whether it is ours. `now_ns` counts suspended time."""
        if self.held(now_ns) and now_ns - self._kept_ns < KEEP_NS:
            return True
        if self._revision > 0:
            revision = await self._write(self._revision)
            if revision:
                self._revision, self._kept_ns = revision, now_ns
                return True
            self._revision = 0
        return await self._take(now_ns)

    async def leave(self) -> None:
        """Give the office up at once, so that a successor need not wait."""
        if self._revision > 0:
            revision, self._revision = self._revision, 0
            await self._write(revision, empty=True)

    async def _take(self, now_ns: int) -> bool:
        """Take an office that is free, abandoned, or whose holder has not been heard of for long enough."""
        present, revision = await self._present()
        if revision != self._seen_revision:
            self._seen_revision, self._seen_ns = revision, now_ns
        self.other = present
        # Ours: a write of ours whose acknowledgement was lost.
        free = present is None or present == self._me or present.surely_dead(self._me)
        if not free and now_ns - self._seen_ns < TAKE_NS:
            return False
        taken = await self._write(revision)
        if not taken:
            return False
        self._revision, self._kept_ns, self.other = taken, now_ns, None
        return True

    async def _present(self) -> tuple[Holder | None, int]:
        try:
            found = await self._js.get_msg(_STREAM, subject=_SUBJECT, direct=False)
        except NotFoundError:
            return None, 0
        try:
            raw: dict[str, Any] = json.loads(found.data or b"{}")
            return (Holder(**raw) if raw else None), found.seq or 0
        except (ValueError, TypeError):
            return None, found.seq or 0

    async def _write(self, over: int, *, empty: bool = False) -> int:
        """Write over a revision; return the new one, 0 where another came first."""
        body = b"{}" if empty else json.dumps(asdict(self._me)).encode()
        try:
            ack = await self._js.publish(
                _SUBJECT, body, headers={"Nats-Expected-Last-Subject-Sequence": str(over)}, timeout=1.0
            )
        except KeyWrongLastSequenceError:
            return 0
        except APIError as error:
            if error.err_code in (10071, 10164):
                return 0
            raise
        return ack.seq
