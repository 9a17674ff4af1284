"""One cycle as one transaction: compute limit, price, a swap per leg, the tip last. Pure.

No leg can lose anything on chain, whatever the pools have become since the quote. Every swap takes an exact input, so
leg by leg the minimum output is what the next leg takes: a leg that gives less fails, and with it everything; one that
gives more leaves the surplus in the wallet. What was in the wallet before is never spent but for the first leg's input,
and the last leg gives back at least `min_amount_out`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey

from markets.solana.transactions.keys import pubkey
from markets.solana.transactions.lookup_tables import chosen
from markets.solana.transactions.tips import tip_instruction
from markets.solana.transactions.token_accounts import associated_address, wrap_sol
from markets.solana.venues import VENUES, Accounts, BadAccount, Swap, Venue
from markets.solana.venues import Instruction as VenueInstruction
from markets.solana.venues.shape import TOKEN_PROGRAM, data_of, token_program
from markets.tokens import SOL_MINT
from pipeline.messages import Leg, Protocol

MAX_BYTES = 1232
"""Of a transaction with its signatures: what fits into one packet."""
_SIGNATURE_BYTES = 64
_U64_MAX = 2**64 - 1


class Unbuildable(ValueError):
    """An order that no transaction can be made of; `reason` is stable."""

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the reason beside the sentence."""
        super().__init__(detail)
        self.reason = reason


class TooLarge(Unbuildable):
    """A transaction that does not fit into a packet."""

    def __init__(self, size: int) -> None:
        """Keep how many bytes it would have."""
        super().__init__("too_large", f"the transaction would have {size} bytes, {MAX_BYTES} fit")
        self.size = size


@dataclass(frozen=True, slots=True)
class CycleOrder:
    """What to put into a transaction."""

    legs: Sequence[Leg]
    """In order of execution; their amounts in, after the first's, are what each leg is told to take."""
    token: str
    """Mint that the cycle starts and ends in."""
    amount_in: int
    """Given to the first leg, base units of `token`."""
    min_amount_out: int
    """Least that the last leg must give, base units of `token`."""
    wallet: str
    """Signer, fee payer, and owner of every token account."""
    compute_limit: int
    """Compute units."""
    micro_lamports: int
    """Priority price, millionths of a lamport per compute unit; 0 offers none."""
    tip: int
    """Lamports; 0 tips nobody."""
    tip_account: str


@dataclass(frozen=True, slots=True)
class Needs:
    """What a wallet must hold before a cycle begins, beside fees and rent."""

    tokens: dict[str, int]
    """Base units by mint; wrapped SOL stands under SOL's mint."""
    lamports: int
    """Where a program takes lamports instead of wrapped SOL, and the tip."""


def build_cycle(
    order: CycleOrder, accounts: Accounts, tables: Sequence[AddressLookupTableAccount], blockhash: str
) -> MessageV0:
    """Return the message to sign: `accounts` hold each leg's pool and what its venue's swap needs.

    Raises:
        Unbuildable: if the legs are no cycle, or one of them cannot be guarded.
        TooLarge: if it does not fit into one packet.
        BadAccount: if an account is missing or not what it should be.
    """
    instructions = cycle_instructions(order, accounts)
    own = {
        pubkey(associated_address(order.wallet, mint, _program_of(accounts, order.legs, mint)))
        for mint in mints_of(order.legs)
    }
    return compiled(order.wallet, instructions, tables, blockhash, own)


def cycle_instructions(order: CycleOrder, accounts: Accounts) -> list[Instruction]:
    """Return the instructions of a cycle, in order.

    Raises:
        Unbuildable, BadAccount: as `build_cycle`.
    """
    guards = minimums(order)
    made = [set_compute_unit_limit(order.compute_limit)]
    if order.micro_lamports:
        made.append(set_compute_unit_price(order.micro_lamports))
    last = len(order.legs) - 1
    for index, leg in enumerate(order.legs):
        taken = order.amount_in if index == 0 else leg.amount_in
        made.append(_swap(order, accounts, leg, taken, guards[index]))
        if _gives_lamports(leg) and not _takes_lamports(order.legs[0 if index == last else index + 1]):
            # The stake pool paid the wallet itself. What comes next takes wrapped SOL: the next leg, or the next cycle.
            made += wrap_sol(order.wallet, guards[index])
    if order.tip:
        made.append(tip_instruction(order.wallet, order.tip_account, order.tip))
    return made


def minimums(order: CycleOrder) -> list[int]:
    """Return the least that each leg must give: what the next one takes, at the end the cycle's own minimum.

    Raises:
        Unbuildable: `not_a_cycle`, `no_amount`, `admits_a_loss` or `minimum_not_enforced`.
    """
    legs = order.legs
    if len(legs) < 2 or legs[0].token_in != order.token or legs[-1].token_out != order.token:
        raise Unbuildable("not_a_cycle", "the legs do not begin and end in the cycle's token")
    for one, following in pairwise(legs):
        if one.token_out != following.token_in:
            raise Unbuildable("not_a_cycle", "a leg takes another token than the one before it gives")
    if order.min_amount_out < order.amount_in:
        raise Unbuildable("admits_a_loss", f"{order.amount_in} in for a minimum of {order.min_amount_out} out")
    found = [max(leg.min_amount_out, following.amount_in) for leg, following in pairwise(legs)]
    found.append(max(legs[-1].min_amount_out, order.min_amount_out))
    if min(order.amount_in, *found) <= 0 or max(order.amount_in, *found) > _U64_MAX:
        raise Unbuildable("no_amount", "an amount of the cycle is 0, or more than 64 bits hold")
    for leg in legs:
        if not venue_of(leg).ENFORCES_MINIMUM:
            name = Protocol(leg.protocol).name
            raise Unbuildable("minimum_not_enforced", f"{name} enforces no minimum output: it cannot be in a cycle")
    return found


