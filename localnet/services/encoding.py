"""Transactions of the chain in every encoding, with all that is told beside them.

Shapes: transaction-status-client-types and transaction-status of anza-xyz/agave.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache

import base58
from solders.instruction import CompiledInstruction
from solders.message import Message, MessageV0
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import InnerInstruction

from localnet.chain.prepared import writable_static
from localnet.chain.records import Record, TokenBalance
from localnet.services.errors import invalid, unsupported_version
from localnet.services.instructions import memos_of, parsed_instruction
from localnet.services.parsed import Decimals, ui_amount

ENCODINGS = ("json", "jsonParsed", "base64", "base58", "binary")


def encoding_of(given: object) -> str:
    """Return the encoding of transactions that a call asks for; "json" where it names none."""
    if given is None:
        return "json"
    if given not in ENCODINGS:
        raise invalid(f"Invalid params: unknown variant `{given}`, expected one of {', '.join(ENCODINGS)}.")
    return str(given)


def version_of(transaction: VersionedTransaction) -> int | str:
    """Return a version's number, or "legacy"."""
    message = transaction.message
    if isinstance(message, Message):
        return "legacy"
    return 0 if isinstance(message, MessageV0) else 1


def told(record: Record, encoding: str, newest_version: int | None) -> dict[str, object]:
    """Return transaction, meta and version.

    Raises:
        MethodError: -32015 where the reader does not know the transaction's version.
    """
    version = version_of(record.transaction)
    if isinstance(version, int) and (newest_version is None or version > newest_version):
        raise unsupported_version(version)
    body: dict[str, object] = {
        "meta": meta_of(record, as_parsed=encoding == "jsonParsed"),
        "transaction": _transaction(record, encoding),
    }
    if newest_version is not None:
        body["version"] = version
    return body


def _transaction(record: Record, encoding: str) -> object:
    if encoding in ("json", "jsonParsed"):
        signatures = [str(one) for one in record.transaction.signatures]
        message = _parsed_message(record) if encoding == "jsonParsed" else _message(record.transaction)
        return {"message": message, "signatures": signatures}
    raw = bytes(record.transaction)
    if encoding == "base64":
        return [base64.b64encode(raw).decode(), "base64"]
    text = base58.b58encode(raw).decode()
    return text if encoding == "binary" else [text, "base58"]


def _message(transaction: VersionedTransaction) -> dict[str, object]:
    message = transaction.message
    header = message.header
    body: dict[str, object] = {
        "accountKeys": [str(key) for key in message.account_keys],
        "header": {
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
            "numRequiredSignatures": header.num_required_signatures,
        },
        "instructions": [_compiled(one, None) for one in message.instructions],
        "recentBlockhash": str(message.recent_blockhash),
    }
    return body | _lookups(transaction)


def _lookups(transaction: VersionedTransaction) -> dict[str, object]:
    message = transaction.message
    if not isinstance(message, MessageV0):
        return {}
    return {
        "addressTableLookups": [
            {
                "accountKey": str(one.account_key),
                "readonlyIndexes": list(one.readonly_indexes),
                "writableIndexes": list(one.writable_indexes),
            }
            for one in message.address_table_lookups
        ]
    }


def _compiled(called: CompiledInstruction, height: int | None) -> dict[str, object]:
    return {
        "accounts": list(called.accounts),
        "data": base58.b58encode(called.data).decode(),
        "programIdIndex": called.program_id_index,
        "stackHeight": height,
    }


def _parsed_message(record: Record) -> dict[str, object]:
    message = record.transaction.message
    decimals = _decimals_beside(record)
    body: dict[str, object] = {
        "accountKeys": [
            {
                "pubkey": key,
                "signer": number < message.header.num_required_signatures,
                "source": "transaction" if number < len(message.account_keys) else "lookupTable",
                "writable": writable,
            }
            for number, (key, writable) in enumerate(zip(record.keys, _writable(record), strict=True))
        ],
        "instructions": [_meant(record.keys, one, None, decimals) for one in message.instructions],
        "recentBlockhash": str(message.recent_blockhash),
    }
    return body | _lookups(record.transaction)


