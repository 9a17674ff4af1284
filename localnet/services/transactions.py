"""Methods about transactions: sent, simulated, looked up, and what they cost.

Shapes, limits and order of the checks: rpc/src/rpc.rs of anza-xyz/agave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from solders.message import from_bytes_versioned
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from localnet.chain.prepared import PACKET_BYTES, read
from localnet.chain.records import ChainRefusal, ErrorForm, Record, Simulated
from localnet.services.accounts import encoder, in_context
from localnet.services.encoding import encoding_of, inner_of, memo_of, return_data_of, told
from localnet.services.errors import MethodError, bad_signature, invalid
from localnet.services.params import (
    Params,
    address_of,
    at,
    bytes_of,
    commitment_of,
    confirmed_of,
    count_of,
    flag_of,
    list_of,
    needed,
    not_before,
    options_of,
    signature_of,
    version_option,
    view_of,
)
from localnet.services.parsed import decimals_in, looked_up
from localnet.services.state import NodeState

MAX_STATUSES = 256
MAX_SIGNATURES = 1_000
MAX_FEE_ACCOUNTS = 128


def send_transaction(node: NodeState, params: Params) -> object:
    """Answer sendTransaction: checked and simulated unless the caller skips that, then queued."""
    chain = node.chain()
    options = options_of(params, 1)
    raw = _raw_of(needed(params, 0), options)
    skipped = flag_of(options, "skipPreflight")
    count_of(options.get("maxRetries"), "maxRetries", 0)
    not_before(node.view(commitment_of(options, "preflightCommitment")), options)
    transaction = _read(raw)
    signature = str(transaction.signatures[0])
    if not skipped:
        node.check_health()
        if not node.knows(str(transaction.message.recent_blockhash)):
            raise _preflight_failure(ChainRefusal("BlockhashNotFound", "Blockhash not found"))
    try:
        chain.send(raw, preflight=not skipped)
    except ChainRefusal as refusal:
        if skipped:
            # Nobody looked at it: a node passes it on, and nothing comes of it.
            return signature
        if refusal.error == "SignatureFailure":
            raise bad_signature() from None
        raise _preflight_failure(refusal) from None
    node.received(signature)
    return signature


def _preflight_failure(refusal: ChainRefusal) -> MethodError:
    value = _simulated(refusal.error, refusal.logs, refusal.units)
    return MethodError(-32002, f"Transaction simulation failed: {refusal}", value)


def _simulated(error: ErrorForm | None, logs: Sequence[str], units: int) -> dict[str, object]:
    return {
        "accounts": None,
        "err": error,
        "innerInstructions": None,
        "logs": list(logs),
        "replacementBlockhash": None,
        "returnData": None,
        "unitsConsumed": units,
    }


def simulate_transaction(node: NodeState, params: Params) -> object:
    """Answer simulateTransaction: on the newest state, whatever the commitment."""
    chain = node.chain()
    options = options_of(params, 1)
    raw = _raw_of(needed(params, 0), options)
    verify, replace = flag_of(options, "sigVerify"), flag_of(options, "replaceRecentBlockhash")
    if verify and replace:
        raise invalid("sigVerify may not be used with replaceRecentBlockhash")
    view = view_of(node, options)
    transaction = _read(raw)
    wanted, accounts_options = _wanted_accounts(options, transaction)
    try:
        outcome = chain.simulate(transaction, sig_verify=verify, replace_blockhash=replace, addresses=wanted or ())
    except ChainRefusal as refusal:
        if refusal.error == "SignatureFailure":
            raise bad_signature() from None
        return in_context(view, _simulated(refusal.error, refusal.logs, refusal.units))
    if verify and outcome.error == "SignatureFailure":
        raise bad_signature()
    newest = node.views.newest
    body = _simulated(outcome.error, outcome.logs, outcome.units)
    if outcome.fee is not None:
        body["fee"] = outcome.fee
    if wanted is not None:
        encode = encoder(accounts_options, newest, "base64")
        left = [outcome.accounts.get(one) if outcome.error is None else None for one in wanted]
        body["accounts"] = [
            None if account is None else encode(address, account) for address, account in zip(wanted, left, strict=True)
        ]
    if flag_of(options, "innerInstructions"):
        body["innerInstructions"] = _inner(node, transaction, outcome)
    if outcome.return_data is not None:
        body["returnData"] = return_data_of(outcome.return_data)
    if outcome.blockhash is not None:
        blockhash, last = outcome.blockhash
        body["replacementBlockhash"] = {"blockhash": blockhash, "lastValidBlockHeight": last}
    # The slot is that of the state it ran on, which is always the newest one.
    return in_context(newest, body)


def _wanted_accounts(
    options: Mapping[str, Any], transaction: VersionedTransaction
) -> tuple[list[str] | None, Mapping[str, Any]]:
    given = options.get("accounts")
    if given is None:
        return None, {}
    if not isinstance(given, dict):
        raise invalid("Invalid params: accounts: invalid type, expected an object.")
    if given.get("encoding") in ("binary", "base58"):
        raise invalid("base58 encoding not supported")
    message = transaction.message
    lookups = getattr(message, "address_table_lookups", ())
    loaded = sum(len(one.writable_indexes) + len(one.readonly_indexes) for one in lookups)
    most = len(message.account_keys) + loaded
    addresses = given.get("addresses")
    if isinstance(addresses, list) and len(addresses) > most:
        raise invalid(f"Too many accounts provided; max {most}")
    return [address_of(one) for one in list_of(addresses, "public keys", most)], given


def _inner(node: NodeState, transaction: VersionedTransaction, outcome: Simulated) -> list[dict[str, object]]:
    """Return the inner instructions of a simulation, parsed where a parser knows them."""
    message, view = transaction.message, node.views.newest
    keys = [str(key) for key in message.account_keys]
    writable: list[str] = []
    readonly: list[str] = []
    for lookup in getattr(message, "address_table_lookups", ()):
        table = view.accounts.get(str(lookup.account_key))
        if table is None:
            return []
        writable += looked_up(table.data, lookup.writable_indexes)
        readonly += looked_up(table.data, lookup.readonly_indexes)
    return inner_of(outcome.inner_instructions, [*keys, *writable, *readonly], decimals_in(view), as_parsed=True)


def _raw_of(text: object, options: Mapping[str, Any]) -> bytes:
    encoding = options.get("encoding")
    if encoding not in (None, "base58", "base64"):
        raise invalid(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")
    raw = bytes_of(text, encoding)
    if len(raw) > PACKET_BYTES:
        raise invalid(f"decoded VersionedTransaction too large: {len(raw)} bytes (max: {PACKET_BYTES} bytes)")
    return raw


def _read(raw: bytes) -> VersionedTransaction:
    try:
        return read(raw).transaction
    except ChainRefusal as refusal:
        raise invalid(str(refusal)) from None


def signature_statuses(node: NodeState, params: Params) -> object:
    """Answer getSignatureStatuses."""
    chain = node.chain()
    signatures = [signature_of(one) for one in list_of(needed(params, 0), "signatures", MAX_STATUSES)]
    history = flag_of(options_of(params, 1), "searchTransactionHistory")
    return in_context(node.view(), [_status(node, chain.status(one, history=history)) for one in signatures])


def _status(node: NodeState, status: Any) -> object:
    seen = None if status is None else node.commitment_of(status)
    if seen is None:
        return None
    return {
        "confirmationStatus": seen[0],
        "confirmations": seen[1],
        "err": status.error,
        "slot": status.slot,
        "status": {"Ok": None} if status.error is None else {"Err": status.error},
    }


def get_transaction(node: NodeState, params: Params) -> object:
    """Answer getTransaction."""
    chain = node.chain()
    signature = signature_of(needed(params, 0))
    given = at(params, 1)
    options = {"encoding": given} if isinstance(given, str) else options_of(params, 1)
    commitment = confirmed_of(options)
    encoding = encoding_of(options.get("encoding"))
    newest = version_option(options)
    record = chain.record(signature, commitment)
    if record is None or record.slot > node.view(commitment).slot:
        return None
    return told(record, encoding, newest) | {"blockTime": record.block_time, "slot": record.slot}


def signatures_for_address(node: NodeState, params: Params) -> object:
    """Answer getSignaturesForAddress, newest first."""
    chain = node.chain()
    address = address_of(needed(params, 0))
    options = options_of(params, 1)
    commitment = confirmed_of(options)
    limit = count_of(options.get("limit"), "limit", MAX_SIGNATURES)
    if not 1 <= limit <= MAX_SIGNATURES:
        raise invalid(f"Invalid limit; max {MAX_SIGNATURES}")
    ends = [None if options.get(name) is None else signature_of(options[name]) for name in ("before", "until")]
    view = not_before(node.view(commitment), options)
    found = chain.signatures(address, before=ends[0], until=ends[1], limit=limit, commitment=commitment)
    return [_listed(node, one) for one in found if one.slot <= view.slot]


def _listed(node: NodeState, record: Record) -> dict[str, object]:
    final = record.slot <= node.view("finalized").slot
    return {
        "blockTime": record.block_time,
        "confirmationStatus": "finalized" if final else "confirmed",
        "err": record.error,
        "memo": memo_of(record),
        "signature": record.signature,
        "slot": record.slot,
    }


def prioritization_fees(node: NodeState, params: Params) -> object:
    """Answer getRecentPrioritizationFees."""
    chain = node.chain()
    given = at(params, 0)
    addresses = [] if given is None else [address_of(one) for one in list_of(given, "public keys", MAX_FEE_ACCOUNTS)]
    newest = node.slot
    return [
        {"prioritizationFee": price, "slot": slot} for slot, price in chain.fee_samples(addresses) if slot <= newest
    ]


def fee_for_message(node: NodeState, params: Params) -> object:
    """Answer getFeeForMessage: base and priority fee; null where its blockhash has run out."""
    chain = node.chain()
    raw = bytes_of(needed(params, 0), "base64")
    view = view_of(node, options_of(params, 1))
    try:
        message = from_bytes_versioned(raw)
        unsigned = [Signature.default()] * message.header.num_required_signatures
        transaction = VersionedTransaction.populate(message, unsigned)
        transaction.sanitize()
    except ValueError as error:
        raise invalid(f"failed to deserialize VersionedMessage: {error}") from None
    if not chain.blockhash_valid(str(message.recent_blockhash)):
        return in_context(view, None)
    try:
        outcome = chain.simulate(transaction, sig_verify=False, replace_blockhash=False)
    except ChainRefusal:
        return in_context(view, None)
    # What could not even be loaded has no fee.
    return in_context(view, outcome.fee or None)


def request_airdrop(node: NodeState, params: Params) -> object:
    """Answer requestAirdrop: a transfer from the faucet."""
    chain = node.chain()
    address = address_of(needed(params, 0))
    lamports = count_of(needed(params, 1), "lamports", 0)
    commitment_of(options_of(params, 2))
    try:
        signature = chain.airdrop(address, lamports)
    except ChainRefusal as refusal:
        raise MethodError(-32603, f"Internal error: {refusal}") from None
    node.received(signature)
    return signature


METHODS: Mapping[str, Callable[[NodeState, Params], object]] = {
    "sendTransaction": send_transaction,
    "simulateTransaction": simulate_transaction,
    "getSignatureStatuses": signature_statuses,
    "getTransaction": get_transaction,
    "getSignaturesForAddress": signatures_for_address,
    "getRecentPrioritizationFees": prioritization_fees,
    "getFeeForMessage": fee_for_message,
    "requestAirdrop": request_airdrop,
}
