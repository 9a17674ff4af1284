"""Changes of the permit's state: who may make which. Pure; the latch that keeps them stands in `store`."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.ids import deterministic_id
from pipeline.messages import KillSwitch, PermitState
from pipeline.permit.state import known_state

__all__ = [
    "REASON_LENGTH",
    "LatchError",
    "Latched",
    "NotAllowedError",
    "Person",
    "Rule",
    "Setter",
    "Startup",
    "next_change",
]

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
