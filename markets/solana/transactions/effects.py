"""What a transaction did: lamports and tokens of our wallets, fees, tip, transfers, and what each leg of a cycle gave.

Balances before and after decide what a wallet gained; instructions tell where it came from. A wallet's lamports are
those of all accounts that it owns: its system account and its token accounts, rent and wrapped SOL included. So opening
an account, or wrapping SOL, costs nothing but the fee, and wrapped SOL is in no figure twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from markets.solana.transactions.landed import BadTransaction, Holding, Landed, data_of, read_landed
from markets.solana.transactions.moves import Opened, Payment, TokenMove, moves_of
from markets.solana.transactions.tips import TIP_ACCOUNTS
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAMS
from markets.tokens import SOL_MINT

__all__ = ["BadTransaction", "Effect", "LegFill", "Payment", "Step", "Transfer", "effect_of", "fills_of"]

LAMPORTS_PER_SIGNATURE = 5_000
_TIPS = frozenset(TIP_ACCOUNTS)
# Programs that check signatures: their data begins with how many, and each costs as much as the transaction's own.
_CHECKERS = frozenset(
    {
        "Ed25519SigVerify111111111111111111111111111",
        "KeccakSecp256k11111111111111111111111111111",
        "Secp256r1SigVerify1111111111111111111111111",
    }
)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Tokens that went from one token account to another, were minted (no source) or burnt (no destination)."""

    place: int
    """Index among the effect's steps."""
    source: str
    destination: str
    source_owner: str
    """Wallet or program that owns the source; empty where it is not known."""
    destination_owner: str
    mint: str
    """Empty where neither the instruction nor a balance names it."""
    amount: int
    """What left the source, base units."""
    fee: int | None
    """What the mint's program kept back of it, base units; None where that cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction as it ran, an inner one after the one that called it."""

    height: int
    program: str
    accounts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Effect:
    """What a transaction did."""

    signature: str
    slot: int
    block_time: int | None
    """Unix time of its block, s."""
    error: str | dict[str, Any] | None
    """Why it failed, as JSON-RPC shows it; None where it succeeded."""
    payer: str
    """Account that paid the fee."""
    signers: tuple[str, ...]
    fee: int
    """base_fee + priority_fee, lamports. The tip is apart."""
    base_fee: int
    priority_fee: int
    tip: int
    """Paid to block engine tip accounts, lamports; 0 where the transaction failed."""
    units: int
    """Compute units used."""
    lamports: dict[str, int]
    """Wallet -> what all accounts that it owns gained, lamports."""
    tokens: dict[str, dict[str, int]]
    """Wallet -> mint -> what it gained, base units; mints that did not change are left out, and wrapped SOL always."""
    accounts: dict[str, dict[str, Account]]
    """Wallet -> address -> each account of it that the transaction named."""
    transfers: tuple[Transfer, ...]
    """In the order in which they ran; none where the transaction failed."""
    payments: tuple[Payment, ...]
    """Lamports moved by the system and stake programs, in order; none where the transaction failed."""
    steps: tuple[Step, ...]
    transient: frozenset[str]
    """Accounts without a lamport before and after: opened and closed in between, or never there."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account of a wallet beside a transaction; nothing stands in it while the wallet does not own it."""

    mint: str
    """Empty for the wallet's system account."""
    lamports_before: int
    lamports_after: int
    amount_before: int
    """Base units of the mint; 0 in the system account."""
    amount_after: int


@dataclass(frozen=True, slots=True)
class LegFill:
    """What one leg really took and gave, base units."""

    pool: str
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int


class LegLike(Protocol):
    """What is needed of a leg: where it swaps, and what for what."""

    @property
    def pool(self) -> str:
        """Return the pool's address."""

    @property
    def token_in(self) -> str:
        """Return the mint of the token given."""

    @property
    def token_out(self) -> str:
        """Return the mint of the token taken."""


