"""What an amount of one token is worth in another, by oracle prices and stake-pool rates. Exact, and pure.

A stake pool says how much SOL stands behind one unit of its token: between SOL and such tokens nothing else is asked.
Any other pair goes through US dollars. A price that is too old, too uncertain or not there gives no worth: None, never
a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from markets.oracle.pyth import OracleRefused, PriceUpdate, checked
from markets.tokens import SOL_MINT
from pipeline.messages import OraclePrice

NS_PER_S = 1_000_000_000
MAX_AMOUNT = 2**64 - 1
STAKE_POOL = "stake_pool"
"""Source of a worth that follows from stake-pool rates alone."""
# Prices are stamped in whole seconds and clocks differ a little; what lies further ahead is wrong.
MAX_AHEAD_NS = 5 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Limits:
    """How old and how uncertain a price may be."""

    max_age_ns: int = 90 * NS_PER_S
    max_interval_bps: float = 100.0
    """Half the confidence interval over the price."""
    rate_max_age_ns: int = 600 * NS_PER_S
    """A stake pool's rate moves once an epoch, so its state may be older than a price."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What an amount is worth, who says so, and how old the oldest thing is that it rests on."""

    amount_out: int
    """Base units of the token asked for, rounded down."""
    source: str
    age_ns: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Base units of one token per base unit of another, as a fraction: what a whole grid of amounts is valued with."""

    numerator: int
    denominator: int
    source: str
    age_ns: int

    def of(self, amount_in: int) -> int:
        """Return what an amount is worth, rounded down; 0 where that is less than a base unit or more than can be."""
        amount_out = amount_in * self.numerator // self.denominator
        return amount_out if 0 < amount_out <= MAX_AMOUNT else 0


@dataclass(frozen=True, slots=True)
class _Price:
    """US dollars for one base unit."""

    value: Fraction
    source: str
    observed_ns: int


class FairValues:
    """The newest price and rate of each token."""

    def __init__(self, decimals: Mapping[str, int], limits: Limits | None = None) -> None:
        """Begin without any price. `decimals` by mint; a token that is not in it has no worth."""
        self._decimals = decimals
        self._limits = limits or Limits()
        self._usd: dict[str, _Price] = {}
        self._rates: dict[str, _Price] = {}
        self._known: dict[tuple[str, str], Rate | None] = {}
        self._known_ns = -1
        """Rates that were asked for at this moment: a whole book is valued at one."""

    def take(self, price: OraclePrice, now_ns: int) -> None:
        """Take a price over, unless a newer one of its token is known.

        A price that says it is not valid (0) replaces the one before: the token then has no worth until the next.

        Raises:
            OracleRefused: with the reason; what was known stays, except where the newest word is that nothing is known.
        """
        self._known.clear()
        ahead = price.published_ns - now_ns
        if ahead > MAX_AHEAD_NS:
            # Taken over, it would shut out every true price until its time has come.
            raise OracleRefused("from_the_future", f"published {ahead / NS_PER_S:.1f} s from now")
        known = self._usd.get(price.token)
        if known is not None and price.published_ns < known.observed_ns:
            raise OracleRefused("older", "a newer price is known")
        if price.price <= 0:
            self._usd[price.token] = _Price(Fraction(0), price.source, price.published_ns)
            raise OracleRefused("bad_price", f"{price.source} has no valid price")
        decimals = self._decimals.get(price.token)
        if decimals is None:
            raise OracleRefused("wrong_feed", f"{price.token} is no known token")
        checked(PriceUpdate("", price.price, price.confidence, price.exponent, max(1, price.published_ns // NS_PER_S)))
        if price.confidence * 10_000 > price.price * self._limits.max_interval_bps:
            self._usd[price.token] = _Price(Fraction(0), price.source, price.published_ns)
            raise OracleRefused("wide_interval", f"{price.price} +- {price.confidence}")
        value = Fraction(price.price) * Fraction(10) ** (price.exponent - decimals)
        self._usd[price.token] = _Price(value, price.source, price.published_ns)

    def set_rate(self, token: str, numerator: int, denominator: int, observed_ns: int) -> None:
        """Note that `denominator` base units of a staked token stand for `numerator` lamports, as of then.

        A rate that cannot be one (nothing staked, nothing issued) forgets the token's rate.
        """
        self._known.clear()
        known = self._rates.get(token)
        if token == SOL_MINT or (known is not None and observed_ns < known.observed_ns):
            return
        if numerator <= 0 or denominator <= 0:
            self.forget_rate(token)
            return
        self._rates[token] = _Price(Fraction(numerator, denominator), STAKE_POOL, observed_ns)

    def forget_rate(self, token: str) -> None:
        """Forget a token's rate: its stake pool is not known any more."""
        self._known.clear()
        self._rates.pop(token, None)

    def clear(self) -> None:
        """Forget everything: another market has begun."""
        self._known.clear()
        self._usd.clear()
        self._rates.clear()

    def rate(self, token_in: str, token_out: str, now_ns: int) -> Rate | None:
        """Return what one base unit is worth in base units of another token, or None where nobody can say."""
        if now_ns != self._known_ns:
            self._known.clear()
            self._known_ns = now_ns
        key = (token_in, token_out)
        if key not in self._known:
            self._known[key] = self._rate(token_in, token_out, now_ns)
        return self._known[key]

    def worth(self, token_in: str, amount_in: int, token_out: str, now_ns: int) -> Worth | None:
        """Return what an amount is worth, or None where nobody can say."""
        rate = self.rate(token_in, token_out, now_ns)
        if rate is None:
            return None
        amount_out = rate.of(amount_in)
        return Worth(amount_out, rate.source, rate.age_ns) if amount_out else None

    def _rate(self, token_in: str, token_out: str, now_ns: int) -> Rate | None:
        if token_in == token_out:
            return None
        given, taken = self._in_sol(token_in, now_ns), self._in_sol(token_out, now_ns)
        if given is None or taken is None:
            given, taken = self._in_usd(token_in, now_ns), self._in_usd(token_out, now_ns)
        if given is None or taken is None:
            return None
        sources = dict.fromkeys(part for price in (given, taken) for part in price.source.split("+") if part)
        return Rate(
            given.value.numerator * taken.value.denominator,
            given.value.denominator * taken.value.numerator,
            "+".join(sources),
            max(0, now_ns - min(given.observed_ns, taken.observed_ns)),
        )

    def _in_sol(self, token: str, now_ns: int) -> _Price | None:
        """Return the lamports behind one base unit, where the token is SOL or a stake pool's."""
        if token == SOL_MINT:
            return _Price(Fraction(1), "", now_ns)
        rate = self._rates.get(token)
        if rate is None or now_ns - rate.observed_ns > self._limits.rate_max_age_ns:
            return None
        return rate

    def _in_usd(self, token: str, now_ns: int) -> _Price | None:
        """Return the dollars for one base unit: the token's own price, else its stake pool's rate times SOL's price."""
        price = self._usd.get(token)
        if price is not None and price.value and now_ns - price.observed_ns <= self._limits.max_age_ns:
            return price
        rate = self._rates.get(token)
        if rate is None or now_ns - rate.observed_ns > self._limits.rate_max_age_ns:
            return None
        sol = self._in_usd(SOL_MINT, now_ns)
        if sol is None:
            return None
        observed_ns = min(rate.observed_ns, sol.observed_ns)
        return _Price(rate.value * sol.value, f"{STAKE_POOL}+{sol.source}", observed_ns)
