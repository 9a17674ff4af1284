"""Names and decimals of tokens, for people to read."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

_TOKEN_FILE = Path(__file__).resolve().parents[2] / "config" / "tokens.json"


def names_and_amounts() -> tuple[Callable[[str], str], Callable[[str, int], str]]:
    """Return what names a mint, and what writes an amount of it; an unknown mint keeps its address and base units."""
    tokens = {entry["mint"]: entry for entry in json.loads(_TOKEN_FILE.read_text(encoding="utf-8"))["tokens"]}

    def name_of(mint: str) -> str:
        return str(tokens[mint]["symbol"]) if mint in tokens else f"{mint[:4]}..{mint[-4:]}"

    def amount_of(mint: str, amount: int) -> str:
        if mint not in tokens:
            return f"{amount:,}"
        return f"{Decimal(amount).scaleb(-int(tokens[mint]['decimals'])):,f} {tokens[mint]['symbol']}"

    return name_of, amount_of
