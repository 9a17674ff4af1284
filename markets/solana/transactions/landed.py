"""Read what getTransaction answers, in any of its encodings, into one form.

Shapes: Solana's JSON-RPC documentation of getTransaction (encodings json, base64 and jsonParsed; legacy and version
0). Nothing here is believed: every index, number and list is checked, and what is not as it should be
is a `BadTransaction`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import base58
from solders.transaction import VersionedTransaction

_KEYS_MAX = 256
_INSTRUCTIONS_MAX = 4_096
_ACCOUNTS_MAX = 1_024
_DATA_MAX = 20_000
_TRANSACTION_MAX = 8_192
_U64_MAX = 2**64 - 1


class BadTransaction(ValueError):
    """A transaction, or what a node tells of it, that cannot be right; the message says what."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction as it ran: a top-level one, or one called by a program."""

    top: int
    """Index of the top-level instruction it belongs to."""
    height: int
    """1 for a top-level instruction, 2 for what it calls, and so on."""
    program: str
    accounts: tuple[str, ...]
    data: str | bytes
    """As the node gives it: base58 text, or bytes. See `data_of`."""
    parsed: Mapping[str, Any] | None = None
    """What the node made of it instead of accounts and data (encoding jsonParsed)."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A token account beside a transaction."""

    mint: str
    owner: str
    amount: int


@dataclass(frozen=True, slots=True)
class Landed:
    """A transaction in a block."""

    signature: str
    slot: int
    block_time: int | None
    """Unix time of the block as the node tells it, s."""
    error: str | dict[str, Any] | None
    fee: int
    units: int
    """Compute units used; 0 where the node does not tell."""
    keys: tuple[str, ...]
    signers: tuple[str, ...]
    """Accounts that signed; the first one paid the fee."""
    lamports_before: tuple[int, ...]
    lamports_after: tuple[int, ...]
    tokens_before: Mapping[int, Holding]
    """By index of the account among the keys."""
    tokens_after: Mapping[int, Holding]
    instructions: tuple[Instruction, ...]
    """In the order in which they ran, inner ones after the one that called them."""


def read_landed(result: object) -> Landed:
    """Return a transaction from the result of getTransaction.

    Raises:
        BadTransaction: if it is not the whole and sound answer for one transaction.
    """
    answer = _mapping(result, "the result")
    meta = _mapping(answer.get("meta"), "meta")
    before, after = _lamports(meta, "preBalances"), _lamports(meta, "postBalances")
    if len(before) != len(after):
        raise BadTransaction(f"{len(before)} balances before, {len(after)} after")
    signatures, keys, signed, tops = _transaction(answer.get("transaction"), _loaded(meta), len(before))
    if len(keys) != len(before):
        raise BadTransaction(f"{len(keys)} accounts, {len(before)} balances")
    if not 1 <= signed <= len(keys) or len(signatures) != signed:
        raise BadTransaction(f"{len(signatures)} signatures for {signed} signers")
    return Landed(
        signature=_text(signatures[0], "a signature"),
        slot=_number(answer.get("slot"), "slot"),
        block_time=_block_time(answer.get("blockTime")),
        error=_error(meta.get("err")),
        fee=_number(meta.get("fee"), "fee"),
        units=_number(meta.get("computeUnitsConsumed") or 0, "computeUnitsConsumed"),
        keys=keys,
        signers=keys[:signed],
        lamports_before=before,
        lamports_after=after,
        tokens_before=_holdings(meta.get("preTokenBalances"), len(keys)),
        tokens_after=_holdings(meta.get("postTokenBalances"), len(keys)),
        instructions=tuple(_in_order(tops, _inner(meta), keys)),
    )


def data_of(instruction: Instruction) -> bytes:
    """Return an instruction's data.

    Raises:
        BadTransaction: if it is no base58.
    """
    if isinstance(instruction.data, bytes):
        return instruction.data
    try:
        return bytes(base58.b58decode(instruction.data))
    except ValueError:
        raise BadTransaction("an instruction's data is no base58") from None


