"""The simulated oracle: what SOL and USDC cost in dollars. A function of seed and slot, like the fair price it tells.

A price is published in every fourth slot, as oracles that post on chain do in every slot of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

from localnet.draws import Draws
from localnet.fair import PPM, Wander, shift_ppm, stray_ppm
from localnet.genesis import fair_price
from markets.tokens import SOL_MINT, USDC_MINT, Registry
from pipeline.ids import deterministic_id
from pipeline.messages import OraclePrice

SOURCE = "simulated"
EXPONENT = -8
EVERY_SLOTS = 4
# How far USDC strays from its dollar.
PEG = Wander(octaves=((5000, 300), (700, 120)), jump_chance=0, jump_low=0, jump_high=0)
# Half width of the confidence interval, parts per million of the price.
SOL_INTERVAL, USDC_INTERVAL = (300, 1200), (80, 250)


@dataclass(frozen=True, slots=True)
class Oracle:
    """Tells the prices of one market."""

    seed: int
    registry: Registry
    producer: str
    origin: int = 0
    """As the engine's: a multiple of EVERY_SLOTS."""

    def prices(self, market: str, slot: int, market_ns: int, slot_ns: int, created_ns: int) -> list[OraclePrice]:
        """Return the prices as they stand in a slot of a market: those of the last slot that had an update."""
        pair = self.registry.pair(SOL_MINT, USDC_MINT)
        if pair is None:
            return []
        posted = slot - slot % EVERY_SLOTS
        passed = posted - self.origin
        usdc = 10**-EXPONENT * (PPM + stray_ppm(self.seed, "USDC/USD", PEG, passed)) // PPM
        units, base = fair_price(pair)
        shifted = units * (PPM + shift_ppm(self.seed, pair, passed))
        # Micro-dollars' worth of USDC for so many lamports, whichever of the two the pair is priced in.
        dollars, lamports = (shifted, base * PPM) if pair.quote.mint == USDC_MINT else (base * PPM, shifted)
        sol = usdc * dollars * 1000 // lamports
        told = ((SOL_MINT, sol, SOL_INTERVAL), (USDC_MINT, usdc, USDC_INTERVAL))
        return [
            OraclePrice(
                id=deterministic_id("oracle", market, token, posted),
                created_ns=created_ns,
                producer=self.producer,
                token=token,
                source=SOURCE,
                price=price,
                confidence=price * Draws(self.seed, "interval", token, passed).between(*interval) // PPM,
                exponent=EXPONENT,
                published_ns=market_ns - (slot - posted) * slot_ns,
                slot=posted,
            )
            for token, price, interval in told
        ]

    @staticmethod
    def changes(slot: int) -> bool:
        """Tell whether prices are posted in a slot."""
        return slot % EVERY_SLOTS == 0
