"""What is asked of a provider, what it answers, and what of that is believed. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from markets.tokens import mint_problem

U64_MAX = 2**64 - 1
FULL_BPS = 10_000
MAX_STEPS = 32
MAX_LABEL = 64


class Reason(StrEnum):
    """Why an answer does not count. Stable: these are labels of metrics."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    LOST = "lost"
    """The connection ended before the answer did."""
    STATUS = "status"
    REDIRECT = "redirect"
    CONTENT_TYPE = "content_type"
    ENCODING = "encoding"
    """Compressed in a way that was not asked for, or wrongly."""
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    """No JSON, or cut off."""
    SHAPE = "shape"
    """JSON of another shape: a field is missing, or of another type."""
    ERROR_BODY = "error_body"
    WRONG_MINT = "wrong_mint"
    WRONG_AMOUNT = "wrong_amount"
    """The amount in is not the one asked for."""
    ZERO = "zero"
    HUGE = "huge"
    """Does not fit 64 bits."""
    SLIPPAGE = "slippage"
    """The least amount out is not what the slippage asked for makes it."""
    ROUTE = "route"
    """The steps do not lead from one token to the other."""
    SPLITS = "splits"
    """The shares of a split are not the whole."""
    AMOUNTS = "amounts"
    """The steps take more than goes in, or give less than comes out."""
    PRICE = "price"
    """Too far from every price that is known."""
    STALE = "stale"
    """Of a slot too old, or of one that cannot have been yet."""
    RATE_LIMITED = "rate_limited"
    NO_ROUTE = "no_route"


NOT_ITS_FAULT = frozenset({Reason.RATE_LIMITED, Reason.NO_ROUTE})
"""No sign of a bad provider: it is asked too often, or the pair does not trade there."""


class BadAnswer(Exception):
    """An answer that does not count."""

    def __init__(self, reason: Reason, detail: str = "", *, retry_after_s: float = 0.0) -> None:
        """Keep the reason and a short detail for the log; the detail never holds an address with a key in it."""
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Ask:
    """One direction of one pair, for one amount."""

    token_in: str
    token_out: str
    amount_in: int
    slippage_bps: int = 50


@dataclass(frozen=True, slots=True)
class Step:
    """One swap of a route."""

    pool: str
    """Empty where the provider does not name it."""
    venue: str
    """The pool's program family, in the provider's words."""
    token_in: str
    token_out: str
    share_bps: int = FULL_BPS
    """Part of all that there is of `token_in`."""
    amount_in: int = 0
    """0 where the provider does not tell, as below."""
    amount_out: int = 0


Route = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider says that it would give."""

    provider: str
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int
    min_out: int
    """Least amount out at the slippage asked for."""
    slippage_bps: int
    price_impact_bps: float
    route: Route
    slot: int = 0
    """Slot that it was computed at; 0 where the provider does not tell."""
    took_ms: float = 0.0
    """Time that the provider says it took; 0 where it does not tell."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when an answer comes, to hold it against."""

    references: tuple[int, ...] = ()
    """What else is said that the amount would give, the most trustworthy first: the first one counts."""
    slot: int = 0
    """The market's slot; 0 where it is not known."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far an answer may be from what is known."""

    max_deviation_bps: int
    max_slots_behind: int
    max_slots_ahead: int


def check(answer: Answer, ask: Ask, known: Known, bounds: Bounds) -> Answer:
    """Return an answer that can be believed.

    Raises:
        BadAnswer: with the first reason not to.
    """
    if (answer.token_in, answer.token_out) != (ask.token_in, ask.token_out):
        raise BadAnswer(Reason.WRONG_MINT, f"{answer.token_in} to {answer.token_out}")
    if answer.amount_in != ask.amount_in:
        raise BadAnswer(Reason.WRONG_AMOUNT, f"{answer.amount_in} in, {ask.amount_in} asked")
    for amount in (answer.amount_out, answer.min_out):
        if amount <= 0:
            raise BadAnswer(Reason.ZERO)
        if amount > U64_MAX:
            raise BadAnswer(Reason.HUGE)
    _check_slippage(answer, ask)
    check_route(answer.route, ask)
    _check_amounts(answer)
    if known.references:
        reference = known.references[0]
        if abs(answer.amount_out - reference) * FULL_BPS > bounds.max_deviation_bps * reference:
            raise BadAnswer(Reason.PRICE, f"{answer.amount_out} out, about {reference} expected")
    if answer.slot and known.slot:
        behind = known.slot - answer.slot
        if behind > bounds.max_slots_behind or -behind > bounds.max_slots_ahead:
            raise BadAnswer(Reason.STALE, f"slot {answer.slot}, the market is at {known.slot}")
    return answer