def _transaction(
    found: object, loaded: tuple[str, ...], balances: int
) -> tuple[Sequence[Any], tuple[str, ...], int, Sequence[Any]]:
    """Return signatures, all account keys, the number of signers, and the top-level instructions."""
    if isinstance(found, list):
        return _from_bytes(found, loaded)
    transaction = _mapping(found, "transaction")
    message = _mapping(transaction.get("message"), "message")
    signatures = _list(transaction.get("signatures"), "signatures", _KEYS_MAX)
    listed = _list(message.get("accountKeys"), "accountKeys", _KEYS_MAX)
    instructions = _list(message.get("instructions"), "instructions", _INSTRUCTIONS_MAX)
    if listed and isinstance(listed[0], Mapping):
        # jsonParsed: the loaded addresses stand among the keys.
        entries = [_mapping(one, "an account key") for one in listed]
        keys = tuple(_text(one.get("pubkey"), "an account key") for one in entries)
        return signatures, keys, sum(one.get("signer") is True for one in entries), instructions
    header = _mapping(message.get("header"), "header")
    signed = _number(header.get("numRequiredSignatures"), "numRequiredSignatures")
    keys = tuple(_text(one, "an account key") for one in listed)
    # Some clients put the loaded addresses behind the keys before they hand the answer on.
    if loaded and not (len(keys) == balances and keys[-len(loaded) :] == loaded):
        keys += loaded
    return signatures, keys, signed, instructions


def _from_bytes(found: list[Any], loaded: tuple[str, ...]) -> tuple[list[str], tuple[str, ...], int, list[Any]]:
    if len(found) != 2 or found[1] != "base64" or not isinstance(found[0], str) or len(found[0]) > _TRANSACTION_MAX:
        raise BadTransaction("the transaction is not in an encoding that is read here")
    try:
        transaction = VersionedTransaction.from_bytes(base64.b64decode(found[0], validate=True))
    except (ValueError, binascii.Error) as error:
        raise BadTransaction(f"the transaction's bytes cannot be read: {type(error).__name__}") from None
    message = transaction.message
    keys = tuple(str(key) for key in message.account_keys) + loaded
    instructions = [
        {"programIdIndex": one.program_id_index, "accounts": list(one.accounts), "data": bytes(one.data)}
        for one in message.instructions
    ]
    signatures = [str(signature) for signature in transaction.signatures]
    return signatures, keys, message.header.num_required_signatures, instructions


def _loaded(meta: Mapping[str, Any]) -> tuple[str, ...]:
    found = meta.get("loadedAddresses")
    if found is None:
        return ()
    both = _mapping(found, "loadedAddresses")
    parts = [_list(both.get(name), f"loaded {name} addresses", _KEYS_MAX) for name in ("writable", "readonly")]
    return tuple(_text(address, "a loaded address") for part in parts for address in part)


def _inner(meta: Mapping[str, Any]) -> dict[int, Sequence[Any]]:
    """Return the inner instructions by the index of the top-level one."""
    groups = _list(meta.get("innerInstructions") or [], "innerInstructions", _INSTRUCTIONS_MAX)
    found: dict[int, Sequence[Any]] = {}
    for group in groups:
        entry = _mapping(group, "inner instructions")
        index = _number(entry.get("index"), "an inner instruction's index")
        if index in found:
            raise BadTransaction(f"inner instructions of instruction {index} are told twice")
        found[index] = _list(entry.get("instructions"), "inner instructions", _INSTRUCTIONS_MAX)
    return found