def effect_of(transaction: Mapping[str, Any], wallets: Collection[str]) -> Effect:
    """Explain the result of getTransaction (encoding json, base64 or jsonParsed) to the lamport.

    `wallets` are the addresses whose gains are wanted.

    Raises:
        BadTransaction: if the answer is not sound, or its lamports do not add up.
    """
    landed = read_landed(transaction)
    if sum(landed.lamports_before) - sum(landed.lamports_after) != landed.fee:
        raise BadTransaction("the balances before and after do not differ by the fee")
    if landed.error is not None:
        _check_failed(landed)
    base_fee = min(landed.fee, LAMPORTS_PER_SIGNATURE * _signatures(landed))
    moves = [] if landed.error is not None else _moves(landed)
    payments = tuple([move for move in moves if isinstance(move, Payment)])
    accounts = _accounts(landed, frozenset(wallets))
    return Effect(
        signature=landed.signature,
        slot=landed.slot,
        block_time=landed.block_time,
        error=landed.error,
        payer=landed.keys[0],
        signers=landed.signers,
        fee=landed.fee,
        base_fee=base_fee,
        priority_fee=landed.fee - base_fee,
        tip=sum([one.lamports for one in payments if one.destination in _TIPS]),
        units=landed.units,
        lamports={
            wallet: sum([one.lamports_after - one.lamports_before for one in owned.values()])
            for wallet, owned in accounts.items()
        },
        tokens={wallet: _gained(owned) for wallet, owned in accounts.items()},
        accounts=accounts,
        transfers=_transfers(landed, moves),
        payments=payments,
        steps=tuple([Step(one.height, one.program, one.accounts) for one in landed.instructions]),
        transient=frozenset(
            key
            for key, before, after in zip(landed.keys, landed.lamports_before, landed.lamports_after, strict=True)
            if not before and not after
        ),
    )


def fills_of(effect: Effect, legs: Sequence[LegLike], wallet: str) -> tuple[LegFill, ...]:
    """Return what each leg of a cycle took from the wallet and gave it; nothing for a transaction that failed.

    A leg is the next instruction that names its pool and calls no other one that does. SOL counts however it came:
    wrapped, or as lamports.

    Raises:
        BadTransaction: if a leg's pool was not called in its turn, or what a leg gave cannot be told from a fee.
    """
    if effect.error is not None:
        return ()
    fills: list[LegFill] = []
    begin = 0
    for number, leg in enumerate(legs):
        place = _place(effect.steps, leg.pool, begin)
        if place is None:
            raise BadTransaction(f"leg {number} never called its pool {leg.pool}")
        begin = _end(effect.steps, place)
        taken, given = 0, 0
        for move in effect.transfers:
            if place <= move.place < begin:
                from_us, to_us = move.source_owner == wallet, move.destination_owner == wallet
                if from_us and not to_us and move.mint == leg.token_in:
                    taken += move.amount
                elif to_us and not from_us and move.mint == leg.token_out:
                    if move.fee is None:
                        raise BadTransaction(f"leg {number}: its token's fee cannot be told")
                    given += move.amount - move.fee
        paid, received = _lamports_between(effect, wallet, place, begin)
        taken += paid if leg.token_in == SOL_MINT else 0
        given += received if leg.token_out == SOL_MINT else 0
        fills.append(LegFill(leg.pool, leg.token_in, leg.token_out, taken, given))
    return tuple(fills)


def _place(steps: Sequence[Step], pool: str, begin: int) -> int | None:
    """Return the innermost of the next instructions that name the pool."""
    for place in range(begin, len(steps)):
        step = steps[place]
        if pool in step.accounts and step.program not in TOKEN_PROGRAMS and step.program != SYSTEM_PROGRAM:
            inner = _place(steps[: _end(steps, place)], pool, place + 1)
            return place if inner is None else inner
    return None


def _end(steps: Sequence[Step], place: int) -> int:
    """Return the index after the last instruction that the one at `place` called."""
    end = place + 1
    while end < len(steps) and steps[end].height > steps[place].height:
        end += 1
    return end


def _lamports_between(effect: Effect, wallet: str, begin: int, end: int) -> tuple[int, int]:
    """Return the lamports that the wallet paid to others and received, outside of token accounts."""
    own = effect.accounts.get(wallet, {})
    paid = received = 0
    for one in effect.payments:
        if begin <= one.place < end and (one.source in own) != (one.destination in own):
            if one.source in own:
                paid += one.lamports
            else:
                received += one.lamports
    return paid, received


def _check_failed(landed: Landed) -> None:
    """Hold a failed transaction to what the chain promises: nothing but the fee moved."""
    changes = [after - before for before, after in zip(landed.lamports_before, landed.lamports_after, strict=True)]
    if changes[0] != -landed.fee or any(changes[1:]):
        raise BadTransaction("a failed transaction moved lamports beyond its fee")
    if landed.tokens_before != landed.tokens_after:
        raise BadTransaction("a failed transaction moved tokens")


