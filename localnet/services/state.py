"""What one node serves from: the chain's views at its commitments, and the chain itself where there is one."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from typing import get_args

from localnet.chain.chain import Chain
from localnet.chain.records import Block, Commitment, Status
from localnet.chain_view import CONFIRMED_AFTER, FINAL_AFTER, KEPT_SLOTS, ChainView, View
from localnet.services import errors
from localnet.services.faults import Faults

COMMITMENTS: tuple[Commitment, ...] = get_args(Commitment)
MAX_BEHIND = 128
"""Slots after which a node says of itself that it is not well."""


class NodeState:
    """What the methods and the subscriptions of one node read."""

    def __init__(self, chain: ChainView | Chain, faults: Faults, seed: int) -> None:
        """Serve a chain, or the views of a market that has none; faults are drawn from the seed."""
        self.ledger: Chain | None = None if isinstance(chain, ChainView) else chain
        self.views: ChainView = chain if isinstance(chain, ChainView) else chain.views
        self.faults = faults
        self.happened: Counter[str] = Counter()
        self.random = random.Random(seed)
        self.received: Callable[[str], None] = lambda _signature: None
        """Is told of every transaction that this node took."""
        self.transactions = 0
        """Transactions that landed since this node began."""
        self.blocks: deque[Block] = deque(maxlen=KEPT_SLOTS)
        """The newest ones; a fork takes its own away."""

    def chain(self) -> Chain:
        """Return the chain.

        Raises:
            MethodError: where there is none: the method does not exist here.
        """
        if self.ledger is None:
            raise errors.not_found()
        return self.ledger

    def take(self, block: Block) -> None:
        """Note a new block."""
        gone = {record.signature for one in self.blocks for record in one.records}.intersection(block.forked)
        while gone and self.blocks:
            # The newest blocks, down to the one that holds the oldest transaction that was taken back.
            lost = self.blocks.pop()
            gone.difference_update(record.signature for record in lost.records)
            self.transactions -= len(lost.records)
        self.blocks.append(block)
        self.transactions += len(block.records)

    def draws(self, chance: float, fault: str) -> bool:
        """Decide whether a fault happens now; count it."""
        happens = self.random.random() < chance
        if happens:
            self.happened[fault] += 1
        return happens

    def knows(self, blockhash: str) -> bool:
        """Tell whether a blockhash is not newer than this node's newest slot."""
        if not self.behind:
            return True
        newer = (self.views.at(number) for number in range(self.behind))
        return all(view.blockhash != blockhash or view.slot <= self.slot for view in newer)

    @property
    def behind(self) -> int:
        """Return how many slots the node is behind."""
        return self.faults.behind_slots

    @property
    def slot(self) -> int:
        """Return the newest slot that this node knows."""
        return self.view().slot

    def view(self, commitment: Commitment = "processed") -> View:
        """Return the newest view that is so far; all commitments are one in a market without a chain."""
        return self.views.at(self.behind) if self.ledger is None else self.views.by(commitment, self.behind)

    def check_health(self) -> None:
        """Refuse where the node is too far behind.

        Raises:
            MethodError: -32005.
        """
        slots = self.views.newest.slot - self.slot
        if slots > MAX_BEHIND:
            raise errors.behind(slots)

    def commitment_of(self, status: Status) -> tuple[Commitment, int | None] | None:
        """Return how far a transaction is as this node sees it, and its confirmations; None where it is unseen."""
        if not self.behind:
            return status.commitment, status.confirmations
        depth = self.slot - status.slot
        if depth < 0:
            return None
        if depth >= FINAL_AFTER:
            return "finalized", None
        return ("confirmed" if depth >= CONFIRMED_AFTER else "processed"), depth

    def reached(self, status: Status, commitment: Commitment) -> bool:
        """Tell whether a transaction is at least so far."""
        seen = self.commitment_of(status)
        return seen is not None and COMMITMENTS.index(seen[0]) >= COMMITMENTS.index(commitment)