def needs_of(order: CycleOrder) -> Needs:
    """Return what the wallet must hold: the first leg's input, lamports that stake pools take, and the tip."""
    lamports = order.tip
    tokens: dict[str, int] = {}
    for index, leg in enumerate(order.legs):
        if _takes_lamports(leg):
            before = order.legs[index - 1] if index else None
            # Wrapped SOL that the leg before gave does not help: unwrapping closes the whole account.
            if before is None or not _gives_lamports(before):
                lamports += leg.amount_in if index else order.amount_in
        elif index == 0:
            tokens[leg.token_in] = order.amount_in
    return Needs(tokens, lamports)


def mints_of(legs: Sequence[Leg]) -> list[str]:
    """Return the tokens whose accounts a cycle uses, each once."""
    return list(dict.fromkeys(leg.token_in for leg in legs))


def compiled(
    payer: str,
    instructions: Sequence[Instruction],
    tables: Sequence[AddressLookupTableAccount],
    blockhash: str,
    own: Collection[Pubkey] = (),
) -> MessageV0:
    """Return a version 0 message of these instructions; `own` accounts are named in it and never looked up.

    Raises:
        TooLarge: if it does not fit into one packet.
    """
    keys = {meta.pubkey for one in instructions for meta in one.accounts if not meta.is_signer}
    message = MessageV0.try_compile(
        pubkey(payer), list(instructions), chosen(tables, keys, own), Hash.from_string(blockhash)
    )
    size = transaction_bytes(message)
    if size > MAX_BYTES:
        raise TooLarge(size)
    return message


def transaction_bytes(message: MessageV0) -> int:
    """Return how long a message is with its signatures, bytes."""
    signatures = message.header.num_required_signatures
    return 1 + _SIGNATURE_BYTES * signatures + len(to_bytes_versioned(message))


def venue_of(leg: Leg) -> Venue:
    """Return the venue that a leg swaps at.

    Raises:
        Unbuildable: `unknown_venue` if there is none.
    """
    try:
        return VENUES[Protocol(leg.protocol)]
    except (KeyError, ValueError):
        raise Unbuildable("unknown_venue", f"no venue {leg.protocol} is known") from None


def _swap(order: CycleOrder, accounts: Accounts, leg: Leg, taken: int, minimum: int) -> Instruction:
    venue = venue_of(leg)
    owner, data = data_of(accounts, leg.pool, "pool")
    if owner not in venue.PROGRAMS:
        raise BadAccount("wrong_owner", f"pool {leg.pool} is owned by {owner}, which is not its venue's program")
    token_a, token_b = venue.mints(data)
    a_to_b = leg.token_in == token_a
    if (leg.token_in, leg.token_out) not in ((token_a, token_b), (token_b, token_a)):
        raise Unbuildable("wrong_tokens", f"pool {leg.pool} does not hold the leg's tokens")
    swap = Swap(
        a_to_b=a_to_b,
        amount_in=taken,
        min_amount_out=minimum,
        user=order.wallet,
        source=associated_address(order.wallet, leg.token_in, _program_of(accounts, order.legs, leg.token_in)),
        destination=associated_address(order.wallet, leg.token_out, _program_of(accounts, order.legs, leg.token_out)),
    )
    return _solders(venue.swap_instruction(leg.pool, accounts, swap))


def _program_of(accounts: Accounts, legs: Sequence[Leg], mint: str) -> str:
    """Return a token's program; one that an AMM v4 pool holds is a classic one, whose mint nobody has to know."""
    if mint == SOL_MINT:
        return TOKEN_PROGRAM
    if mint not in accounts and any(
        leg.protocol == Protocol.RAYDIUM_AMM_V4 and mint in (leg.token_in, leg.token_out) for leg in legs
    ):
        return TOKEN_PROGRAM
    return token_program(accounts, mint)


def _takes_lamports(leg: Leg) -> bool:
    return leg.token_in == SOL_MINT and venue_of(leg).NATIVE_SOL


def _gives_lamports(leg: Leg) -> bool:
    return leg.token_out == SOL_MINT and venue_of(leg).NATIVE_SOL


def _solders(made: VenueInstruction) -> Instruction:
    metas = [_meta(meta.address, meta.signer, meta.writable) for meta in made.metas]
    return Instruction(pubkey(made.program), made.data, metas)


@lru_cache(maxsize=65_536)
def _meta(address: str, signer: bool, writable: bool) -> AccountMeta:
    return AccountMeta(pubkey(address), signer, writable)
