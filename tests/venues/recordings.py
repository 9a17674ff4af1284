"""Recorded instructions, and pool accounts laid out so that building one leads to the recorded bytes."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import base58

from markets.solana.venues import Instruction, Meta
from markets.solana.venues.shape import key


@dataclass(frozen=True)
class Recorded:
    program: str
    metas: tuple[Meta, ...]
    data: bytes
    labels: dict[str, str]

    @property
    def addresses(self) -> list[str]:
        return [meta.address for meta in self.metas]

    @property
    def flags(self) -> list[tuple[bool, bool]]:
        return [(meta.signer, meta.writable) for meta in self.metas]


def instruction(folder: Path, name: str) -> Recorded:
    document = json.loads((folder / "solana" / "carbon" / f"{name}_ix.json").read_text())
    metas = tuple(Meta(one["pubkey"], one["is_signer"], one["is_writable"]) for one in document["accounts"])
    labels = {one["label"]: one["pubkey"] for one in document["accounts"] if "label" in one}
    return Recorded(document["program_id"], metas, bytes.fromhex(document["data"]), labels)


def inner_instructions(folder: Path, name: str, program: str) -> list[tuple[list[str], bytes]]:
    """The inner instructions of one program in a recorded transaction: accounts and data."""
    path = next((folder / "solana" / "transactions").glob(f"{name}__*.json"))
    document = json.loads(path.read_text())
    document = document.get("result", document)
    loaded = document["meta"]["loadedAddresses"]
    keys = document["transaction"]["message"]["accountKeys"] + loaded["writable"] + loaded["readonly"]
    return [
        ([keys[index] for index in one["accounts"]], base58.b58decode(one["data"]))
        for group in document["meta"]["innerInstructions"]
        for one in group["instructions"]
        if keys[one["programIdIndex"]] == program
    ]


def laid_out(size: int, *parts: tuple[int, bytes | str]) -> bytes:
    """Bytes with parts at their offsets; a text is an address."""
    data = bytearray(size)
    for offset, part in parts:
        raw = key(part) if isinstance(part, str) else part
        data[offset : offset + len(raw)] = raw
    return bytes(data)


def flags(built: Instruction) -> list[tuple[bool, bool]]:
    return [(meta.signer, meta.writable) for meta in built.metas]


def addresses(built: Instruction) -> list[str]:
    return [meta.address for meta in built.metas]


def router_accounts(folder: Path) -> tuple[dict[str, str], dict[str, tuple[str, bytes, int]]]:
    """Recorded stake pools and what belongs to them: addresses by name, and (owner, data, lamports) by address."""
    names, known = {}, {}
    for path in sorted((folder / "solana" / "accounts" / "sanctum_router").glob("*.json")):
        document = json.loads(path.read_text())
        account = document["account"]
        names[path.stem] = document["pubkey"]
        known[document["pubkey"]] = account["owner"], base64.b64decode(account["data"][0]), account["lamports"]
    return names, known
