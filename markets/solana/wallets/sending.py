"""One transaction of upkeep on its way: signed, sent, sent again, and waited for. Not for trades."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from solders.compute_budget import set_compute_unit_price
from solders.instruction import Instruction
from solders.message import to_bytes_versioned
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from markets.solana.rpc.accounts import Malformed
from markets.solana.rpc.pool import RpcPool
from markets.solana.transactions.cycle import compiled
from markets.solana.wallets.keys import Signer, WalletError

__all__ = ["NotLanded", "send_and_wait"]

_LOOK_S = 0.4
_AGAIN_EVERY = 5


class NotLanded(WalletError):
    """A transaction failed on chain, or ran out before it landed."""


async def send_and_wait(
    rpc: RpcPool, signer: Signer, instructions: Sequence[Instruction], *, micro_lamports: int
) -> str:
    """Return the signature of a transaction once it is confirmed; `micro_lamports` is its price per compute unit.

    Raises:
        NotLanded: if it failed, or its blockhash ran out before it landed.
        SigningFailed: if it was not signed.
        RpcError: if it was refused, or no node tells what became of it.
    """
    blockhash, last_height = await rpc.call("getLatestBlockhash", [{"commitment": "confirmed"}], read=_blockhash)
    priced = [set_compute_unit_price(micro_lamports), *instructions]
    message = compiled(signer.address, priced, [], blockhash)
    signature = Signature.from_bytes(await signer.sign(to_bytes_versioned(message)))
    raw = bytes(VersionedTransaction.populate(message, [signature]))
    sent = [base64.b64encode(raw).decode(), {"encoding": "base64", "preflightCommitment": "confirmed"}]
    await rpc.call("sendTransaction", sent, read=_text, hedge=False)
    looks = 0
    while True:
        status = await _status(rpc, str(signature))
        if status is not None and status.get("err") is not None:
            raise NotLanded(f"the transaction {signature} failed: {status['err']}")
        if status is not None and status.get("confirmationStatus") in ("confirmed", "finalized"):
            return str(signature)
        height = await rpc.call("getBlockHeight", [{"commitment": "finalized"}], read=_number)
        if status is None and height > last_height:
            raise NotLanded(f"the transaction {signature} did not land before its blockhash ran out")
        looks += 1
        if looks % _AGAIN_EVERY == 0:
            await rpc.everywhere(
                "sendTransaction", [sent[0], {"encoding": "base64", "skipPreflight": True}], read=_text
            )
        await asyncio.sleep(_LOOK_S)


async def _status(rpc: RpcPool, signature: str) -> dict[str, Any] | None:
    options = {"searchTransactionHistory": True}
    return await rpc.call("getSignatureStatuses", [[signature], options], read=_first_status)


def _first_status(result: Any) -> dict[str, Any] | None:
    try:
        (found,) = result["value"]
    except (TypeError, KeyError, ValueError):
        raise Malformed("it is no list of one status") from None
    if found is not None and not isinstance(found, dict):
        raise Malformed("it is no status")
    return found


def _blockhash(result: Any) -> tuple[str, int]:
    try:
        value = result["value"]
        return _text(value["blockhash"]), _number(value["lastValidBlockHeight"])
    except (TypeError, KeyError):
        raise Malformed("it is no blockhash") from None


def _text(result: Any) -> str:
    if not isinstance(result, str) or not 1 <= len(result) <= 128:
        raise Malformed("it is no text")
    return result


def _number(result: Any) -> int:
    if not isinstance(result, int) or isinstance(result, bool) or result < 0:
        raise Malformed("it is no number")
    return result
