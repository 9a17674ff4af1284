"""JSON-RPC errors as a Solana node words them.

Codes and messages: rpc-client-api/src/custom_error.rs of anza-xyz/agave; https://www.jsonrpc.org/specification.
"""

from __future__ import annotations


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
    return MethodError(-32602, message)


def parse_error() -> MethodError:
    """Return the error of what is no JSON."""
    return MethodError(-32700, "Parse error")


def invalid_request(message: str = "Invalid request") -> MethodError:
    """Return the error of JSON that is no request."""
    return MethodError(-32600, message)


def not_found() -> MethodError:
    """Return the error of a method that this node does not have."""
    return MethodError(-32601, "Method not found")


def behind(slots: int) -> MethodError:
    """Return the error of a node that is too many slots behind."""
    return MethodError(-32005, f"Node is behind by {slots} slots", {"numSlotsBehind": slots})


def too_early(slot: int) -> MethodError:
    """Return the error of a minimum slot that the node has not reached."""
    return MethodError(-32016, "Minimum context slot has not been reached", {"contextSlot": slot})


def bad_signature() -> MethodError:
    """Return the error of a transaction that is not signed as its message asks."""
    return MethodError(-32003, "Transaction signature verification failure")


def unsupported_version(version: int) -> MethodError:
    """Return the error of a transaction that is newer than its reader."""
    return MethodError(
        -32015,
        f"Transaction version ({version}) is not supported by the requesting client. Please try the request again "
        f'with the following configuration parameter: "maxSupportedTransactionVersion": {version}',
    )
