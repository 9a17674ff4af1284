"""Found pools in a file, so that a start does not have to ask the chain for what it told a minute ago."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from markets.solana.discovery import Found, Limits
from markets.tokens import Registry, mint_problem

FORMAT, VERSION = "pipeline-pools", 1
MAX_BYTES = 16 << 20
_FOUND = TypeAdapter(Found)


class CacheRefused(ValueError):
    """A cache that is not used.

    `reason` is stable: missing, unreadable, corrupted, version, other_chain, other_limits.
    """

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the reason beside the sentence."""
        super().__init__(detail)
        self.reason = reason


def fingerprint(registry: Registry, limits: Limits) -> str:
    """Return what a list of pools depends on, as a short text: another one means that the list is another."""
    pairs = sorted(sorted(pair.mints) for pair in registry.pairs)
    text = json.dumps([pairs, {**asdict(limits), "parallel": 0}], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save(path: Path, found: Found, *, chain: str, asked: str) -> None:
    """Write the file whole or not at all.

    Raises:
        OSError: if it cannot be written; what was there stays.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "chain": chain,
        "asked": asked,
        **asdict(found),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def load(path: Path, *, chain: str | None = None, asked: str | None = None) -> Found:
    """Read the file; `chain` and `asked` are what it must be of, where they matter.

    Raises:
        CacheRefused: with the reason.
    """
    document = _document(path)
    if document.get("format") != FORMAT:
        raise CacheRefused("corrupted", f"{path} is no list of pools")
    if document.get("version") != VERSION:
        raise CacheRefused("version", f"{path} has version {document.get('version')!r}, not {VERSION}")
    if chain is not None and document.get("chain") != chain:
        raise CacheRefused("other_chain", f"{path} is of another chain: {str(document.get('chain'))[:44]}")
    if asked is not None and document.get("asked") != asked:
        raise CacheRefused("other_limits", f"{path} was made for other pairs or limits")
    try:
        return _found(document)
    except ValidationError as error:
        first = error.errors()[0]
        raise CacheRefused("corrupted", f"{path} is damaged: {first['loc']}: {first['msg']}") from None
    except (KeyError, ValueError) as error:
        raise CacheRefused("corrupted", f"{path} is damaged: {error}") from None


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CacheRefused("corrupted", f"{path} is larger than any list of pools")
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CacheRefused("missing", f"{path} does not exist yet") from None
    except OSError as error:
        raise CacheRefused("unreadable", f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CacheRefused("corrupted", f"{path} is damaged: {error}") from None
    if not isinstance(document, dict):
        raise CacheRefused("corrupted", f"{path} is no list of pools")
    return document


def _found(document: dict[str, Any]) -> Found:
    found = _FOUND.validate_python({field.name: document[field.name] for field in fields(Found)})
    for pool in found.pools:
        for address in (pool.address, pool.program, pool.mint_a, pool.mint_b):
            if mint_problem(address):
                raise ValueError(f"{address!r} is no address")
        if any(held is not None and held < 0 for held in (pool.held_a, pool.held_b)):
            raise ValueError(f"{pool.address} holds less than nothing")
    return found
