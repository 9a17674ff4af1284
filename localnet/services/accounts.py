"""Methods about accounts: what they hold, in every encoding, and who owns tokens.

Shapes: https://solana.com/docs/rpc/http; defaults and limits: rpc/src/rpc.rs of anza-xyz/agave.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import base58

from localnet.chain_view import RENT_EPOCH, ChainAccount, View
from localnet.services.errors import MethodError, invalid
from localnet.services.params import (
    Params,
    address_of,
    commitment_of,
    count_of,
    filters_of,
    flag_of,
    list_of,
    needed,
    options_of,
    slice_of,
    view_of,
)
from localnet.services.parsed import (
    TOKEN_PROGRAMS,
    decimals_in,
    is_mint,
    is_token_account,
    parsed,
    token_fields,
    ui_amount,
)
from localnet.services.state import NodeState

MAX_ACCOUNTS = 100
MAX_BASE58_BYTES = 128
VERSION = "0.0.0-simulated"
SYSTEM_PROGRAM = "11111111111111111111111111111111"

Encode = Callable[[str, ChainAccount], dict[str, object]]


def in_context(view: View, value: object) -> dict[str, object]:
    """Return a value with the slot it is of."""
    return {"context": {"apiVersion": VERSION, "slot": view.slot}, "value": value}


def encoder(options: Mapping[str, Any], view: View, otherwise: str = "binary") -> Encode:
    """Return a function that tells accounts in the encoding that a call asks for."""
    given = options.get("encoding")
    encoding = otherwise if given is None else given
    if encoding == "base64+zstd":
        raise invalid("the simulated node does not compress: ask for base64")
    if encoding not in ("binary", "base58", "base64", "jsonParsed"):
        known = "binary, base64, base58, jsonParsed, base64+zstd"
        raise invalid(f"Invalid params: unknown variant `{encoding}`, expected one of {known}.")
    cut = slice_of(options)
    decimals = decimals_in(view)

    def encode(address: str, account: ChainAccount) -> dict[str, object]:
        data = account.data if cut is None else account.data[cut[0] : cut[0] + cut[1]]
        told: object = parsed(address, account, decimals) if encoding == "jsonParsed" else None
        if encoding in ("binary", "base58"):
            if len(data) > MAX_BASE58_BYTES:
                raise MethodError(
                    -32600,
                    "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding.",
                )
            text = base58.b58encode(data).decode()
            told = text if encoding == "binary" else [text, "base58"]
        elif told is None:
            told = [base64.b64encode(data).decode(), "base64"]
        return {
            "data": told,
            "executable": account.executable,
            "lamports": account.lamports,
            "owner": account.owner,
            "rentEpoch": RENT_EPOCH,
            "space": len(account.data),
        }

    return encode


CLOSED = ChainAccount(SYSTEM_PROGRAM, b"", 0)
"""What subscribers are told of an account that was closed."""


def account_info(node: NodeState, params: Params) -> object:
    """Answer getAccountInfo."""
    address = address_of(needed(params, 0))
    options = options_of(params, 1)
    view = view_of(node, options)
    encode = encoder(options, view)
    found = view.accounts.get(address)
    return in_context(view, None if found is None else encode(address, found))


def multiple_accounts(node: NodeState, params: Params) -> object:
    """Answer getMultipleAccounts."""
    addresses = [address_of(one) for one in list_of(needed(params, 0), "public keys", MAX_ACCOUNTS)]
    options = options_of(params, 1)
    view = view_of(node, options)
    encode = encoder(options, view, "base64")
    known = view.accounts
    return in_context(view, [encode(one, known[one]) if one in known else None for one in addresses])


def program_accounts(node: NodeState, params: Params) -> object:
    """Answer getProgramAccounts."""
    program = address_of(needed(params, 0))
    options = options_of(params, 1)
    view = view_of(node, options)
    passes = filters_of(options.get("filters"))
    encode = encoder(options, view)
    found = [
        {"pubkey": address, "account": encode(address, account)}
        for address, account in view.accounts.items()
        if account.owner == program and all(one(account.data) for one in passes)
    ]
    return in_context(view, found) if flag_of(options, "withContext") else found


def balance(node: NodeState, params: Params) -> object:
    """Answer getBalance."""
    address = address_of(needed(params, 0))
    view = view_of(node, options_of(params, 1))
    found = view.accounts.get(address)
    return in_context(view, 0 if found is None else found.lamports)


def rent_exemption(_node: NodeState, params: Params) -> object:
    """Answer getMinimumBalanceForRentExemption."""
    size = count_of(needed(params, 0), "length", 0, 10 * 2**20)
    commitment_of(options_of(params, 1))
    # Two years of rent for the bytes and 128 more: https://solana.com/docs/core/accounts
    return (size + 128) * 6_960


def token_account_balance(node: NodeState, params: Params) -> object:
    """Answer getTokenAccountBalance."""
    address = address_of(needed(params, 0))
    view = view_of(node, options_of(params, 1))
    found = view.accounts.get(address)
    if found is None:
        raise invalid("Invalid param: could not find account")
    if found.owner not in TOKEN_PROGRAMS or not is_token_account(found.data):
        raise invalid("Invalid param: not a Token account")
    mint, _, amount = token_fields(found.data)
    decimals = decimals_in(view)(mint)
    if decimals is None:
        raise invalid("Invalid param: could not find mint")
    return in_context(view, ui_amount(amount, decimals))


def token_supply(node: NodeState, params: Params) -> object:
    """Answer getTokenSupply."""
    address = address_of(needed(params, 0))
    view = view_of(node, options_of(params, 1))
    _mint_program(view, address)
    data = view.accounts[address].data
    return in_context(view, ui_amount(int.from_bytes(data[36:44], "little"), data[44]))


def token_accounts_by_owner(node: NodeState, params: Params) -> object:
    """Answer getTokenAccountsByOwner."""
    owner = address_of(needed(params, 0))
    return _token_accounts(node, params, lambda account: token_fields(account.data)[1] == owner)


def token_accounts_by_delegate(node: NodeState, params: Params) -> object:
    """Answer getTokenAccountsByDelegate."""
    wanted = b"\1\0\0\0" + base58.b58decode(address_of(needed(params, 0)))
    return _token_accounts(node, params, lambda account: account.data[72:108] == wanted)


def _token_accounts(node: NodeState, params: Params, fits: Callable[[ChainAccount], bool]) -> object:
    chosen = needed(params, 1)
    options = options_of(params, 2)
    view = view_of(node, options)
    if not isinstance(chosen, dict) or len(chosen) != 1 or next(iter(chosen)) not in ("mint", "programId"):
        raise invalid("Invalid params: expected mint or programId.")
    encode = encoder(options, view)
    mint: str | None = None
    if "mint" in chosen:
        mint = address_of(chosen["mint"])
        program = _mint_program(view, mint)
    else:
        program = address_of(chosen["programId"])
        if program not in TOKEN_PROGRAMS:
            raise invalid("Invalid param: unrecognized Token program id")
    found = [
        {"pubkey": address, "account": encode(address, account)}
        for address, account in _token_accounts_of(view, program)
        if fits(account) and (mint is None or token_fields(account.data)[0] == mint)
    ]
    return in_context(view, found)


def _token_accounts_of(view: View, program: str) -> Iterator[tuple[str, ChainAccount]]:
    for address, account in view.accounts.items():
        if account.owner == program and is_token_account(account.data):
            yield address, account


def _mint_program(view: View, mint: str) -> str:
    found = view.accounts.get(mint)
    if found is None:
        raise invalid("Invalid param: could not find mint")
    if found.owner not in TOKEN_PROGRAMS or not is_mint(found.data):
        raise invalid("Invalid param: not a Token mint")
    return found.owner


def largest_token_accounts(node: NodeState, params: Params) -> object:
    """Answer getTokenLargestAccounts."""
    mint = address_of(needed(params, 0))
    view = view_of(node, options_of(params, 1))
    program = _mint_program(view, mint)
    decimals = view.accounts[mint].data[44]
    held = [
        (amount, address)
        for address, account in _token_accounts_of(view, program)
        for of, _, amount in (token_fields(account.data),)
        if of == mint
    ]
    held.sort(key=lambda one: (-one[0], one[1]))
    return in_context(view, [{"address": address} | ui_amount(amount, decimals) for amount, address in held[:20]])


METHODS: Mapping[str, Callable[[NodeState, Params], object]] = {
    "getAccountInfo": account_info,
    "getMultipleAccounts": multiple_accounts,
    "getProgramAccounts": program_accounts,
    "getBalance": balance,
    "getMinimumBalanceForRentExemption": rent_exemption,
    "getTokenAccountBalance": token_account_balance,
    "getTokenSupply": token_supply,
    "getTokenAccountsByOwner": token_accounts_by_owner,
    "getTokenAccountsByDelegate": token_accounts_by_delegate,
    "getTokenLargestAccounts": largest_token_accounts,
}
