"""The order in which the market's messages become one batch of quotes: pure, no I/O.

Pool states gather until the slot's update says that all of them have come. A state that is missing then means that a
message was lost: the present state has to be read again from the stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from markets.pool_states import PoolStates
from pipeline.messages import PoolState, SlotUpdate


class Action(Enum):
    """What to do after a slot update."""

    NOTHING = auto()
    """It is older than what was committed."""
    COMMIT = auto()
    RESET = auto()
    """Another market has begun: forget all pools, then read the last of each subject."""
    RELOAD = auto()
    """A message was lost; read the last of each subject."""


@dataclass(slots=True)
class Feed:
    """Pool states as they came, and what changed since the last commit."""

    states: PoolStates = field(default_factory=PoolStates)
    slot: int = -1
    """Slot of the last commit."""
    market_ns: int = 0
    market: str = ""
    """The id of the market, as its updates name it."""
    older: int = 0
    """States that came after a newer one of their pool."""
    _changed: dict[str, None] = field(default_factory=dict)
    _heard: dict[int, set[str]] = field(default_factory=dict)

    def state(self, state: PoolState) -> None:
        """Take a pool's state over, unless a newer one is known."""
        self._heard.setdefault(state.slot, set()).add(state.pool)
        if self.states.apply(state):
            self._changed[state.pool] = None
        else:
            self.older += 1

    def update(self, update: SlotUpdate) -> Action:
        """Note that a slot is complete."""
        if self.market not in ("", update.causation_id):
            return Action.RESET
        if update.slot < self.slot:
            return Action.NOTHING
        heard = len(self._heard.get(update.slot, ()))
        if heard < update.pools_changed or self.states.broken():
            return Action.RELOAD
        self.settle(update)
        return Action.COMMIT

    def settle(self, update: SlotUpdate) -> None:
        """Make a slot the present one, whatever was heard of it."""
        self.slot = update.slot
        self.market = update.causation_id
        self.market_ns = update.market_ns
        for slot in [slot for slot in self._heard if slot <= update.slot]:
            del self._heard[slot]

    def mark_changed(self, address: str) -> None:
        """Count a pool as changed, though nothing new was heard of it."""
        self._changed[address] = None

    def take_changed(self) -> list[str]:
        """Return the pools that changed since this was last asked, in the order of their addresses."""
        changed = sorted(self._changed)
        self._changed.clear()
        return changed
