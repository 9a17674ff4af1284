"""The reference of a submission: what a claim says so that any process can ask the chain about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from markets.solana.rpc.accounts import is_address

_KIND = "solana"
_BASE58 = frozenset("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class Reference:
    """One transaction of ours."""

    signature: str
    last_valid_block_height: int
    wallet: str

    def __str__(self) -> str:
        """Return the text that stands in the claim."""
        return f"{_KIND}:{self.signature}:{self.last_valid_block_height}:{self.wallet}"


def parse_reference(text: str) -> Reference | None:
    """Return the reference that a text is; None where it is none of a chain."""
    parts = text.split(":")
    if len(parts) != 4 or parts[0] != _KIND or not is_address(parts[3]):
        return None
    signature, height = parts[1], parts[2]
    if not 64 <= len(signature) <= 88 or not _BASE58.issuperset(signature):
        return None
    if not (height.isascii() and height.isdigit() and len(height) < 19):
        return None
    return Reference(signature, int(height), parts[3])
