"""Token balances beside a transaction, read from the accounts themselves.

Layouts: the SPL token program's `Account` (165 bytes) and `Mint` (82); Token-2022 puts extensions behind the first 165
and says in byte 165 which of the two it is.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import base58

from localnet.chain.records import TokenBalance
from localnet.chain_view import ChainAccount
from markets.solana.venues.shape import TOKEN_PROGRAMS

_ACCOUNT_BYTES = 165
_KIND_ACCOUNT = 2
_STATE = 108


def token_balances(keys: Sequence[str], accounts: Mapping[str, ChainAccount]) -> tuple[TokenBalance, ...]:
    """Return what the token accounts among a transaction's keys hold, in the order of the keys.

    None where the transaction names no token program: a node looks no further then either.
    """
    if not any(program in keys for program in TOKEN_PROGRAMS):
        return ()
    found = []
    for index, key in enumerate(keys):
        account = accounts.get(key)
        if account is None or account.owner not in TOKEN_PROGRAMS or not _is_token_account(account.data):
            continue
        mint = _text(account.data[:32])
        decimals = _decimals(accounts.get(mint))
        if decimals is not None:
            amount: int = struct.unpack_from("<Q", account.data, 64)[0]
            owner = _text(account.data[32:64])
            found.append(TokenBalance(index, mint, owner, account.owner, amount, decimals))
    return tuple(found)


def _is_token_account(data: bytes) -> bool:
    if len(data) < _ACCOUNT_BYTES or data[_STATE] == 0:
        return False
    return len(data) == _ACCOUNT_BYTES or data[_ACCOUNT_BYTES] == _KIND_ACCOUNT


def _decimals(mint: ChainAccount | None) -> int | None:
    return mint.data[44] if mint is not None and mint.owner in TOKEN_PROGRAMS and len(mint.data) >= 82 else None


_texts: dict[bytes, str] = {}


def _text(key: bytes) -> str:
    """Return an address as text; few mints and owners come up again and again."""
    text = _texts.get(key)
    if text is None:
        if len(_texts) > 100_000:
            _texts.clear()
        text = _texts[key] = base58.b58encode(key).decode()
    return text
