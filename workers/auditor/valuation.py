"""What a profit in a token is worth in lamports and in USD, at the price of its own fill."""

from __future__ import annotations

from markets.tokens import LAMPORTS_PER_SOL, SOL_MINT, USDC_MINT
from pipeline.ledger import Value


def value_of(token: str, net_profit: int, sol_price_usd_e6: int) -> Value:
    """Value a net profit, rounded down: a loss never looks smaller than it is.

    SOL and USDC are valued; USDC counts as a dollar. Without a price only the token's own figure is known, and a profit
    in another token has none. Zero is zero at any price.
    """
    if net_profit == 0:
        return Value(0, 0)
    price = sol_price_usd_e6
    if token == SOL_MINT:
        return Value(net_profit, net_profit * price // LAMPORTS_PER_SOL if price else None)
    if token == USDC_MINT:
        return Value(net_profit * LAMPORTS_PER_SOL // price if price else None, net_profit)
    return Value(None, None)
