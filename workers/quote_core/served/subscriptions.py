"""Subscriptions: who wants to know about which pairs, and what changed since they were last told.

Pure, but for one event to wait on.

A subscription holds no queue. It holds which of its pairs have changed; what it is told is made when it is told, from
what is true then. However slow a subscriber is, it costs one flag a pair, and gets the newest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.ids import deterministic_id
from pipeline.messages import PairQuotes, QuoteChanges
from workers.quote_core.aggregator import Changed
from workers.quote_core.desk import Asked


class Subscription:
    """One subscriber's pairs."""

    def __init__(self, name: str, asked: Sequence[Asked]) -> None:
        """Begin with everything to be told."""
        self.name = name
        self.asked = tuple(asked)
        self.sequence = 0
        """Of the newest message told."""
        self.conflated = 0
        """Changes that a newer one of the same pair replaced before they were told."""
        self.wake = asyncio.Event()
        self.wake.set()
        self._whole = True
        self._changed: dict[int, None] = {}
        self._by_pair: dict[frozenset[str], list[int]] = {}
        for index, each in enumerate(self.asked):
            self._by_pair.setdefault(frozenset(each.direction), []).append(index)

    @property
    def due(self) -> bool:
        """Tell whether there is anything to be told."""
        return self._whole or bool(self._changed)

    def start_over(self) -> None:
        """Tell everything with the next message."""
        self._whole = True
        self.wake.set()

    def note(self, pairs: frozenset[frozenset[str]]) -> None:
        """Note that something about these pairs changed."""
        for pair in pairs:
            for index in self._by_pair.get(pair, ()):
                if index in self._changed:
                    self.conflated += 1
                self._changed[index] = None
                self.wake.set()

    def take(
        self, answer: Callable[[Asked], PairQuotes], *, slot: int, market_ns: int, now_ns: int, producer: str
    ) -> QuoteChanges | None:
        """Return what there is to tell, as it is now, and note it as told; None where nothing is due."""
        self.wake.clear()
        if not self.due:
            return None
        whole = self._whole
        indices = range(len(self.asked)) if whole else sorted(self._changed)
        pairs = [answer(self.asked[index]) for index in indices]
        self._whole = False
        self._changed.clear()
        self.sequence += 1
        return QuoteChanges(
            id=deterministic_id("quote-changes", self.name, self.sequence, now_ns),
            correlation_id=self.name,
            created_ns=now_ns,
            producer=producer,
            sequence=self.sequence,
            snapshot=whole,
            slot=slot,
            market_ns=market_ns,
            pairs=pairs,
        )


@dataclass(slots=True)
class Hub:
    """All subscriptions of all ways."""

    limit: int
    subscriptions: set[Subscription] = field(default_factory=set)
    refused: int = 0
    told: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    """Subscriptions that ended, by why."""
    conflated_before: int = 0
    """By subscriptions that have ended."""
    _slot: int = 0

    def add(self, subscription: Subscription) -> bool:
        """Take a subscription in; False where there are as many as may be."""
        if len(self.subscriptions) >= self.limit:
            self.refused += 1
            return False
        self.subscriptions.add(subscription)
        return True

    def remove(self, subscription: Subscription, why: str) -> None:
        """Let a subscription go."""
        if subscription in self.subscriptions:
            self.subscriptions.discard(subscription)
            self.conflated_before += subscription.conflated
            self.ended[why] = self.ended.get(why, 0) + 1

    @property
    def conflated(self) -> int:
        """Return how many changes were replaced by newer ones before they were told."""
        return self.conflated_before + sum(each.conflated for each in self.subscriptions)

    def on_changed(self, changed: Changed) -> None:
        """Note what a commit changed."""
        if not self.subscriptions:
            self._slot = changed.slot
            return
        if changed.slot < self._slot:
            # Another market has begun: pairs may be gone that no change will ever name.
            for subscription in self.subscriptions:
                subscription.start_over()
        self._slot = changed.slot
        pairs = frozenset(frozenset(direction) for direction in changed.directions)
        for subscription in self.subscriptions:
            subscription.note(pairs)
