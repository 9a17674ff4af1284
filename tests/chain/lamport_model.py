"""What the chain should do with transfers of lamports, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field

RENT = 890_880
"""Below it an account holds nothing at all, or the transaction fails."""
UNITS = 1_000


@dataclass(frozen=True)
class Payment:
    """A transfer, with a price per compute unit, and a tip to a made-up account named "tip"."""

    signature: str
    source: str
    target: str
    amount: int
    price: int = 0
    tip: int = 0

    @property
    def fee(self) -> int:
        return 5_000 + -(-self.price * UNITS // 10**6)


@dataclass
class Block:
    slot: int
    balances: dict[str, int]
    landed: dict[str, bool]
    """Signature: did it succeed."""


@dataclass
class Model:
    """Balances, and the blocks of this fork."""

    balances: dict[str, int]
    slot: int
    height: int
    queue: dict[str, Payment] = field(default_factory=dict)
    bundles: list[tuple[Payment, ...]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    burned: int = 0
    burned_at: list[int] = field(default_factory=list)

    def landed(self) -> dict[str, bool]:
        return {signature: well for block in self.blocks for signature, well in block.landed.items()}

    def lands(self, payment: Payment) -> bool | None:
        """Execute; None where it does not even land."""
        held = self.balances.get(payment.source, 0)
        left = held - payment.fee
        if held == 0 or left < 0 or 0 < left < RENT or payment.signature in self.landed() | self.now:
            return None
        self.balances[payment.source] = left
        self.burned += payment.fee
        after = dict(self.balances)
        for target, amount in ((payment.target, payment.amount), ("tip", payment.tip)):
            if amount > after[payment.source]:
                return False
            after[payment.source] -= amount
            after[target] = after.get(target, 0) + amount
        if any(0 < after[name] < RENT for name in (payment.source, payment.target)):
            return False
        self.balances = after
        return True

    def produce(self) -> None:
        self.slot += 1
        self.height += 1
        self.now: dict[str, bool] = {}
        before = dict(self.balances), self.burned
        for bundle in sorted(self.bundles, key=lambda bundle: -sum(one.tip for one in bundle)):
            saved = dict(self.balances), self.burned
            # The whole bundle or nothing.
            if all(self.lands(one) for one in bundle):
                self.now |= {one.signature: True for one in bundle}
            else:
                self.balances, self.burned = saved
        for payment in sorted(self.queue.values(), key=lambda payment: -payment.price):
            well = self.lands(payment)
            if well is not None:
                self.now[payment.signature] = well
        self.queue, self.bundles = {}, []
        self.blocks.append(Block(self.slot, before[0], self.now))
        self.burned_at.append(before[1])

    def rollback(self, blocks: int) -> None:
        final = self.slot - 32
        while blocks and self.blocks and self.blocks[-1].slot > final:
            self.balances = self.blocks.pop().balances
            self.burned = self.burned_at.pop()
            self.height -= 1
            blocks -= 1