def _meant(
    keys: Sequence[str], called: CompiledInstruction, height: int | None, decimals: Decimals
) -> dict[str, object]:
    accounts = [keys[one] for one in called.accounts]
    return parsed_instruction(keys[called.program_id_index], accounts, called.data, height, decimals)


def _writable(record: Record) -> list[bool]:
    message = record.transaction.message
    # The chain runs no others: it refuses what it cannot order.
    assert isinstance(message, (Message, MessageV0))
    flags = writable_static(message)
    return flags + [True] * len(record.loaded_writable) + [False] * len(record.loaded_readonly)


def _decimals_beside(record: Record) -> Decimals:
    known = {one.mint: one.decimals for one in (*record.pre_token_balances, *record.post_token_balances)}
    return known.get


def meta_of(record: Record, *, as_parsed: bool = False) -> dict[str, object]:
    """Return what became of a transaction: fee, balances, logs, inner instructions, error."""
    body: dict[str, object] = {
        "computeUnitsConsumed": record.units,
        "err": record.error,
        "fee": record.fee,
        "innerInstructions": inner_of(
            record.inner_instructions, record.keys, _decimals_beside(record), as_parsed=as_parsed
        ),
        "logMessages": list(record.logs),
        "postBalances": list(record.post_balances),
        "postTokenBalances": [_token_balance(one) for one in record.post_token_balances],
        "preBalances": list(record.pre_balances),
        "preTokenBalances": [_token_balance(one) for one in record.pre_token_balances],
        "rewards": [],
        "status": {"Ok": None} if record.error is None else {"Err": record.error},
    }
    if not as_parsed:
        body["loadedAddresses"] = {
            "readonly": list(record.loaded_readonly),
            "writable": list(record.loaded_writable),
        }
    if record.return_data is not None:
        body["returnData"] = return_data_of(record.return_data)
    return body


def return_data_of(returned: tuple[str, bytes]) -> dict[str, object]:
    """Return what a program returned, and which one."""
    return {"data": [base64.b64encode(returned[1]).decode(), "base64"], "programId": returned[0]}


def inner_of(
    inner: Sequence[Sequence[InnerInstruction]], keys: Sequence[str], decimals: Decimals, *, as_parsed: bool
) -> list[dict[str, object]]:
    """Return the inner instructions of those top-level instructions that have any."""
    return [
        {"index": index, "instructions": [_inner(one, keys, decimals, as_parsed=as_parsed) for one in group]}
        for index, group in enumerate(inner)
        if group
    ]


def _inner(one: InnerInstruction, keys: Sequence[str], decimals: Decimals, *, as_parsed: bool) -> dict[str, object]:
    called, height = one.instruction(), one.stack_height()
    if as_parsed:
        return _meant(keys, called, height, decimals)
    return _compiled(called, height)


def _token_balance(balance: TokenBalance) -> dict[str, object]:
    return {
        "accountIndex": balance.account_index,
        "mint": balance.mint,
        "owner": balance.owner,
        "programId": balance.program,
        "uiTokenAmount": dict(_ui_amount(balance.amount, balance.decimals)),
    }


@lru_cache(maxsize=4096)
def _ui_amount(amount: int, decimals: int) -> tuple[tuple[str, object], ...]:
    told: dict[str, object] = ui_amount(amount, decimals)
    if not amount:
        # Nodes tell no amount of an empty account beside transactions.
        told["uiAmount"] = None
    return tuple(told.items())


def memo_of(record: Record) -> str | None:
    """Return the memos of a transaction."""
    calls = record.transaction.message.instructions
    return memos_of([(record.keys[one.program_id_index], bytes(one.data)) for one in calls])
