"""What instructions moved: tokens and lamports, told by programs' instruction data and never by what they log.

Layouts: the published instructions of the system program, SPL Token, Token-2022 (transfer fee extension), p-token's
batch, and the stake program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solders.pubkey import Pubkey

from markets.solana.transactions.landed import BadTransaction, Instruction, data_of
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAMS

STAKE_PROGRAM = "Stake11111111111111111111111111111111111111"

_TRANSFER, _TRANSFER_CHECKED, _FEE_EXTENSION, _BATCH = 3, 12, 26, 255
_MINT, _MINT_CHECKED, _BURN, _BURN_CHECKED = 7, 14, 8, 15
# Instruction -> where the owner stands: its position among the accounts, or -1 where it is in the data.
_INITIALIZE = {1: 2, 16: -1, 18: -1}
_U64_MAX = 2**64 - 1


@dataclass(frozen=True, slots=True)
class TokenMove:
    """Tokens that an instruction moved."""

    place: int
    """Index of the instruction in `Landed.instructions`."""
    program: str
    source: str
    """Token account that gave; empty where the tokens were minted."""
    destination: str
    """Token account that took; empty where the tokens were burnt."""
    mint: str
    """Empty where the instruction does not name it."""
    amount: int
    """What left the source, base units."""
    fee: int | None
    """What the mint's program kept back of it, base units; None where the instruction does not say."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A token account that an instruction made."""

    account: str
    mint: str
    owner: str


@dataclass(frozen=True, slots=True)
class Payment:
    """Lamports that an instruction moved from one account to another."""

    place: int
    """Index of the instruction in `Landed.instructions`."""
    source: str
    destination: str
    lamports: int


Move = TokenMove | Opened | Payment


def moves_of(place: int, instruction: Instruction) -> Iterator[Move]:
    """Yield what an instruction that succeeded moved; nothing for programs that move nothing by themselves.

    Raises:
        BadTransaction: if the instruction cannot have succeeded as it stands.
    """
    if instruction.program in TOKEN_PROGRAMS:
        if instruction.parsed is not None:
            yield from _parsed_token(place, instruction.program, instruction.parsed)
        else:
            yield from _token(place, instruction.program, instruction.accounts, data_of(instruction))
    elif instruction.program == SYSTEM_PROGRAM:
        if instruction.parsed is not None:
            yield from _parsed_system(place, instruction.parsed)
        else:
            yield from _system(place, instruction.accounts, data_of(instruction))
    elif instruction.program == STAKE_PROGRAM:
        if instruction.parsed is not None:
            yield from _parsed_stake(place, instruction.parsed)
        else:
            yield from _stake(place, instruction.accounts, data_of(instruction))


def _token(
    place: int, program: str, accounts: Sequence[str], data: bytes, *, inside_batch: bool = False
) -> Iterator[TokenMove | Opened]:
    if not data:
        return
    kind = data[0]
    if kind == _TRANSFER:
        source, destination, *_ = _at_least(accounts, 3)
        yield TokenMove(place, program, source, destination, "", _u64(data, 1), _no_fee(program))
    elif kind == _TRANSFER_CHECKED:
        source, mint, destination, *_ = _at_least(accounts, 4)
        yield TokenMove(place, program, source, destination, mint, _u64(data, 1), _no_fee(program))
    elif kind == _FEE_EXTENSION and data[1:2] == b"\x01":
        source, mint, destination, *_ = _at_least(accounts, 4)
        yield TokenMove(place, program, source, destination, mint, _u64(data, 2), _u64(data, 11))
    elif kind in (_MINT, _MINT_CHECKED):
        mint, destination, *_ = _at_least(accounts, 3)
        yield TokenMove(place, program, "", destination, mint, _u64(data, 1), 0)
    elif kind in (_BURN, _BURN_CHECKED):
        source, mint, *_ = _at_least(accounts, 3)
        yield TokenMove(place, program, source, "", mint, _u64(data, 1), 0)
    elif kind in _INITIALIZE:
        account, mint, *rest = _at_least(accounts, 2)
        yield Opened(account, mint, _owner(kind, rest, data))
    elif kind == _BATCH and not inside_batch:
        yield from _batch(place, program, accounts, data[1:])


def _batch(place: int, program: str, accounts: Sequence[str], data: bytes) -> Iterator[TokenMove | Opened]:
    """Several token instructions in one: each is (number of accounts, length of data, data)."""
    while data:
        if len(data) < 2 or len(data) < 2 + data[1] or len(accounts) < data[0]:
            raise BadTransaction("a batch of token instructions is cut short")
        count, end = data[0], 2 + data[1]
        yield from _token(place, program, accounts[:count], data[2:end], inside_batch=True)
        accounts, data = accounts[count:], data[end:]


def _owner(kind: int, rest: Sequence[str], data: bytes) -> str:
    if _INITIALIZE[kind] >= 0:
        return _at_least(rest, 1)[0]
    if len(data) < 33:
        raise BadTransaction("an account is opened for nobody")
    return str(Pubkey.from_bytes(data[1:33]))


