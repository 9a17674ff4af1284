"""Token accounts of a wallet: where they are, how they are opened, and SOL in its wrapped form.

Layouts: the associated token account program's and the token program's published instructions. Accounts are opened when
a wallet is prepared, never inside a trade.
"""

from __future__ import annotations

from functools import lru_cache

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from markets.solana.transactions.keys import pubkey
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAM, TOKEN_PROGRAMS
from markets.tokens import SOL_MINT

ASSOCIATED_PROGRAM = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL"
TOKEN_ACCOUNT_BYTES = 165
"""Of a classic token account; one of Token-2022 may be longer."""
TOKEN_ACCOUNT_RENT = 2_039_280
"""Lamports that keep a classic token account alive; they come back when it is closed."""

_CREATE_IDEMPOTENT = bytes([1])
_CLOSE_ACCOUNT, _SYNC_NATIVE = bytes([9]), bytes([17])


@lru_cache(maxsize=65_536)
def associated_address(owner: str, mint: str, program: str = TOKEN_PROGRAM) -> str:
    """Return where a wallet holds a token; `program` is the token program that the mint belongs to.

    Raises:
        ValueError: if that is no token program.
    """
    if program not in TOKEN_PROGRAMS:
        raise ValueError(f"{program} is no token program")
    seeds = [bytes(pubkey(owner)), bytes(pubkey(program)), bytes(pubkey(mint))]
    return str(Pubkey.find_program_address(seeds, pubkey(ASSOCIATED_PROGRAM))[0])


def open_account(payer: str, owner: str, mint: str, program: str = TOKEN_PROGRAM) -> Instruction:
    """Return the instruction that opens a wallet's token account; where it is open already, it does nothing."""
    metas = [
        AccountMeta(pubkey(payer), is_signer=True, is_writable=True),
        AccountMeta(pubkey(associated_address(owner, mint, program)), is_signer=False, is_writable=True),
        AccountMeta(pubkey(owner), is_signer=False, is_writable=False),
        AccountMeta(pubkey(mint), is_signer=False, is_writable=False),
        AccountMeta(pubkey(SYSTEM_PROGRAM), is_signer=False, is_writable=False),
        AccountMeta(pubkey(program), is_signer=False, is_writable=False),
    ]
    return Instruction(pubkey(ASSOCIATED_PROGRAM), _CREATE_IDEMPOTENT, metas)


def wrap_sol(owner: str, lamports: int) -> tuple[Instruction, Instruction]:
    """Return the instructions that turn lamports of a wallet into wrapped SOL; its account must be open.

    Raises:
        ValueError: if the amount is not positive.
    """
    if lamports <= 0:
        raise ValueError(f"an amount to wrap is positive, not {lamports}")
    account = associated_address(owner, SOL_MINT)
    moved = transfer(TransferParams(from_pubkey=pubkey(owner), to_pubkey=pubkey(account), lamports=lamports))
    return moved, sync_native(account)


def sync_native(account: str) -> Instruction:
    """Return the instruction that makes a wrapped SOL account's amount follow its lamports."""
    metas = [AccountMeta(pubkey(account), is_signer=False, is_writable=True)]
    return Instruction(pubkey(TOKEN_PROGRAM), _SYNC_NATIVE, metas)


def unwrap_sol(owner: str) -> Instruction:
    """Return the instruction that turns all wrapped SOL of a wallet into lamports, rent included.

    The account is closed by it: wrapped SOL cannot be turned back in part.
    """
    metas = [
        AccountMeta(pubkey(associated_address(owner, SOL_MINT)), is_signer=False, is_writable=True),
        AccountMeta(pubkey(owner), is_signer=False, is_writable=True),
        AccountMeta(pubkey(owner), is_signer=True, is_writable=False),
    ]
    return Instruction(pubkey(TOKEN_PROGRAM), _CLOSE_ACCOUNT, metas)


def rewrap_sol(owner: str, lamports: int) -> list[Instruction]:
    """Return the instructions after which a wallet holds so many lamports as wrapped SOL, and all the others as such.

    One transaction: the account is closed and opened again. For upkeep between trades, as wrapped SOL piles up or runs
    out where stake pools take and give lamports.

    Raises:
        ValueError: if the amount is not positive.
    """
    return [unwrap_sol(owner), open_account(owner, owner, SOL_MINT), *wrap_sol(owner, lamports)]
