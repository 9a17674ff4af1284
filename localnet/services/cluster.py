"""Methods about the chain as a whole: slots, heights, blockhashes, epochs, and what a node says of itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import base58

from localnet.chain_view import KEPT_SLOTS, SLOTS_PER_EPOCH
from localnet.services.accounts import VERSION, in_context
from localnet.services.encoding import encoding_of, told
from localnet.services.errors import MethodError, invalid
from localnet.services.params import (
    Params,
    address_of,
    at,
    commitment_of,
    confirmed_of,
    count_of,
    needed,
    not_before,
    options_of,
    version_option,
    view_of,
)
from localnet.services.state import NodeState

VALID_BLOCKS = 150
"""Blocks after its own in which a blockhash may still be named."""
MAX_BLOCKS = 500_000
IDENTITY = base58.b58encode(hashlib.sha256(b"simulated node").digest()).decode()
"""Of the only validator that there is; made up."""


def health(node: NodeState, _params: Params) -> object:
    """Answer getHealth."""
    node.check_health()
    return "ok"


def version(_node: NodeState, _params: Params) -> object:
    """Answer getVersion."""
    return {"feature-set": 0, "solana-core": VERSION}


def slot(node: NodeState, params: Params) -> object:
    """Answer getSlot."""
    return view_of(node, options_of(params, 0)).slot


def block_height(node: NodeState, params: Params) -> object:
    """Answer getBlockHeight."""
    return view_of(node, options_of(params, 0)).block_height


def genesis(node: NodeState, _params: Params) -> object:
    """Answer getGenesisHash."""
    return node.views.genesis if node.ledger is None else node.ledger.genesis_hash


def identity(_node: NodeState, _params: Params) -> object:
    """Answer getIdentity."""
    return {"identity": IDENTITY}


def leader(_node: NodeState, params: Params) -> object:
    """Answer getSlotLeader."""
    commitment_of(options_of(params, 0))
    return IDENTITY


def leaders(_node: NodeState, params: Params) -> object:
    """Answer getSlotLeaders."""
    count_of(needed(params, 0), "start slot", 0)
    return [IDENTITY] * count_of(needed(params, 1), "limit", 0, 5_000)


def latest_blockhash(node: NodeState, params: Params) -> object:
    """Answer getLatestBlockhash; now and then with one that has run out, where that fault is on."""
    chain = node.chain()
    options = options_of(params, 0)
    commitment = commitment_of(options)
    view = view_of(node, options)
    blockhash, last = view.blockhash, view.block_height + VALID_BLOCKS
    if not blockhash:
        blockhash, last = chain.latest_blockhash(commitment)
    if node.draws(node.faults.expired_blockhash, "expired_blockhash"):
        old = node.views.at(VALID_BLOCKS + 2)
        if old.blockhash and old.block_height + VALID_BLOCKS < node.views.newest.block_height:
            blockhash, last = old.blockhash, old.block_height + VALID_BLOCKS
        else:
            # The chain is too young: one that it never had, which a transaction may name as little.
            blockhash = base58.b58encode(hashlib.sha256(f"expired {blockhash}".encode()).digest()).decode()
    return in_context(view, {"blockhash": blockhash, "lastValidBlockHeight": last})


def blockhash_valid(node: NodeState, params: Params) -> object:
    """Answer isBlockhashValid."""
    chain = node.chain()
    blockhash = address_of(needed(params, 0))
    view = view_of(node, options_of(params, 1))
    return in_context(view, chain.blockhash_valid(blockhash) and node.knows(blockhash))


def epoch_info(node: NodeState, params: Params) -> object:
    """Answer getEpochInfo."""
    view = view_of(node, options_of(params, 0))
    return {
        "absoluteSlot": view.slot,
        "blockHeight": view.block_height,
        "epoch": view.slot // SLOTS_PER_EPOCH,
        "slotIndex": view.slot % SLOTS_PER_EPOCH,
        "slotsInEpoch": SLOTS_PER_EPOCH,
        "transactionCount": node.transactions,
    }


def epoch_schedule(_node: NodeState, _params: Params) -> object:
    """Answer getEpochSchedule."""
    return {
        "firstNormalEpoch": 0,
        "firstNormalSlot": 0,
        "leaderScheduleSlotOffset": SLOTS_PER_EPOCH,
        "slotsPerEpoch": SLOTS_PER_EPOCH,
        "warmup": False,
    }


def transaction_count(node: NodeState, params: Params) -> object:
    """Answer getTransactionCount: those that this node saw landing."""
    view_of(node, options_of(params, 0))
    return node.transactions


def first_available_block(node: NodeState, _params: Params) -> object:
    """Answer getFirstAvailableBlock and minimumLedgerSlot: where the transactions that are told begin."""
    return node.views.at(KEPT_SLOTS).slot if node.ledger is None else node.ledger.first_record_slot


def block_time(node: NodeState, params: Params) -> object:
    """Answer getBlockTime."""
    wanted = count_of(needed(params, 0), "slot", 0)
    if wanted > node.slot:
        raise MethodError(-32004, f"Block not available for slot {wanted}")
    first = node.views.at(KEPT_SLOTS)
    if wanted < first.slot:
        raise MethodError(
            -32001, f"Block {wanted} cleaned up, does not exist on node. First available block: {first.slot}"
        )
    for number in range(KEPT_SLOTS):
        view = node.views.at(number)
        if view.slot == wanted:
            return view.unix_time
        if view.slot < wanted:
            break
    raise MethodError(-32007, f"Slot {wanted} was skipped, or missing due to ledger jump to recent snapshot")


def blocks(node: NodeState, params: Params) -> object:
    """Answer getBlocks, of the slots that are kept."""
    start = count_of(needed(params, 0), "start slot", 0)
    position = 1 if at(params, 1) is None or isinstance(at(params, 1), int) else 0
    end = at(params, 1) if position else None
    options = options_of(params, position + 1)
    newest = not_before(node.view(confirmed_of(options)), options).slot
    last = min(count_of(end, "end slot", newest), newest)
    if last - start > MAX_BLOCKS:
        raise invalid(f"Slot range too large; max {MAX_BLOCKS}")
    kept = {node.views.at(number).slot for number in range(KEPT_SLOTS)}
    return sorted(one for one in kept if start <= one <= last)


def block(node: NodeState, params: Params) -> object:
    """Answer getBlock, of the blocks that this node saw and still keeps."""
    node.chain()
    wanted = count_of(needed(params, 0), "slot", 0)
    given = at(params, 1)
    options = {"encoding": given} if isinstance(given, str) else options_of(params, 1)
    view = node.view(confirmed_of(options))
    encoding = encoding_of(options.get("encoding"))
    details = options.get("transactionDetails") or "full"
    newest = version_option(options)
    position = next((number for number, one in enumerate(node.blocks) if one.slot == wanted), None)
    if position is None or wanted > view.slot:
        raise MethodError(-32004, f"Block not available for slot {wanted}")
    block = node.blocks[position]
    before = node.blocks[position - 1] if position else None
    body: dict[str, object] = {
        "blockHeight": block.block_height,
        "blockTime": block.unix_time,
        "blockhash": block.blockhash,
        "parentSlot": before.slot if before else max(0, wanted - 1),
        "previousBlockhash": before.blockhash if before else "1" * 32,
        "rewards": [],
    }
    match details:
        case "full":
            body["transactions"] = [told(one, encoding, newest) for one in block.records]
        case "signatures":
            body["signatures"] = [one.signature for one in block.records]
        case "none":
            pass
        case _:
            raise invalid("Invalid params: transactionDetails: the simulated node knows full, signatures and none.")
    return body


METHODS: Mapping[str, Callable[[NodeState, Params], object]] = {
    "getHealth": health,
    "getVersion": version,
    "getSlot": slot,
    "getBlockHeight": block_height,
    "getGenesisHash": genesis,
    "getIdentity": identity,
    "getSlotLeader": leader,
    "getSlotLeaders": leaders,
    "getLatestBlockhash": latest_blockhash,
    "isBlockhashValid": blockhash_valid,
    "getEpochInfo": epoch_info,
    "getEpochSchedule": epoch_schedule,
    "getTransactionCount": transaction_count,
    "getFirstAvailableBlock": first_available_block,
    "minimumLedgerSlot": first_available_block,
    "getBlockTime": block_time,
    "getBlock": block,
    "getBlocks": blocks,
}