def _system(place: int, accounts: Sequence[str], data: bytes) -> Iterator[Payment]:
    kind = int.from_bytes(data[:4], "little") if len(data) >= 4 else -1
    if kind in (0, 2):  # create an account; transfer
        source, destination, *_ = _at_least(accounts, 2)
        yield Payment(place, source, destination, _u64(data, 4))
    elif kind == 3:  # create an account with a seed: base, length of the seed, seed, lamports
        source, destination, *_ = _at_least(accounts, 2)
        yield Payment(place, source, destination, _u64(data, 44 + _u64(data, 36)))
    elif kind in (5, 11):  # withdraw from a nonce account; transfer from an address with a seed
        source, second, *rest = _at_least(accounts, 3 if kind == 11 else 2)
        yield Payment(place, source, rest[0] if kind == 11 else second, _u64(data, 4))


def _stake(place: int, accounts: Sequence[str], data: bytes) -> Iterator[Payment]:
    if len(data) >= 4 and int.from_bytes(data[:4], "little") == 4:  # withdraw
        source, destination, *_ = _at_least(accounts, 2)
        yield Payment(place, source, destination, _u64(data, 4))


def _parsed_token(place: int, program: str, parsed: Mapping[str, Any]) -> Iterator[TokenMove | Opened]:
    kind, info = parsed.get("type"), parsed.get("info")
    if not isinstance(info, Mapping):
        return
    if kind in ("transfer", "transferChecked", "transferCheckedWithFee"):
        fee = _amount(info, "feeAmount") if kind == "transferCheckedWithFee" else _no_fee(program)
        mint = "" if kind == "transfer" else _address(info, "mint")
        ends = _address(info, "source"), _address(info, "destination")
        yield TokenMove(place, program, *ends, mint, _amount(info, "amount"), fee)
    elif kind in ("mintTo", "mintToChecked"):
        destination, mint = _address(info, "account"), _address(info, "mint")
        yield TokenMove(place, program, "", destination, mint, _amount(info, "amount"), 0)
    elif kind in ("burn", "burnChecked"):
        source, mint = _address(info, "account"), _address(info, "mint")
        yield TokenMove(place, program, source, "", mint, _amount(info, "amount"), 0)
    elif kind in ("initializeAccount", "initializeAccount2", "initializeAccount3"):
        yield Opened(_address(info, "account"), _address(info, "mint"), _address(info, "owner"))
    elif kind == "batch":
        for one in info.get("instructions") or ():
            if isinstance(one, Mapping) and one.get("type") != "batch":
                yield from _parsed_token(place, program, one)


def _parsed_system(place: int, parsed: Mapping[str, Any]) -> Iterator[Payment]:
    kind, info = parsed.get("type"), parsed.get("info")
    if not isinstance(info, Mapping):
        return
    if kind in ("transfer", "transferWithSeed", "withdrawFromNonce"):
        source = _address(info, "nonceAccount" if kind == "withdrawFromNonce" else "source")
        yield Payment(place, source, _address(info, "destination"), _whole(info.get("lamports")))
    elif kind in ("createAccount", "createAccountWithSeed"):
        yield Payment(place, _address(info, "source"), _address(info, "newAccount"), _whole(info.get("lamports")))


def _parsed_stake(place: int, parsed: Mapping[str, Any]) -> Iterator[Payment]:
    info = parsed.get("info")
    if parsed.get("type") == "withdraw" and isinstance(info, Mapping):
        ends = _address(info, "stakeAccount"), _address(info, "destination")
        yield Payment(place, *ends, _whole(info.get("lamports")))


def _no_fee(program: str) -> int | None:
    """SPL Token knows no fees; Token-2022 may take one that a plain transfer does not name."""
    return 0 if program == TOKEN_PROGRAMS[0] else None


def _at_least(accounts: Sequence[str], count: int) -> Sequence[str]:
    if len(accounts) < count:
        raise BadTransaction(f"an instruction with {len(accounts)} accounts where {count} are needed")
    return accounts


def _u64(data: bytes, offset: int) -> int:
    if offset + 8 > len(data):
        raise BadTransaction("an instruction's data is cut short")
    return int.from_bytes(data[offset : offset + 8], "little")


def _address(info: Mapping[str, Any], name: str) -> str:
    found = info.get(name)
    if not isinstance(found, str) or not 1 <= len(found) <= 128:
        raise BadTransaction(f"a parsed instruction without {name}")
    return found


def _amount(info: Mapping[str, Any], name: str) -> int:
    """Return an amount, which stands by itself or as `tokenAmount`."""
    found: Any = info.get(name)
    wrapped = info.get("tokenAmount" if name == "amount" else name)
    if isinstance(wrapped, Mapping):
        found = wrapped.get("amount")
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) <= 20:
        return _whole(int(found))
    return _whole(found)


def _whole(found: object) -> int:
    if type(found) is not int or not 0 <= found <= _U64_MAX:
        raise BadTransaction("a parsed amount is no number from 0 to 2**64 - 1")
    return found
