"""A transaction read once: what ordering, fees and the auction need to know of it. Pure."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection
from dataclasses import dataclass

from solders.message import Message, MessageV0
from solders.transaction import SanitizeError, VersionedTransaction

from localnet.chain.records import ChainRefusal

PACKET_BYTES = 1232
"""The most a transaction may take on the wire."""
_SYSTEM = bytes(32)
_SYSTEM_TRANSFER = 2
_COMPUTE_UNIT_PRICE = 3
_COMPUTE_BUDGET = "ComputeBudget111111111111111111111111111111"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A transaction that is well formed; nothing is said of its signatures or its blockhash."""

    transaction: VersionedTransaction
    signature: str
    message_hash: bytes
    """Names it to duplicate detection."""
    order: bytes
    """Hash of the message without its blockhash: the same for the same deed in every run."""
    blockhash: str
    micro_lamports: int
    """Price of a compute unit."""

    def signed(self) -> bool:
        """Tell whether all signatures are there and good."""
        required: int = self.transaction.message.header.num_required_signatures
        good = self.transaction.verify_with_results()
        return len(good) == required and all(good)


def read(raw: bytes) -> Prepared:
    """Read a transaction from the bytes on the wire.

    Raises:
        ChainRefusal: if it is none.
    """
    if len(raw) > PACKET_BYTES:
        raise ChainRefusal("SanitizeFailure", f"transaction too large: {len(raw)} bytes (max: {PACKET_BYTES} bytes)")
    try:
        transaction = VersionedTransaction.from_bytes(raw)
    except ValueError as error:
        raise ChainRefusal("SanitizeFailure", f"failed to deserialize the transaction: {error}") from None
    return prepare(transaction)


def prepare(transaction: VersionedTransaction) -> Prepared:
    """Return a transaction with what the chain asks of it.

    Raises:
        ChainRefusal: if it is malformed.
    """
    try:
        transaction.sanitize()
    except SanitizeError as error:
        raise ChainRefusal("SanitizeFailure", f"invalid transaction: {error}") from None
    message = message_of(transaction)
    raw = _message_bytes(message)
    return Prepared(
        transaction,
        str(transaction.signatures[0]),
        hashlib.sha256(raw).digest(),
        _order(raw, message),
        str(message.recent_blockhash),
        _price(message),
    )


def message_of(transaction: VersionedTransaction) -> Message | MessageV0:
    """Return a transaction's message.

    Raises:
        ChainRefusal: for a version that this chain does not know.
    """
    message = transaction.message
    if not isinstance(message, (Message, MessageV0)):
        raise ChainRefusal("UnsupportedVersion", "Transaction version is unsupported")
    return message


def tips(transaction: VersionedTransaction, tip_accounts: Collection[str]) -> int:
    """Return the lamports that a transaction's own transfers give to tip accounts."""
    message = transaction.message
    keys = message.account_keys
    paid = 0
    for instruction in message.instructions:
        if bytes(keys[instruction.program_id_index]) != _SYSTEM or len(instruction.data) != 12:
            continue
        kind, lamports = struct.unpack("<IQ", instruction.data)
        accounts = instruction.accounts
        # An index behind the static keys names a loaded account: tip accounts do not count there.
        if kind == _SYSTEM_TRANSFER and len(accounts) == 2 and accounts[1] < len(keys):
            paid += lamports if str(keys[accounts[1]]) in tip_accounts else 0
    return paid


def writable_static(message: Message | MessageV0) -> list[bool]:
    """Tell of each static key whether the message may write it."""
    header, count = message.header, len(message.account_keys)
    signers = header.num_required_signatures
    written_signers = signers - header.num_readonly_signed_accounts
    written = count - header.num_readonly_unsigned_accounts
    return [index < written_signers or signers <= index < written for index in range(count)]


def _message_bytes(message: Message | MessageV0) -> bytes:
    # A version-0 message begins with its version on the wire; bytes() leaves that away.
    return bytes(message) if isinstance(message, Message) else b"\x80" + bytes(message)


def _order(raw: bytes, message: Message | MessageV0) -> bytes:
    count = len(message.account_keys)
    start = (0 if isinstance(message, Message) else 1) + 3 + (1 if count < 128 else 2) + 32 * count
    if raw[start : start + 32] != bytes(message.recent_blockhash):
        raise AssertionError("the blockhash is not where the layout has it")
    return hashlib.sha256(raw[:start] + bytes(32) + raw[start + 32 :]).digest()


def _price(message: Message | MessageV0) -> int:
    keys = message.account_keys
    for instruction in message.instructions:
        data = instruction.data
        sets_price = len(data) == 9 and data[0] == _COMPUTE_UNIT_PRICE
        if sets_price and str(keys[instruction.program_id_index]) == _COMPUTE_BUDGET:
            price: int = struct.unpack_from("<Q", data, 1)[0]
            return price
    return 0
