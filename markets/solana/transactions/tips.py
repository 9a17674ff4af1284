"""Block engine tips: the accounts that they go to, and the transfer that pays one.

Source of the addresses: Jito's public documentation of `getTipAccounts`; any of the eight may be paid.
"""

from __future__ import annotations

from solders.instruction import Instruction
from solders.system_program import TransferParams, transfer

from markets.solana.transactions.keys import pubkey

TIP_ACCOUNTS = (
    "96gYZGLnJYVFmbjzopPSU6QiEV5fGqZNyN9nmNhvrZU5",
    "HFqU5x63VTqvQss8hp11i4wVV8bD44PvwucfZ2bU7gRe",
    "Cw8CFyM9FkoMi7K7Crf6HNQqf4uEMzpKw6QNghXLvLkY",
    "ADaUMid9yfUytqMBgopwjb2DTLSokTSzL1zt6iGPaS49",
    "DfXygSm4jCyNCybVYYK6DwvWqjKee8pbDmJGcLWNDXjh",
    "ADuUkR4vqLUMWXxW9gh6D6L8pMSawimctcNZ5pGwDcEt",
    "DttWaMuVvTiduZRnguLF7jNxTgiMBZ1hyAumKUiL2KRL",
    "3AVi9Tg9Uo68tJfuvoKvqKNWKkC5wPdSSdeBnizKZ6jT",
)


def tip_instruction(payer: str, account: str, lamports: int) -> Instruction:
    """Return the transfer of a tip, lamports; it is paid only where its whole transaction succeeds.

    Raises:
        ValueError: if nothing is paid, or not to a tip account.
    """
    if account not in TIP_ACCOUNTS:
        raise ValueError(f"{account} is no tip account")
    if lamports <= 0:
        raise ValueError(f"a tip is positive, not {lamports}")
    return transfer(TransferParams(from_pubkey=pubkey(payer), to_pubkey=pubkey(account), lamports=lamports))


def tip_account(plan_id: str) -> str:
    """Return the account that a plan tips: the same for the same plan, and all of them equally often.

    Transactions that write the same account wait for each other.
    """
    return TIP_ACCOUNTS[sum(plan_id.encode()) % len(TIP_ACCOUNTS)]
