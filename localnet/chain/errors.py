"""Transaction errors in the forms and words of a node.

Forms: how serde shows `TransactionError`; words: its Display. Both from anza-xyz/solana-sdk, transaction-error.
"""

from __future__ import annotations

import json
from typing import cast

from solders.transaction_status import TransactionErrorType, UiTransactionStatusMeta

from localnet.chain.records import ErrorForm

_WORDS = {
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "InvalidAddressLookupTableData": "Transaction loads an address table account with invalid data",
    "InvalidAddressLookupTableIndex": "Transaction address table lookup uses an invalid index",
    "InvalidAddressLookupTableOwner": "Transaction loads an address table account with an invalid owner",
    "InvalidProgramForExecution": "This program may not be used for executing instructions",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
    "SanitizeFailure": "Transaction failed to sanitize accounts offsets correctly",
    "SignatureFailure": "Transaction did not pass signature verification",
}


def error_form(error: TransactionErrorType) -> ErrorForm:
    """Return an error of the VM as JSON-RPC shows it."""
    # The only type of solders that shows an error alone, and in the node's own form.
    shown = json.loads(UiTransactionStatusMeta(error, 0, [], []).to_json())
    return cast("ErrorForm", shown["err"])


def in_words(error: ErrorForm) -> str:
    """Return an error as a node puts it into a message."""
    if isinstance(error, str):
        return _WORDS.get(error, error)
    name, detail = next(iter(error.items()))
    if name == "InstructionError" and isinstance(detail, list):
        number, cause = detail
        if isinstance(cause, dict) and "Custom" in cause:
            return f"Error processing Instruction {number}: custom program error: {cause['Custom']:#x}"
        return f"Error processing Instruction {number}: {cause}"
    if name == "InsufficientFundsForRent" and isinstance(detail, dict):
        return f"Transaction results in an account ({detail['account_index']}) with insufficient funds for rent"
    return f"{name}: {detail}"
