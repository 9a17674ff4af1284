"""One call as it is made at any endpoint, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from markets.solana.rpc.accounts import Malformed, context_slot
from markets.solana.rpc.errors import BadAnswer, Behind
from markets.solana.rpc.slots import SlotBoard

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked(Generic[T]):
    """What is asked, and what an answer has to be."""

    method: str
    params: Sequence[object]
    read: Callable[[Any], T]
    min_slot: int
    timeout_s: float
    may: Callable[[], bool] | None = None
    """Asked in the moment of writing."""

    def answer(self, raw: Any, host: str, slots: SlotBoard) -> T:
        """Return what an endpoint's result means; note its slot, where it tells one.

        Raises:
            BadAnswer: if it is not what the method gives, or of a slot that cannot be yet.
            Behind: if it is of an older slot than was asked for.
        """
        try:
            answer = self.read(raw)
            slot = context_slot(raw) if isinstance(raw, dict) and "context" in raw else None
        except Malformed as error:
            raise BadAnswer(host, f"answered {self.method} wrongly: {error}") from None
        if slot is not None:
            if not slots.note(host, slot):
                raise BadAnswer(host, f"answered {self.method} at slot {slot}, which cannot be yet")
            if slot < self.min_slot:
                raise Behind(host, f"answered at slot {slot}, {self.min_slot - slot} before the one asked for")
        return answer
