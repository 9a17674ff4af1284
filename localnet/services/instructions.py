"""Instructions of well-known programs in the form that nodes call jsonParsed; others as accounts and data.

Names: transaction-status/src/parse_*.rs of anza-xyz/agave. Only what moves lamports and tokens is parsed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import base58
from solders.pubkey import Pubkey

from localnet.services.parsed import TOKEN_PROGRAMS, Decimals, ui_amount

SYSTEM_PROGRAM = "11111111111111111111111111111111"
ASSOCIATED_PROGRAM = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL"
MEMO_PROGRAMS = frozenset(
    {"MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr", "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo"}
)
Parsed = tuple[str, str, dict[str, object]]
"""(program, type, info)."""


def parsed_instruction(
    program: str, accounts: Sequence[str], data: bytes, height: int | None, decimals: Decimals
) -> dict[str, object]:
    """Return an instruction as it stands in jsonParsed transactions."""
    if program in MEMO_PROGRAMS:
        try:
            return {"parsed": data.decode(), "program": "spl-memo", "programId": program, "stackHeight": height}
        except UnicodeDecodeError:
            pass
    found: Parsed | None = None
    try:
        if program == SYSTEM_PROGRAM:
            found = _system(accounts, data)
        elif program in TOKEN_PROGRAMS:
            found = _token(TOKEN_PROGRAMS[program], accounts, data, decimals)
        elif program == ASSOCIATED_PROGRAM:
            found = _associated(accounts, data)
    except (struct.error, IndexError, ValueError):
        pass  # Too short for what it says it is: told as it stands.
    if found is None:
        return {
            "accounts": list(accounts),
            "data": base58.b58encode(data).decode(),
            "programId": program,
            "stackHeight": height,
        }
    name, kind, info = found
    return {"parsed": {"info": info, "type": kind}, "program": name, "programId": program, "stackHeight": height}


def memos_of(instructions: Sequence[tuple[str, bytes]]) -> str | None:
    """Return the memos among (program, data) as nodes list them; None where there is none."""
    texts = [data.decode(errors="replace") for program, data in instructions if program in MEMO_PROGRAMS]
    return "; ".join(f"[{len(text.encode())}] {text}" for text in texts) or None


def _system(accounts: Sequence[str], data: bytes) -> Parsed | None:
    (kind,) = struct.unpack_from("<I", data)
    if kind == 0:
        lamports, space = struct.unpack_from("<QQ", data, 4)
        owner = str(Pubkey(data[20:52]))
        info = {"lamports": lamports, "newAccount": accounts[1], "owner": owner, "source": accounts[0], "space": space}
        return "system", "createAccount", info
    if kind == 2:
        (lamports,) = struct.unpack_from("<Q", data, 4)
        return "system", "transfer", {"destination": accounts[1], "lamports": lamports, "source": accounts[0]}
    return None


def _token(name: str, accounts: Sequence[str], data: bytes, decimals: Decimals) -> Parsed | None:
    match data[0]:
        case 3:
            return name, "transfer", _amount(data) | _moved(accounts[0], accounts[1], accounts[2:])
        case 7:
            info = _amount(data) | {"account": accounts[1], "mint": accounts[0], "mintAuthority": accounts[2]}
            return name, "mintTo", info
        case 8:
            return name, "burn", _amount(data) | {"account": accounts[0], "authority": accounts[2], "mint": accounts[1]}
        case 9:
            return name, "closeAccount", {"account": accounts[0], "destination": accounts[1], "owner": accounts[2]}
        case 12:
            amount, places = struct.unpack_from("<QB", data, 1)
            moved = _moved(accounts[0], accounts[2], accounts[3:])
            return name, "transferChecked", {"mint": accounts[1], "tokenAmount": ui_amount(amount, places)} | moved
        case 17:
            return name, "syncNative", {"account": accounts[0]}
        case 18:
            owner = str(Pubkey(data[1:33]))
            return name, "initializeAccount3", {"account": accounts[0], "mint": accounts[1], "owner": owner}
        case 22:
            return name, "initializeImmutableOwner", {"account": accounts[0]}
    return None


def _amount(data: bytes) -> dict[str, object]:
    return {"amount": str(struct.unpack_from("<Q", data, 1)[0])}


def _moved(source: str, destination: str, rest: Sequence[str]) -> dict[str, object]:
    info: dict[str, object] = {"source": source, "destination": destination}
    if len(rest) == 1:
        return info | {"authority": rest[0]}
    return info | {"multisigAuthority": rest[0], "signers": list(rest[1:])}


def _associated(accounts: Sequence[str], data: bytes) -> Parsed | None:
    kinds: dict[bytes, str] = {b"": "create", b"\0": "create", b"\1": "createIdempotent"}
    if data not in kinds:
        return None
    names = ("source", "account", "wallet", "mint", "systemProgram", "tokenProgram")
    return "spl-associated-token-account", kinds[data], dict(zip(names, accounts[:6], strict=True))
