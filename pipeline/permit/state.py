"""What the permit says: states, changes, and the verdict at the gate, as plain values.

Nothing here reads a socket, shared memory or a clock: times come in as nanoseconds of `CLOCK_BOOTTIME`, which also
counts the time a machine was suspended, so that a lease cannot outlive a closed laptop lid.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.messages import PermitState

__all__ = [
    "Allowed",
    "LeaseView",
    "PermitState",
    "Refused",
    "RefusedBy",
    "Verdict",
    "WordReading",
    "boottime_ns",
    "judge",
    "known_state",
]


class RefusedBy(StrEnum):
    """Why the gate is closed. The values are stable: they stand in metrics, logs and results."""

    HALTED = "halted"
    REDUCING = "reducing"
    NO_PERMIT = "no_permit"
    LEASE_EXPIRED = "lease_expired"
    NOT_CONNECTED = "not_connected"
    BACKLOG = "backlog"
    WORD_MISSING = "word_missing"
    WORD_HALTED = "word_halted"
    WORD_STALE = "word_stale"
    WORD_UNREADABLE = "word_unreadable"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Allowed:
    """The gate is open: the effect may begin now, under this epoch."""

    epoch: int
    state: PermitState


@dataclass(frozen=True, slots=True)
class Refused:
    """The gate is closed: nothing may begin."""

    reason: RefusedBy
    detail: str
    state: PermitState
    epoch: int


Verdict = Allowed | Refused


@dataclass(frozen=True, slots=True)
class WordReading:
    """What the permit word in shared memory held at one moment."""

    state: int
    epoch: int
    renewed_ns: int
    lease_ns: int
    halts: int
    lifted: int


def boottime_ns() -> int:
    """Return nanoseconds since boot, suspended time included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def known_state(value: int) -> PermitState:
    """Return the state for a number from outside; HALTED for one this version does not know."""
    try:
        return PermitState(value)
    except ValueError:
        return PermitState.HALTED


@dataclass(slots=True)
class LeaseView:
    """What one reader has learnt from the latch, the kill switch and the permits that reached it.

    The epoch never falls. Within one epoch the state only tightens: two sources that disagree leave the stricter word.
    """

    max_lease_ns: int
    state: PermitState = PermitState.HALTED
    epoch: int = 0
    actor: str = ""
    reason: str = "no permit was ever received"
    lease_until_ns: int = 0
    permits: int = 0
    stale: int = 0
    _leased: bool = field(default=False)

    def learn(self, state: int, epoch: int, actor: str, reason: str) -> bool:
        """Take a change of state; return False for one that is out of date."""
        if epoch < self.epoch:
            self.stale += 1
            return False
        named = known_state(state)
        if epoch > self.epoch:
            # A lease belongs to the epoch it was given under.
            self.lease_until_ns = 0
            self._leased = False
            self.state, self.epoch, self.actor, self.reason = named, epoch, actor, reason
        elif named < self.state:
            self.state, self.actor, self.reason = named, actor, reason
        elif not self.actor:
            self.actor, self.reason = actor, reason
        return True

    def renew(self, state: int, epoch: int, actor: str, reason: str, *, lease_ns: int, since_ns: int) -> bool:
        """Take a permit whose lease counts from `since_ns`; return False for one that is out of date."""
        if not self.learn(state, epoch, actor, reason):
            return False
        self.permits += 1
        self._leased = True
        until = since_ns + max(0, min(lease_ns, self.max_lease_ns))
        self.lease_until_ns = max(self.lease_until_ns, until)
        return True

    def forget_lease(self) -> None:
        """Drop the lease, keeping state and epoch: the connection that carried it is gone."""
        self.lease_until_ns = 0
        self._leased = False

    @property
    def leased(self) -> bool:
        """Tell whether a permit of the present epoch has arrived on this connection."""
        return self._leased


def judge(
    view: LeaseView,
    word: WordReading | None,
    now_ns: int,
    *,
    reduces_exposure: bool = False,
) -> Verdict:
    """Decide whether an effect may begin: every source must allow it, and be fresh.

    `word` is None where there is no shared memory to read, as on a host without a system manager.
    """
    state, epoch, who = view.state, view.epoch, f"{view.actor}: {view.reason}" if view.actor else view.reason
    if word is not None:
        word_state = known_state(word.state)
        if word.halts != word.lifted:
            detail = "halted by the word in shared memory, not yet lifted"
            return Refused(RefusedBy.WORD_HALTED, detail, PermitState.HALTED, max(epoch, word.epoch))
        if word.epoch > epoch:
            state, epoch, who = word_state, word.epoch, "permit word in shared memory"
        elif word.epoch == epoch and word_state < state:
            state, who = word_state, "permit word in shared memory"
    if state is PermitState.HALTED:
        reason = RefusedBy.NO_PERMIT if epoch == 0 else RefusedBy.HALTED
        return Refused(reason, who, state, epoch)
    if state is PermitState.REDUCING and not reduces_exposure:
        return Refused(RefusedBy.REDUCING, who, state, epoch)
    if not view.leased or view.epoch < epoch:
        return Refused(RefusedBy.NO_PERMIT, f"no permit of epoch {epoch} has arrived", state, epoch)
    if now_ns >= view.lease_until_ns:
        late = (now_ns - view.lease_until_ns) / 1e6
        return Refused(RefusedBy.LEASE_EXPIRED, f"the lease ran out {late:.0f} ms ago", state, epoch)
    if word is not None:
        if word.epoch < epoch:
            return Refused(RefusedBy.WORD_STALE, f"the word is of epoch {word.epoch}, not {epoch}", state, epoch)
        age_ns = now_ns - word.renewed_ns
        # A time in the future is a word from before the last boot, or a damaged one.
        if not 0 <= age_ns < min(word.lease_ns, view.max_lease_ns):
            return Refused(RefusedBy.WORD_STALE, f"the word was renewed {age_ns / 1e6:.0f} ms ago", state, epoch)
    return Allowed(epoch, state)
