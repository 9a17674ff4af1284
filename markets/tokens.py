"""Tokens and pairs: what `config/tokens.json` says, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import base58

TOKEN_FILE = Path(__file__).resolve().parent.parent / "config" / "tokens.json"
SOL_MINT = "So11111111111111111111111111111111111111112"
USDC_MINT = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
LAMPORTS_PER_SOL = 1_000_000_000

Kind = Literal["native", "stable", "staked", "other"]
KINDS: tuple[Kind, ...] = ("native", "stable", "staked", "other")
_TOKEN_KEYS = frozenset({"symbol", "name", "mint", "decimals", "kind", "verified", "note"})


class TokenFileError(ValueError):
    """A token file that was refused; the message names the entry and what to do."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its mint is its identity, its symbol is for people."""

    symbol: str
    name: str
    mint: str
    decimals: int
    kind: Kind
    verified: bool
    note: str = ""

    @property
    def unit(self) -> int:
        """Return the base units of one whole token."""
        return int(10**self.decimals)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tokens that are quoted against each other, in both directions."""

    base: Token
    quote: Token

    @property
    def name(self) -> str:
        """Return the pair's name, such as `SOL/USDC`."""
        return f"{self.base.symbol}/{self.quote.symbol}"

    @property
    def mints(self) -> frozenset[str]:
        """Return both mints, without order."""
        return frozenset((self.base.mint, self.quote.mint))


@dataclass(frozen=True)
class Registry:
    """The known tokens and pairs."""

    tokens: tuple[Token, ...]
    pairs: tuple[Pair, ...]
    left_out: tuple[str, ...] = ()
    """Listed pairs that cannot be traded: a token against itself."""

    @cached_property
    def by_mint(self) -> Mapping[str, Token]:
        """Return the tokens by mint."""
        return {token.mint: token for token in self.tokens}

    @cached_property
    def by_symbol(self) -> Mapping[str, Token]:
        """Return the tokens by symbol."""
        return {token.symbol: token for token in self.tokens}

    @cached_property
    def _pairs(self) -> Mapping[frozenset[str], Pair]:
        return {pair.mints: pair for pair in self.pairs}

    def symbol(self, mint: str) -> str:
        """Return a mint's symbol, or the mint itself where the registry does not know it."""
        token = self.by_mint.get(mint)
        return mint if token is None else token.symbol

    def pair(self, mint_a: str, mint_b: str) -> Pair | None:
        """Return the listed pair of two mints, whatever their order."""
        return self._pairs.get(frozenset((mint_a, mint_b)))

    def pair_name(self, mint_a: str, mint_b: str) -> str:
        """Return the name of a pair, listed or not: the same for both orders."""
        pair = self.pair(mint_a, mint_b)
        if pair is not None:
            return pair.name
        return "/".join(self.symbol(mint) for mint in sorted((mint_a, mint_b)))

    def mint(self, symbol_or_mint: str) -> str:
        """Return the mint that a symbol or a mint names."""
        token = self.by_symbol.get(symbol_or_mint)
        if token is not None:
            return token.mint
        problem = mint_problem(symbol_or_mint)
        if problem:
            known = ", ".join(self.by_symbol)
            raise TokenFileError(
                f"{symbol_or_mint!r} is no token: neither a known symbol ({known}) nor a mint ({problem})"
            )
        return symbol_or_mint


def mint_problem(mint: str) -> str:
    """Return why a string is no account address, or an empty string."""
    try:
        size = len(base58.b58decode(mint))
    except ValueError:
        return "not base58"
    return "" if size == 32 else f"{size} bytes in base58, not 32"


def load_registry(path: Path = TOKEN_FILE) -> Registry:
    """Read a token file.

    Raises:
        TokenFileError: if the file is missing, is no JSON, or an entry is wrong.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TokenFileError(f"{path}: no such file; the project ships config/tokens.json") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"{path}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise TokenFileError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    if (
        not isinstance(document, dict)
        or not isinstance(document.get("tokens"), list)
        or not isinstance(document.get("pairs"), list)
    ):
        raise TokenFileError(f'{path}: must be an object with the lists "tokens" and "pairs"')
    return _registry(document, path)


def _registry(document: dict[str, Any], path: Path) -> Registry:
    tokens: dict[str, Token] = {}
    mints: dict[str, str] = {}
    for index, entry in enumerate(document["tokens"]):
        token = _token(entry, f"{path}: tokens[{index}]")
        if token.symbol in tokens:
            raise TokenFileError(f"{path}: tokens[{index}]: symbol {token.symbol} is listed twice")
        if token.mint in mints:
            raise TokenFileError(f"{path}: tokens[{index}]: {token.symbol} has the mint of {mints[token.mint]}")
        tokens[token.symbol] = token
        mints[token.mint] = token.symbol
    pairs: dict[frozenset[str], Pair] = {}
    left_out: list[str] = []
    for index, entry in enumerate(document["pairs"]):
        where = f"{path}: pairs[{index}]"
        if not isinstance(entry, list) or len(entry) != 2:
            raise TokenFileError(f'{where}: must be two symbols, such as ["SOL", "USDC"]')
        unknown = [symbol for symbol in entry if symbol not in tokens]
        if unknown:
            raise TokenFileError(f'{where}: unknown symbol {unknown[0]!r}; add it to "tokens" first')
        pair = Pair(tokens[entry[0]], tokens[entry[1]])
        if pair.base is pair.quote:
            left_out.append(pair.name)
        elif pair.mints in pairs:
            raise TokenFileError(f"{where}: {pair.name} is listed twice (both directions are quoted anyway)")
        else:
            pairs[pair.mints] = pair
    return Registry(tuple(tokens.values()), tuple(pairs.values()), tuple(left_out))


def _token(entry: object, where: str) -> Token:
    if not isinstance(entry, dict):
        raise TokenFileError(f"{where}: must be an object")
    unknown = sorted(set(entry) - _TOKEN_KEYS)
    if unknown:
        raise TokenFileError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_TOKEN_KEYS))}")
    for key in ("symbol", "name", "mint"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            raise TokenFileError(f"{where}: {key!r} must be text")
    problem = mint_problem(entry["mint"])
    if problem:
        raise TokenFileError(f"{where}: {entry['symbol']}: mint {entry['mint']!r} is no address: {problem}")
    decimals = entry.get("decimals")
    if type(decimals) is not int or not 0 <= decimals <= 18:
        raise TokenFileError(f"{where}: {entry['symbol']}: 'decimals' must be a whole number from 0 to 18")
    if entry.get("kind") not in KINDS:
        raise TokenFileError(f"{where}: {entry['symbol']}: 'kind' must be one of {', '.join(KINDS)}")
    if type(entry.get("verified")) is not bool:
        raise TokenFileError(f"{where}: {entry['symbol']}: 'verified' must be true or false")
    return Token(
        entry["symbol"],
        entry["name"],
        entry["mint"],
        decimals,
        entry["kind"],
        entry["verified"],
        str(entry.get("note", "")),
    )
