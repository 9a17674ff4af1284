"""The latch: the state of the permit as it stands in the key-value bucket, and the only way to change it.

Every change is a compare-and-set against the one before it and counts the epoch up by one, so two changes never share
an epoch and none is lost. Tightening (towards HALTED) is open to anybody, rules included; loosening takes a person,
with a name and a reason.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from nats.js.errors import APIError, KeyWrongLastSequenceError, NotFoundError

from pipeline.clock import wall_ns
from pipeline.messages import InvalidMessage, KillSwitch, PermitState, decode
from pipeline.permit.change import Latched, LatchError, Person, Setter, next_change
from pipeline.permit.link import LATCH_BUCKET, LATCH_KEY, MANAGER_KEY
from pipeline.streams import BUCKETS, reconcile

if TYPE_CHECKING:
    from nats.js import JetStreamContext

__all__ = ["PermitStore"]

_STREAM = f"KV_{LATCH_BUCKET}"
_SUBJECT = f"$KV.{LATCH_BUCKET}.{LATCH_KEY}"
_WRONG_SEQUENCE = frozenset({10071, 10164})
_ATTEMPTS = 20


class PermitStore:
    """Read and change the latch."""

    def __init__(self, js: JetStreamContext, *, producer: str, replicas: int = 1) -> None:
        """Use a JetStream context; `producer` names who writes."""
        self._js = js
        self._producer = producer
        self._replicas = replicas

    async def ensure(self) -> None:
        """Create the bucket where it is missing."""
        try:
            await self._js.stream_info(_STREAM)
        except NotFoundError:
            await reconcile(self._js, self._replicas, table=[spec for spec in BUCKETS if spec.bucket == LATCH_BUCKET])

    async def read(self) -> Latched | None:
        """Return what is latched, None where nothing ever was; raise LatchError.

        Asks the stream's leader, not the nearest replica, which may be behind.
        """
        try:
            found = await self._js.get_msg(_STREAM, subject=_SUBJECT, direct=False)
        except NotFoundError:
            return None
        return _latched(found.data or b"", found.seq or 0)

    async def history(self) -> list[Latched]:
        """Return the changes that the bucket still holds, oldest first."""
        bucket = await self._js.key_value(LATCH_BUCKET)
        try:
            entries = await bucket.history(LATCH_KEY)
        except NotFoundError:
            return []
        changes: list[Latched] = []
        for entry in entries:
            with contextlib.suppress(LatchError):
                changes.append(_latched(entry.value or b"", entry.revision or 0))
        return changes

    async def managed_mode(self) -> str:
        """Return the trading mode of the system manager that took the office last; "" where none holds it."""
        try:
            found = await self._js.get_msg(_STREAM, subject=f"$KV.{LATCH_BUCKET}.{MANAGER_KEY}", direct=False)
            holder = json.loads(found.data or b"{}")
        except (NotFoundError, ValueError):
            return ""
        mode = holder.get("mode") if isinstance(holder, dict) else None
        return mode if isinstance(mode, str) else ""

    async def latch(self, switch: KillSwitch, over: int) -> Latched | None:
        """Write one change over the revision it was made from (0: none); return None where another came first."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(over)}
        try:
            ack = await self._js.publish(_SUBJECT, switch.encode(), headers=headers)
        except KeyWrongLastSequenceError:
            return None
        except APIError as error:
            if error.err_code in _WRONG_SEQUENCE:
                return None
            raise
        return Latched(switch, ack.seq)

    async def change(
        self,
        wanted: PermitState,
        setter: Setter,
        reason: str,
        *,
        causation_id: str = "",
        above_epoch: int = 0,
        tighten: bool = False,
        unless_so: bool = False,
    ) -> Latched:
        """Change the state by compare-and-set, again on top of whatever came between; raise NotAllowedError.

        With `unless_so` a state that is already as wanted is left as it stands, with its own actor and reason.
        """
        for _ in range(_ATTEMPTS):
            revision = 0
            try:
                present = await self.read()
                revision = present.revision if present is not None else 0
            except LatchError as error:
                # Damage counts as halted, at the highest epoch that can still be read.
                revision = error.revision
                earlier = await self.history()
                present = max(earlier, key=lambda change: change.epoch, default=None)
                if wanted is not PermitState.HALTED and not isinstance(setter, Person):
                    raise
            if unless_so and present is not None and revision == present.revision and present.state is wanted:
                return present
            switch = next_change(
                present,
                wanted,
                setter,
                reason,
                producer=self._producer,
                created_ns=wall_ns(),
                causation_id=causation_id,
                above_epoch=above_epoch,
                tighten=tighten,
            )
            done = await self.latch(switch, revision)
            if done is not None:
                return done
        raise TimeoutError(f"the latch changed under us {_ATTEMPTS} times")


def _latched(value: bytes, revision: int) -> Latched:
    try:
        message = decode(value)
    except InvalidMessage as error:
        raise LatchError(f"revision {revision} of {_SUBJECT}: {error}", revision) from error
    if not isinstance(message, KillSwitch):
        raise LatchError(f"revision {revision} of {_SUBJECT} holds a {type(message).__name__}", revision)
    return Latched(message, revision)