def _in_order(tops: Sequence[Any], inner: dict[int, Sequence[Any]], keys: tuple[str, ...]) -> list[Instruction]:
    if any(index >= len(tops) for index in inner):
        raise BadTransaction("inner instructions of an instruction that is not there")
    if len(tops) + sum(map(len, inner.values())) > _INSTRUCTIONS_MAX:
        raise BadTransaction("too many instructions")
    found: list[Instruction] = []
    for top, one in enumerate(tops):
        found.append(_instruction(one, keys, top, 1))
        for called in inner.get(top, ()):
            entry = _mapping(called, "an inner instruction")
            height = entry.get("stackHeight")
            found.append(_instruction(entry, keys, top, 2 if height is None else max(2, _number(height, "a height"))))
    return found


def _instruction(found: object, keys: tuple[str, ...], top: int, height: int) -> Instruction:
    entry = _mapping(found, "an instruction")
    if "programId" in entry:  # jsonParsed
        program = _text(entry["programId"], "a program")
        if "parsed" in entry:
            parsed = entry["parsed"]
            return Instruction(top, height, program, (), b"", parsed if isinstance(parsed, Mapping) else {})
        accounts = tuple(_text(one, "an account") for one in _list(entry.get("accounts"), "accounts", _ACCOUNTS_MAX))
    else:
        program = _key(keys, entry.get("programIdIndex"))
        accounts = tuple([_key(keys, one) for one in _list(entry.get("accounts"), "accounts", _ACCOUNTS_MAX)])
    data = entry.get("data")
    if not isinstance(data, str | bytes) or len(data) > _DATA_MAX:
        raise BadTransaction("an instruction's data is missing or too long")
    return Instruction(top, height, program, accounts, data)


def _holdings(found: object, keys: int) -> dict[int, Holding]:
    holdings: dict[int, Holding] = {}
    for one in _list(found or [], "token balances", _KEYS_MAX):
        entry = _mapping(one, "a token balance")
        index = _number(entry.get("accountIndex"), "accountIndex")
        amount = _mapping(entry.get("uiTokenAmount"), "uiTokenAmount").get("amount")
        if index >= keys or index in holdings:
            raise BadTransaction(f"a token balance of account {index}")
        # Twenty digits hold 2**64 - 1; str.isdigit alone takes digits of other scripts.
        if not isinstance(amount, str) or not (amount.isascii() and amount.isdigit() and len(amount) <= 20):
            raise BadTransaction("a token balance without an amount")
        holding = Holding(_text(entry.get("mint"), "a mint"), _text(entry.get("owner"), "an owner"), int(amount))
        if holding.amount > _U64_MAX:
            raise BadTransaction("a token balance over 64 bits")
        holdings[index] = holding
    return holdings


def _lamports(meta: Mapping[str, Any], name: str) -> tuple[int, ...]:
    return tuple([_number(one, name) for one in _list(meta.get(name), name, _KEYS_MAX)])


def _error(found: object) -> str | dict[str, Any] | None:
    if found is None or isinstance(found, str | dict):
        return found
    raise BadTransaction("the error has no form that is known")


def _block_time(found: object) -> int | None:
    if found is None or (isinstance(found, int) and not isinstance(found, bool)):
        return found
    raise BadTransaction("blockTime is no number")


def _key(keys: tuple[str, ...], index: object) -> str:
    if type(index) is not int or not 0 <= index < len(keys):
        raise BadTransaction("an instruction names an account that is not there")
    return keys[index]


def _mapping(found: object, what: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise BadTransaction(f"{what} is missing or of another form")
    return found


def _list(found: object, what: str, most: int) -> Sequence[Any]:
    if not isinstance(found, list) or len(found) > most:
        raise BadTransaction(f"{what}: no list, or a very long one")
    return found


def _number(found: object, what: str) -> int:
    if type(found) is not int or not 0 <= found <= _U64_MAX:
        raise BadTransaction(f"{what} is no number from 0 to 2**64 - 1")
    return found


def _text(found: object, what: str) -> str:
    if not isinstance(found, str) or not 1 <= len(found) <= 128:
        raise BadTransaction(f"{what} is missing or no text")
    return found