def _signatures(landed: Landed) -> int:
    """Return how many signatures were paid for."""
    count = len(landed.signers)
    for one in landed.instructions:
        if one.height == 1 and one.program in _CHECKERS and one.parsed is None:
            count += sum(data_of(one)[:1])
    return count


def _accounts(landed: Landed, wallets: frozenset[str]) -> dict[str, dict[str, Account]]:
    found: dict[str, dict[str, Account]] = {}
    for index, key in enumerate(landed.keys):
        if key in wallets:
            before, after = landed.lamports_before[index], landed.lamports_after[index]
            found.setdefault(key, {})[key] = Account("", before, after, 0, 0)
    for index in sorted({*landed.tokens_before, *landed.tokens_after}):
        holders = {held[index].owner for held in (landed.tokens_before, landed.tokens_after) if index in held}
        for owner in holders & wallets:
            found.setdefault(owner, {})[landed.keys[index]] = _account(owner, landed, index)
    return found


def _account(owner: str, landed: Landed, index: int) -> Account:
    """Return a token account as far as the wallet owned it: before the transaction, after it, or both."""
    was, now = (_if_of(owner, held.get(index)) for held in (landed.tokens_before, landed.tokens_after))
    if was is not None and now is not None and was.mint != now.mint:
        # Closed, and opened again for another token: the old one's tokens cannot have stayed in it.
        if was.amount:
            raise BadTransaction("a token account became one of another token while it held some")
        was = Holding(now.mint, owner, 0)
    return Account(
        mint=(now or was or Holding("", "", 0)).mint,
        lamports_before=landed.lamports_before[index] if was is not None else 0,
        lamports_after=landed.lamports_after[index] if now is not None else 0,
        amount_before=was.amount if was is not None else 0,
        amount_after=now.amount if now is not None else 0,
    )


def _if_of(owner: str, holding: Holding | None) -> Holding | None:
    return holding if holding is not None and holding.owner == owner else None


def _gained(accounts: Mapping[str, Account]) -> dict[str, int]:
    gained: dict[str, int] = {}
    for one in accounts.values():
        if one.mint and one.mint != SOL_MINT:
            gained[one.mint] = gained.get(one.mint, 0) + one.amount_after - one.amount_before
    return {mint: amount for mint, amount in gained.items() if amount}


def _moves(landed: Landed) -> list[TokenMove | Opened | Payment]:
    return [move for place, one in enumerate(landed.instructions) for move in moves_of(place, one)]


def _transfers(landed: Landed, moves: Sequence[TokenMove | Opened | Payment]) -> tuple[Transfer, ...]:
    """Put names to what moved: whose account, which mint, which fee."""
    known: dict[str, Holding] = {}
    for move in moves:
        if isinstance(move, Opened):
            known[move.account] = Holding(move.mint, move.owner, 0)
    for index, holding in (*landed.tokens_after.items(), *landed.tokens_before.items()):
        known[landed.keys[index]] = holding
    nobody = Holding("", "", 0)
    moved = [move for move in moves if isinstance(move, TokenMove)]
    fees = _fees(landed, moved)
    found: list[Transfer] = []
    for move in moved:
        source, destination = known.get(move.source, nobody), known.get(move.destination, nobody)
        mint = move.mint or source.mint or destination.mint
        fee = move.fee if move.fee is not None else fees.get(move.destination, 0)
        owners = source.owner, destination.owner
        found.append(Transfer(move.place, move.source, move.destination, *owners, mint, move.amount, fee))
    return tuple(found)


def _fees(landed: Landed, moves: Sequence[TokenMove]) -> dict[str, int | None]:
    """Return what each account got less than was sent to it, where no instruction told; None where several share it."""
    short: dict[str, int] = {}
    untold: dict[str, int] = {}
    for move in moves:
        short[move.destination] = short.get(move.destination, 0) + move.amount - (move.fee or 0)
        short[move.source] = short.get(move.source, 0) - move.amount
        if move.fee is None:
            untold[move.destination] = untold.get(move.destination, 0) + 1
    if not untold:
        return {}
    for index, holding in landed.tokens_before.items():
        if (key := landed.keys[index]) in untold:
            short[key] += holding.amount
    for index, holding in landed.tokens_after.items():
        if (key := landed.keys[index]) in untold:
            short[key] -= holding.amount
    # A negative rest is no fee: something that is not decoded here brought more.
    return {key: (short[key] if count == 1 else None) if short[key] > 0 else 0 for key, count in untold.items()}