def _check_slippage(answer: Answer, ask: Ask) -> None:
    if answer.slippage_bps != ask.slippage_bps:
        raise BadAnswer(Reason.SLIPPAGE, f"{answer.slippage_bps} bps, {ask.slippage_bps} asked")
    # Providers round this one up or down.
    least = answer.amount_out * (FULL_BPS - ask.slippage_bps) // FULL_BPS
    if not least - 1 <= answer.min_out <= least + 1 or answer.min_out > answer.amount_out:
        raise BadAnswer(Reason.SLIPPAGE, f"at least {answer.min_out} of {answer.amount_out}")


def check_route(route: Route, ask: Ask) -> None:
    """Check that steps lead from one token to the other, each token split whole, without a circle.

    Raises:
        BadAnswer: ROUTE or SPLITS.
    """
    if not 1 <= len(route) <= MAX_STEPS:
        raise BadAnswer(Reason.ROUTE, f"{len(route)} steps")
    shares: dict[str, int] = defaultdict(int)
    for step in route:
        for address in (step.pool, step.token_in, step.token_out):
            if address and mint_problem(address):
                raise BadAnswer(Reason.ROUTE, "an address in a step is none")
        if len(step.venue) > MAX_LABEL or not step.venue.isprintable():
            raise BadAnswer(Reason.ROUTE, "a step's venue is no name")
        if not 1 <= step.share_bps <= FULL_BPS:
            raise BadAnswer(Reason.SPLITS, f"a share of {step.share_bps} bps")
        shares[step.token_in] += step.share_bps
    made = {step.token_out for step in route}
    # Neither does a step give what goes in, nor one take what comes out.
    if made - {ask.token_out} != set(shares) - {ask.token_in}:
        raise BadAnswer(Reason.ROUTE, "what one step gives is not what another takes")
    for token, share in shares.items():
        if share != FULL_BPS:
            raise BadAnswer(Reason.SPLITS, f"{share} bps of {token}")
    if _circular(route, ask.token_in):
        raise BadAnswer(Reason.ROUTE, "the steps go in a circle")


def _circular(route: Route, start: str) -> bool:
    """Tell whether some token's steps wait for each other: none of them can be the first."""
    there, left = {start}, list(route)
    while left:
        # A token is there when no step that is still to come makes it.
        ready = [step for step in left if step.token_in in there]
        if not ready:
            return True
        left = [step for step in left if step.token_in not in there]
        coming = {step.token_out for step in left}
        there |= {step.token_out for step in route} - coming
    return False


def _check_amounts(answer: Answer) -> None:
    """Check that no more goes in than there is and that no more comes out than the steps give, where they tell."""
    if not all(step.amount_in and step.amount_out for step in answer.route):
        return
    taken = sum(step.amount_in for step in answer.route if step.token_in == answer.token_in)
    given = sum(step.amount_out for step in answer.route if step.token_out == answer.token_out)
    if taken > answer.amount_in or answer.amount_out > given:
        raise BadAnswer(Reason.AMOUNTS, f"{taken} of {answer.amount_in} in, {answer.amount_out} of {given} out")


def shares_of(amounts: Sequence[int]) -> list[int]:
    """Return what part each amount is of their sum, in basis points that add up to the whole."""
    total = sum(amounts)
    if total <= 0:
        return [0] * len(amounts)
    shares = [amount * FULL_BPS // total for amount in amounts]
    # What rounding left over belongs to the largest.
    shares[max(range(len(amounts)), key=lambda index: amounts[index])] += FULL_BPS - sum(shares)
    return shares
