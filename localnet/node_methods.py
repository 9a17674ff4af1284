"""JSON-RPC methods of the simulated node: answers and errors in the shapes of the real one. Pure.

Shapes and limits: https://solana.com/docs/rpc/http; error codes: rpc-client-api/src/custom_error.rs of anza-xyz/agave.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import base58

from localnet.chain_view import RENT_EPOCH, ChainAccount, ChainView, View

MAX_ACCOUNTS = 100
MAX_FILTERS = 4
MAX_MEMCMP_BYTES = 128
VERSION = "0.0.0-simulated"


class MethodError(Exception):
    """A JSON-RPC error."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        """Keep the error's three parts."""
        self.code, self.message, self.data = code, message, data
        super().__init__(message)

    def body(self) -> dict[str, object]:
        """Return the error as it stands in an answer."""
        return {"code": self.code, "message": self.message} | ({} if self.data is None else {"data": self.data})


def invalid(message: str) -> MethodError:
    """Return the error of parameters that do not fit."""
    return MethodError(-32602, f"Invalid params: {message}")


def answer(chain: ChainView, behind: int, method: object, params: object) -> object:
    """Return a method's result on a node that is `behind` slots behind.

    Raises:
        MethodError: as the node would.
    """
    known = METHODS.get(method) if isinstance(method, str) else None
    if known is None:
        raise MethodError(-32601, "Method not found")
    if not isinstance(params, list):
        raise invalid("expected an array")
    return known(chain, chain.at(behind), params)


def encoded(account: ChainAccount, data_slice: tuple[int, int] | None = None) -> dict[str, object]:
    """Return an account as answers and notifications hold it."""
    data = account.data if data_slice is None else account.data[data_slice[0] : sum(data_slice)]
    return {
        "data": [base64.b64encode(data).decode(), "base64"],
        "executable": False,
        "lamports": account.lamports,
        "owner": account.owner,
        "rentEpoch": RENT_EPOCH,
        "space": len(account.data),
    }


def in_context(view: View, value: object) -> dict[str, object]:
    """Return a value with the slot it is of."""
    return {"context": {"apiVersion": VERSION, "slot": view.slot}, "value": value}


def address_of(value: object) -> str:
    """Return a public key given as a parameter."""
    try:
        if isinstance(value, str) and len(base58.b58decode(value)) == 32:
            return value
    except ValueError:
        pass
    raise invalid("Invalid param: Invalid")


def options_of(params: Sequence[object], position: int, view: View) -> Mapping[str, Any]:
    """Return the options of a call, its minimum slot and encoding checked."""
    options = params[position] if len(params) > position else None
    if options is None:
        options = {}
    if not isinstance(options, dict):
        raise invalid("expected an object")
    least = options.get("minContextSlot", 0)
    if isinstance(least, int) and least > view.slot:
        raise MethodError(-32016, "Minimum context slot has not been reached", {"contextSlot": view.slot})
    if options.get("encoding", "base64") != "base64":
        raise invalid("the simulated node encodes in base64 only")
    return options


def _slice_of(options: Mapping[str, Any]) -> tuple[int, int] | None:
    given = options.get("dataSlice")
    if given is None:
        return None
    try:
        offset, length = int(given["offset"]), int(given["length"])
    except (KeyError, TypeError, ValueError):
        raise invalid("dataSlice") from None
    return offset, length


def _health(chain: ChainView, view: View, _params: Sequence[object]) -> object:
    behind = chain.newest.slot - view.slot
    if behind > 128:
        raise MethodError(-32005, f"Node is behind by {behind} slots", {"numSlotsBehind": behind})
    return "ok"


def _version(_chain: ChainView, _view: View, _params: Sequence[object]) -> object:
    return {"feature-set": 0, "solana-core": VERSION}


def _slot(_chain: ChainView, view: View, params: Sequence[object]) -> object:
    options_of(params, 0, view)
    return view.slot


def _genesis(chain: ChainView, _view: View, _params: Sequence[object]) -> object:
    return chain.genesis


def _account_info(_chain: ChainView, view: View, params: Sequence[object]) -> object:
    address = address_of(params[0] if params else None)
    options = options_of(params, 1, view)
    found = view.accounts.get(address)
    return in_context(view, None if found is None else encoded(found, _slice_of(options)))


def _multiple_accounts(_chain: ChainView, view: View, params: Sequence[object]) -> object:
    given = params[0] if params else None
    if not isinstance(given, list):
        raise invalid("expected an array of public keys")
    if len(given) > MAX_ACCOUNTS:
        raise MethodError(-32602, f"Too many inputs provided; max {MAX_ACCOUNTS}")
    options = options_of(params, 1, view)
    cut = _slice_of(options)
    found = [view.accounts.get(address_of(address)) for address in given]
    return in_context(view, [None if account is None else encoded(account, cut) for account in found])


def _program_accounts(_chain: ChainView, view: View, params: Sequence[object]) -> object:
    program = address_of(params[0] if params else None)
    options = options_of(params, 1, view)
    filters = options.get("filters") or []
    if not isinstance(filters, list):
        raise invalid("filters")
    if len(filters) > MAX_FILTERS:
        raise MethodError(-32602, f"Too many filters provided; max {MAX_FILTERS}")
    pass_all = [_filter(one) for one in filters]
    cut = _slice_of(options)
    found = [
        {"pubkey": address, "account": encoded(account, cut)}
        for address, account in view.accounts.items()
        if account.owner == program and all(passes(account.data) for passes in pass_all)
    ]
    return in_context(view, found) if options.get("withContext") else found


def _filter(given: object) -> Callable[[bytes], bool]:
    if isinstance(given, dict) and isinstance(given.get("dataSize"), int):
        size = given["dataSize"]
        return lambda data: len(data) == size
    compare = given.get("memcmp") if isinstance(given, dict) else None
    if not isinstance(compare, dict) or not isinstance(compare.get("offset"), int):
        raise invalid("filter")
    text, offset = compare.get("bytes"), compare["offset"]
    if not isinstance(text, str):
        raise invalid("memcmp")
    try:
        decode = base64.b64decode if compare.get("encoding") == "base64" else base58.b58decode
        wanted: bytes = decode(text)
    except (ValueError, TypeError, binascii.Error):
        raise invalid("memcmp") from None
    if len(wanted) > MAX_MEMCMP_BYTES:
        raise MethodError(-32602, "Encoded binary (base 58) data should be less than 128 bytes")
    return lambda data: data[offset : offset + len(wanted)] == wanted


METHODS: Mapping[str, Callable[[ChainView, View, Sequence[object]], object]] = {
    "getHealth": _health,
    "getVersion": _version,
    "getSlot": _slot,
    # Every simulated slot has a block.
    "getBlockHeight": _slot,
    "getGenesisHash": _genesis,
    "getAccountInfo": _account_info,
    "getMultipleAccounts": _multiple_accounts,
    "getProgramAccounts": _program_accounts,
}
