"""One transaction of upkeep on its way: signed, sent, sent again, and waited for. Not for trades."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from solders.compute_budget import set_compute_unit_price
from solders.instruction import Instruction
from solders.message import to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from markets.solana.rpc.accounts import Malformed
from markets.solana.rpc.errors import NotAllowed as Forbidden
from markets.solana.rpc.errors import RpcError
from markets.solana.rpc.pool import RpcPool
from markets.solana.transactions.cycle import compiled
from markets.solana.wallets.keys import Signer, WalletError

__all__ = ["Confirmed", "NotAllowed", "NotLanded", "Unclear", "send_and_wait"]

_LOOK_S = 0.4
_AGAIN_EVERY = 5
_FAILED_LOOKS = 5
"""In a row, after which nobody is asked any more."""
_LONGEST_S = 300.0
"""A blockhash lives for 150 blocks, a minute or two. A chain that makes none would be waited for without an end."""


class NotLanded(WalletError):
    """A transaction failed, before it was sent or on chain, or ran out before it landed."""


class NotAllowed(WalletError):
    """Nothing was sent: trading was stopped meanwhile."""


class Unclear(WalletError):
    """A transaction was sent and no node tells what became of it: it may still land until its blockhash runs out."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A transaction that did what it was for."""

    signature: str
    slot: int


async def send_and_wait(
    rpc: RpcPool,
    signer: Signer,
    instructions: Sequence[Instruction],
    *,
    micro_lamports: int,
    allowed: Callable[[], bool] = lambda: True,
) -> Confirmed:
    """Return a transaction once it is confirmed; `micro_lamports` is its price per compute unit.

    It is simulated first: what would fail is not sent. `allowed` is asked in the moment of each sending.

    Raises:
        NotLanded: if it fails, or its blockhash ran out before it landed.
        NotAllowed: if it was not to be sent any more when it was signed.
        Unclear: if no node tells what became of it.
        SigningFailed: if it was not signed.
        RpcError: if no node told a blockhash, or simulated it: nothing was sent.
    """
    blockhash, last_height = await rpc.call("getLatestBlockhash", [{"commitment": "confirmed"}], read=_blockhash)
    priced = [set_compute_unit_price(micro_lamports), *instructions]
    message = compiled(signer.address, priced, [], blockhash)
    signature = Signature.from_bytes(await signer.sign(to_bytes_versioned(message)))
    raw = base64.b64encode(bytes(VersionedTransaction.populate(message, [signature]))).decode()
    asked = [raw, {"encoding": "base64", "commitment": "confirmed", "sigVerify": True}]
    if (failure := await rpc.call("simulateTransaction", asked, read=_simulated)) is not None:
        raise NotLanded(f"the transaction would fail, and was not sent: {failure}")
    written = await _sent(rpc, raw, allowed)
    if written and all(isinstance(one, Forbidden) for one in written):
        raise NotAllowed("trading was stopped before it was sent")
    looks = failed = 0
    until = time.monotonic() + _LONGEST_S
    while time.monotonic() < until:
        try:
            found = await _landed(rpc, str(signature), last_height)
            failed = 0
        except RpcError as error:
            failed += 1
            if failed == _FAILED_LOOKS:
                raise Unclear(f"nobody tells what became of the transaction {signature}: {error}") from None
            found = None
        if found is not None:
            return found
        looks += 1
        if looks % _AGAIN_EVERY == 0:
            await _sent(rpc, raw, allowed)
        await asyncio.sleep(_LOOK_S)
    raise Unclear(f"the transaction {signature} neither landed nor ran out within {_LONGEST_S:g} s")


async def _sent(rpc: RpcPool, raw: str, allowed: Callable[[], bool]) -> list[str | RpcError]:
    """Send to every node; whatever they answer, one that was written to may have passed it on."""
    return await rpc.everywhere(
        "sendTransaction", [raw, {"encoding": "base64", "skipPreflight": True}], read=_text, may=allowed
    )


async def _landed(rpc: RpcPool, signature: str, last_height: int) -> Confirmed | None:
    """Look once; return None where it is not known yet.

    Raises:
        NotLanded: if it failed, or cannot land any more.
        RpcError: if no node tells.
    """
    status = await _status(rpc, signature)
    if status is None:
        height = await rpc.call("getBlockHeight", [{"commitment": "finalized"}], read=_number)
        # The node that knew no status may be behind the one that told the height, and that one of another chain: no
        # chain has more blocks than slots.
        newest = max(await rpc.get_slot(), rpc.slots.best()) if height > last_height else 0
        if height <= last_height or height > newest:
            return None
        status = await _status(rpc, signature, newest)
        if status is None:
            raise NotLanded(f"the transaction {signature} did not land before its blockhash ran out")
    if status.get("err") is not None:
        raise NotLanded(f"the transaction {signature} failed: {status['err']}")
    if status.get("confirmationStatus") in ("confirmed", "finalized"):
        return Confirmed(signature, _number(status.get("slot")))
    return None


async def _status(rpc: RpcPool, signature: str, min_slot: int = 0) -> dict[str, Any] | None:
    options = {"searchTransactionHistory": True}
    return await rpc.call("getSignatureStatuses", [[signature], options], read=_first_status, min_slot=min_slot)


def _first_status(result: Any) -> dict[str, Any] | None:
    try:
        (found,) = result["value"]
    except (TypeError, KeyError, ValueError):
        raise Malformed("it is no list of one status") from None
    if found is None:
        return None
    if not isinstance(found, dict):
        raise Malformed("it is no status")
    _number(found.get("slot"))
    return found


def _blockhash(result: Any) -> tuple[str, int]:
    try:
        value = result["value"]
        found = _text(value["blockhash"]), _number(value["lastValidBlockHeight"])
        Pubkey.from_string(found[0])  # 32 bytes too; what reads a Hash raises no ValueError
    except (TypeError, KeyError, ValueError):
        raise Malformed("it is no blockhash") from None
    return found


def _simulated(result: Any) -> Any:
    """Return why a transaction would fail, None where it would not."""
    try:
        return result["value"]["err"]
    except (TypeError, KeyError):
        raise Malformed("it is no simulation") from None


def _text(result: Any) -> str:
    if not isinstance(result, str) or not 1 <= len(result) <= 128:
        raise Malformed("it is no text")
    return result


def _number(result: Any) -> int:
    if not isinstance(result, int) or isinstance(result, bool) or result < 0:
        raise Malformed("it is no number")
    return result
