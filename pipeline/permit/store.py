"""The latch: the state of the permit as it stands in the key-value bucket, and the only way to change it.

Every change is a compare-and-set against the one before it and counts the epoch up by one, so two changes never share
an epoch and none is lost. Tightening (towards HALTED) is open to anybody, rules included; loosening takes a person,
with a name and a reason.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nats.js.errors import APIError, KeyWrongLastSequenceError, NotFoundError

from pipeline.clock import wall_ns
from pipeline.ids import deterministic_id
from pipeline.messages import InvalidMessage, KillSwitch, PermitState, decode
from pipeline.permit.link import LATCH_BUCKET, LATCH_KEY
from pipeline.permit.state import known_state
from pipeline.streams import BUCKETS, reconcile

if TYPE_CHECKING:
    from nats.js import JetStreamContext

__all__ = [
    "LatchError",
    "Latched",
    "NotAllowedError",
    "PermitStore",
    "Person",
    "Rule",
    "Setter",
    "Startup",
    "next_change",
]

_STREAM = f"KV_{LATCH_BUCKET}"
_SUBJECT = f"$KV.{LATCH_BUCKET}.{LATCH_KEY}"
_WRONG_SEQUENCE = frozenset({10071, 10164})
_ATTEMPTS = 20
NAME_LENGTH = 80
REASON_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a name: may halt, and may lift a halt."""

    name: str

    def __post_init__(self) -> None:
        """Refuse a name that names nobody."""
        if not self.name.strip() or len(self.name) > NAME_LENGTH or not self.name.isprintable():
            raise NotAllowedError(f"a person's name has 1 to {NAME_LENGTH} printable characters")
        if ":" in self.name:
            raise NotAllowedError("a person's name holds no colon: that marks a rule")

    @property
    def actor(self) -> str:
        """Return the name as it is kept."""
        return self.name.strip()


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the system manager, or another part of the program: may tighten, never loosen."""

    name: str

    @property
    def actor(self) -> str:
        """Return the name as it is kept."""
        return f"rule:{self.name}"


@dataclass(frozen=True, slots=True)
class Startup:
    """The system manager's start: sets the first state where none was ever latched, and halts live trading."""

    mode: str

    @property
    def actor(self) -> str:
        """Return the name as it is kept."""
        return f"start:{self.mode}"


Setter = Person | Rule | Startup


class NotAllowedError(Exception):
    """A change that the one who asked may not make."""


class LatchError(Exception):
    """What is latched is no kill switch message: nothing may trade until a change is latched over it."""

    def __init__(self, what: str, revision: int) -> None:
        """Keep the revision, so that a change can be made over it."""
        super().__init__(what)
        self.revision = revision


@dataclass(frozen=True, slots=True)
class Latched:
    """One change of state, as it stands in the bucket."""

    switch: KillSwitch
    revision: int

    @property
    def state(self) -> PermitState:
        """Return the state, HALTED where this version does not know it."""
        return known_state(self.switch.state)

    @property
    def epoch(self) -> int:
        """Return the epoch."""
        return self.switch.epoch


def next_change(
    present: Latched | None,
    wanted: PermitState,
    setter: Setter,
    reason: str,
    *,
    producer: str,
    created_ns: int,
    causation_id: str = "",
    above_epoch: int = 0,
    tighten: bool = False,
) -> KillSwitch:
    """Return the change that leads to the wanted state; raise NotAllowedError where the setter may not make it.

    `above_epoch` is an epoch already seen elsewhere (in shared memory, say): the new one is higher than that too. With
    `tighten` nobody may loosen by it, a person included.
    """
    if not reason.strip() or len(reason) > REASON_LENGTH:
        raise NotAllowedError(f"a change needs a reason of 1 to {REASON_LENGTH} characters")
    state = present.state if present is not None else None
    loosens = wanted > PermitState.HALTED if state is None else wanted > state
    first = state is None and isinstance(setter, Startup) and setter.mode != "live"
    now = state.name if state is not None else "never set"
    if loosens and tighten:
        raise NotAllowedError(f"the permit is {now}: a halt cannot lead to {wanted.name}")
    if loosens and not isinstance(setter, Person) and not first:
        raise NotAllowedError(f"{setter.actor} may not lead from {now} to {wanted.name}: only a person may")
    epoch = max(present.epoch if present is not None else 0, above_epoch) + 1
    identity = deterministic_id("kill_switch", epoch, int(wanted), setter.actor, reason, created_ns)
    return KillSwitch(
        id=identity,
        correlation_id=identity,
        causation_id=causation_id,
        created_ns=created_ns,
        producer=producer,
        state=wanted,
        epoch=epoch,
        actor=setter.actor,
        reason=reason.strip(),
    )


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
