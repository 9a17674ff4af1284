"""What goes wrong on the chain, drawn from a seed. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from localnet.draws import Draws

_MILLION = 1_000_000


@dataclass(slots=True)
class ChainFaults:
    """Shares from 0 to 1 unless said otherwise; may be changed while the chain runs.

    Each draw is a function of the seed, the slot and the message without its blockhash: the same in every run.
    """

    dropped: float = 0.0
    """A sent transaction gets lost; sent again in another slot it is drawn for anew."""
    late: float = 0.0
    """A sent transaction waits for `late_slots` more slots."""
    late_slots: int = 5
    bundle_lost: float = 0.0
    """A bundle is taken and never comes to the auction."""
    fork_chance: float = 0.0
    """In a slot, a fork takes back `fork_slots` blocks first."""
    fork_slots: int = 2
    returning: float = 0.0
    """A transaction that a fork took back is queued again."""
    seed: int = 1
    happened: Counter[str] = field(default_factory=Counter)
    """How often each took effect: dropped, late, bundle_lost, fork (which took a block back), returning."""

    def drops(self, slot: int, order: bytes) -> bool:
        """Tell whether a transaction sent in a slot gets lost."""
        return self._hit("dropped", self.dropped, slot, order.hex())

    def delay(self, slot: int, order: bytes) -> int:
        """Return how many slots longer than others a transaction waits."""
        return self.late_slots if self._hit("late", self.late, slot, order.hex()) else 0

    def loses(self, slot: int, order: bytes) -> bool:
        """Tell whether a bundle gets lost."""
        return self._hit("bundle_lost", self.bundle_lost, slot, order.hex())

    def forks(self, slot: int) -> bool:
        """Tell whether a fork comes at a slot; the chain counts it if there was anything to take back."""
        return self._draw("fork", self.fork_chance, slot)

    def returns(self, slot: int, order: bytes) -> bool:
        """Tell whether a transaction that was taken back is queued again."""
        return self._hit("returning", self.returning, slot, order.hex())

    def _hit(self, kind: str, share: float, *label: int | str) -> bool:
        hit = self._draw(kind, share, *label)
        if hit:
            self.happened[kind] += 1
        return hit

    def _draw(self, kind: str, share: float, *label: int | str) -> bool:
        return share > 0 and Draws(self.seed, "chain", kind, *label).chance(round(share * _MILLION))
