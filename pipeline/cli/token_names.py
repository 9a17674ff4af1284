"""Symbols and decimals from `config/tokens.json`, for commands that show amounts."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.cli.quote_rows import Tokens
from pipeline.errors import BadData

TOKEN_FILE = Path(__file__).resolve().parents[2] / "config" / "tokens.json"


def known_tokens(path: Path = TOKEN_FILE) -> Tokens:
    """Return the tokens of the file.

    Raises:
        BadData: if it cannot be read.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["tokens"]
        return Tokens(
            {str(entry["mint"]): str(entry["symbol"]) for entry in entries},
            {str(entry["mint"]): int(entry["decimals"]) for entry in entries},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadData(f"{path} cannot be read: {error}", "the project ships config/tokens.json") from None
