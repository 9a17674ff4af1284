"""Lots and disposals for taxes: first in, first out, per token, in integers. Pure.

Costs and proceeds are millionths of a USD. A part of a lot takes its share of the cost rounded down, so that a gain
never looks smaller than it is; what is left over stays in the lot, and nothing is lost or made up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.ledger.chain_models import SOL
from pipeline.ledger.trades import Trade

LAMPORTS_PER_SOL = 1_000_000_000


@dataclass(slots=True)
class Lot:
    """Some of a token, got at one time."""

    amount: int
    cost_usd_e6: int
    acquired_ns: int
    """0 for what was held when the books began."""
    source: str


@dataclass(frozen=True, slots=True)
class Disposal:
    """Part of a lot that was given away."""

    event: str
    token: str
    amount: int
    acquired_ns: int
    source: str
    disposed_ns: int
    cost_usd_e6: int
    proceeds_usd_e6: int
    reference: str
    signature: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """What crossed the wallets' border outside of trades, or was spent on upkeep; an opening is one too."""

    event: str
    """opening, deposit, withdrawal or upkeep"""
    order: tuple[int, int, int]
    token: str
    amount: int
    """Positive where it came, negative where it went, base units."""
    when_ns: int
    signature: str


class Book:
    """The lots of every token."""

    def __init__(self, dollar: str) -> None:
        """`dollar` is the mint of which a base unit is a millionth of a USD."""
        self._dollar = dollar
        self.lots: dict[str, deque[Lot]] = {}
        self._sol_price_usd_e6 = 0

    def price(self, sol_price_usd_e6: int) -> None:
        """Take a price of SOL, millionths of a USD; it holds until the next one."""
        self._sol_price_usd_e6 = sol_price_usd_e6 or self._sol_price_usd_e6

    def worth(self, token: str, amount: int) -> int | None:
        """Return what an amount is worth at the last price, rounded down; None for a token without a price."""
        if token == SOL:
            return amount * self._sol_price_usd_e6 // LAMPORTS_PER_SOL
        return amount if token == self._dollar else None

    def held(self, token: str) -> int:
        """Return how much the lots of a token hold."""
        return sum(lot.amount for lot in self.lots.get(token, ()))

    def acquire(self, token: str, amount: int, cost_usd_e6: int, when_ns: int, source: str) -> None:
        """Open a lot."""
        if amount > 0:
            self.lots.setdefault(token, deque()).append(Lot(amount, cost_usd_e6, when_ns, source))

    def dispose(
        self, token: str, amount: int, proceeds_usd_e6: int | None, about: Mapping[str, Any]
    ) -> Iterator[Disposal]:
        """Take an amount from the oldest lots; `about` holds event, disposed_ns, reference and signature.

        Without proceeds it goes at its cost. What no lot covers was never recorded: it counts as got at that moment for
        what it brought.
        """
        left, proceeds_left = amount, proceeds_usd_e6 or 0
        lots = self.lots.setdefault(token, deque())
        while left > 0:
            if not lots:
                lots.append(Lot(left, proceeds_left, about["disposed_ns"], "unrecorded"))
            lot = lots[0]
            part = min(left, lot.amount)
            cost = lot.cost_usd_e6 * part // lot.amount
            proceeds = cost if proceeds_usd_e6 is None else proceeds_left * part // left
            yield Disposal(
                token=token,
                amount=part,
                acquired_ns=lot.acquired_ns,
                source=lot.source,
                cost_usd_e6=cost,
                proceeds_usd_e6=proceeds,
                **about,
            )
            lot.amount -= part
            lot.cost_usd_e6 -= cost
            left -= part
            proceeds_left -= proceeds
            if not lot.amount:
                lots.popleft()

    def basis(self, token: str, amount: int) -> int:
        """Return the cost of the oldest lots that cover an amount, rounded down; what none covers costs nothing."""
        found = 0
        for lot in self.lots.get(token, ()):
            part = min(amount, lot.amount)
            found += lot.cost_usd_e6 * part // lot.amount
            amount -= part
            if not amount:
                break
        return found


def disposals(
    trades: Sequence[tuple[tuple[int, int, int], Trade]], transfers: Sequence[Transfer], dollar: str
) -> Iterator[Disposal]:
    """Yield every disposal in order; `trades` come with their place in the order of things.

    Fees, tips and upkeep are disposals that bring nothing. Openings and deposits of SOL and dollars cost what they were
    worth at the last known price of SOL, the first one there is where none was known yet; other tokens cost nothing.
    """
    book = Book(dollar)
    book.price(next((one.row["sol_price_usd_e6"] for _, one in trades if one.row["sol_price_usd_e6"]), 0))
    things: list[tuple[tuple[int, int, int], int, Trade | Transfer]] = [
        *((one.order, 0, one) for one in transfers),
        *((order, 1, one) for order, one in trades),
    ]
    for _, _, thing in sorted(things, key=lambda one: one[:2]):
        yield from _transferred(book, thing) if isinstance(thing, Transfer) else _traded(book, thing)


def _transferred(book: Book, one: Transfer) -> Iterator[Disposal]:
    amount, event = one.amount, one.event
    if event == "opening":
        # Books that began anew open with what is there, and most of it has its lots already.
        amount -= book.held(one.token)
        event = "opening" if amount > 0 else "withdrawal"
    if amount > 0:
        worth = book.worth(one.token, amount) or 0
        book.acquire(one.token, amount, worth, 0 if event == "opening" else one.when_ns, event)
        return
    about = {"event": event, "disposed_ns": one.when_ns, "reference": "", "signature": one.signature}
    # What the owner takes is no sale: it goes at its cost.
    yield from book.dispose(one.token, -amount, None if event == "withdrawal" else 0, about)


def _traded(book: Book, trade: Trade) -> Iterator[Disposal]:
    row = trade.row
    book.price(row["sol_price_usd_e6"])
    about = {"disposed_ns": row["finished_ns"], "reference": row["id"], "signature": row["signature"]}
    for fill in trade.fills:
        given, taken = (fill["token_in"], fill["amount_in"]), (fill["token_out"], fill["amount_out"])
        # Both sides of a swap are worth the same: what its priced side is worth, or what the given one had cost.
        worth = book.worth(*given)
        if worth is None:
            worth = book.worth(*taken)
        if worth is None:
            worth = book.basis(*given)
        yield from book.dispose(*given, worth, about | {"event": "swap"})
        book.acquire(*taken, worth, row["finished_ns"], "swap")
    for event, amount in (
        ("fee", trade.figures["base_fee"] + trade.figures["priority_fee"]),
        ("tip", trade.figures["tip"]),
    ):
        yield from book.dispose(SOL, amount, 0, about | {"event": event})
