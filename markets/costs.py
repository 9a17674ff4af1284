"""What a transaction costs besides the pools' fees, and what that is in the cycle's token."""

from __future__ import annotations

from dataclasses import dataclass

from markets.tokens import SOL_MINT


@dataclass(frozen=True, slots=True)
class Costs:
    """The fees of one transaction, lamports."""

    base_fee: int
    priority_fee: int
    tip: int

    def __post_init__(self) -> None:
        """Refuse negative fees."""
        if min(self.base_fee, self.priority_fee, self.tip) < 0:
            raise ValueError(f"a fee is never negative: {self}")

    @property
    def lamports(self) -> int:
        """Return the sum of all fees."""
        return self.base_fee + self.priority_fee + self.tip


def transaction_costs(
    *, lamports_per_signature: int, signatures: int, compute_units: int, micro_lamports_per_unit: int, tip_lamports: int
) -> Costs:
    """Return the costs of one transaction as the network charges them, the priority fee rounded up.

    Source of the formula: Solana's fee structure, https://solana.com/docs/core/fees.
    """
    if min(lamports_per_signature, signatures, compute_units, micro_lamports_per_unit, tip_lamports) < 0:
        raise ValueError("fees, signatures and compute units are never negative")
    return Costs(
        base_fee=lamports_per_signature * signatures,
        priority_fee=-(-compute_units * micro_lamports_per_unit // 1_000_000),
        tip=tip_lamports,
    )


@dataclass(frozen=True, slots=True)
class SolPrice:
    """The price of SOL in another token, as an exact fraction: `amount` base units for `lamports`."""

    amount: int
    lamports: int

    def __post_init__(self) -> None:
        """Refuse a price that is nothing or nonsense."""
        if self.amount <= 0 or self.lamports <= 0:
            raise ValueError(f"a price is positive: {self}")

    def __lt__(self, other: SolPrice) -> bool:
        """Compare two prices exactly."""
        return self.amount * other.lamports < other.amount * self.lamports


PAR = SolPrice(1, 1)
"""The price of SOL in SOL."""


def cost_in_token(lamports: int, price: SolPrice) -> int:
    """Return an amount of lamports in base units of the price's token, rounded up: against us."""
    return -(-lamports * price.amount // price.lamports)


def amount_in_lamports(amount: int, price: SolPrice) -> int:
    """Return base units of the price's token in lamports, rounded down: against us, where it is a profit."""
    return amount * price.lamports // price.amount


def price_against_us(token: str, offers: list[SolPrice]) -> SolPrice | None:
    """Return the price at which costs are counted: par for SOL, else the dearest SOL on offer, if any."""
    if token == SOL_MINT:
        return PAR
    return max(offers, default=None)
