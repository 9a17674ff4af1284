"""What a final transaction was for: a plan's, the owner's bringing or taking, upkeep, or unknown. Pure."""

from __future__ import annotations

from collections.abc import Collection

from markets.solana.transactions.effects import BadTransaction, Effect, fills_of
from markets.solana.transactions.token_accounts import ASSOCIATED_PROGRAM
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAMS
from markets.tokens import SOL_MINT
from pipeline.ledger import Movement, PlanLink, WalkedTransaction
from pipeline.messages import Leg

LOOKUP_TABLE_PROGRAM = "AddressLookupTab1e1111111111111111111111111"
# What an owner does by hand: pay, send tokens, open and close accounts, keep lookup tables.
_PLAIN = frozenset(
    {
        SYSTEM_PROGRAM,
        *TOKEN_PROGRAMS,
        ASSOCIATED_PROGRAM,
        LOOKUP_TABLE_PROGRAM,
        "ComputeBudget111111111111111111111111111111",
        "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr",
        "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo",
    }
)


def explain(effect: Effect, position: int, wallets: Collection[str], link: PlanLink | None) -> WalkedTransaction:
    """Return what a transaction changed in the wallets, and what for; `position` is its order within its slot."""
    gained = gains(effect)
    fills: tuple[tuple[int, int], ...] = ()
    if link is not None:
        kind = "plan"
        movements = {token: Movement(traded=amount) for token, amount in gained.items()}
        fills = _fills(effect, link)
    elif not any(signer in wallets for signer in effect.signers):
        taken = any(amount < 0 for amount in gained.values())
        kind = "unexplained" if taken else "deposit"
        movements = {
            token: Movement(unexplained=amount) if taken else Movement(moved=amount) for token, amount in gained.items()
        }
    elif all(step.program in _PLAIN for step in effect.steps):
        kind, movements = _by_hand(effect, wallets, gained)
    else:
        kind, movements = "unexplained", {token: Movement(unexplained=amount) for token, amount in gained.items()}
    return WalkedTransaction(
        signature=effect.signature,
        slot=effect.slot,
        position=position,
        block_time=effect.block_time or 0,
        kind=kind,
        failed=effect.error is not None,
        base_fee=effect.base_fee,
        priority_fee=effect.priority_fee,
        tip=effect.tip,
        units=effect.units,
        fills=fills,
        movements=movements,
    )


def gains(effect: Effect) -> dict[str, int]:
    """Return what all wallets together gained, base units by token; lamports under SOL."""
    gained: dict[str, int] = {SOL_MINT: sum(effect.lamports.values())}
    for tokens in effect.tokens.values():
        for mint, amount in tokens.items():
            gained[mint] = gained.get(mint, 0) + amount
    return {token: amount for token, amount in gained.items() if amount}


def _fills(effect: Effect, link: PlanLink) -> tuple[tuple[int, int], ...]:
    legs = [Leg(pool=pool, token_in=token_in, token_out=token_out) for pool, _, token_in, token_out in link.legs]
    try:
        return tuple((fill.amount_in, fill.amount_out) for fill in fills_of(effect, legs, effect.payer))
    except BadTransaction:
        return ()  # what the wallets gained decides


def _by_hand(effect: Effect, wallets: Collection[str], gained: dict[str, int]) -> tuple[str, dict[str, Movement]]:
    """Tell apart what crossed the wallets' border and what the transaction cost."""
    own = {address for accounts in effect.accounts.values() for address in accounts} | effect.transient
    moved: dict[str, int] = {}
    costs = -effect.fee if effect.payer in wallets else 0
    for payment in effect.payments:
        if (payment.source in own) == (payment.destination in own):
            continue
        amount = -payment.lamports if payment.source in own else payment.lamports
        if effect.steps[payment.place].height == 1:
            moved[SOL_MINT] = moved.get(SOL_MINT, 0) + amount
        else:
            costs += amount  # rent of an account that another one owns
    kept: dict[str, int] = {}  # by the mint's program, of what went between our own accounts
    for transfer in effect.transfers:
        from_us, to_us = transfer.source in own, transfer.destination in own
        if from_us and to_us and transfer.mint:
            kept[transfer.mint] = kept.get(transfer.mint, 0) + (transfer.fee or 0)
        elif from_us != to_us and transfer.mint:
            amount = -transfer.amount if from_us else transfer.amount - (transfer.fee or 0)
            moved[transfer.mint] = moved.get(transfer.mint, 0) + amount
    # A lookup table gives its rent back when it is closed; no instruction names the amount.
    returned = any(step.program == LOOKUP_TABLE_PROGRAM for step in effect.steps)
    movements: dict[str, Movement] = {}
    for token in gained.keys() | moved.keys():
        crossed = moved.get(token, 0)
        rest = gained.get(token, 0) - crossed
        upkeep = -kept.get(token, 0)
        if token == SOL_MINT:
            upkeep = rest if returned and rest > costs else costs
        movements[token] = Movement(moved=crossed, upkeep=upkeep, unexplained=rest - upkeep)
    if any(one.unexplained for one in movements.values()):
        return "unexplained", movements
    if any(one.moved < 0 for one in movements.values()):
        return "withdrawal", movements
    return ("deposit" if any(one.moved > 0 for one in movements.values()) else "upkeep"), movements
