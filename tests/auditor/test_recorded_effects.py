"""Recorded transactions of mainnet, explained to the lamport."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from base58 import b58decode

from markets.solana.transactions.effects import Effect, effect_of, fills_of
from markets.solana.transactions.landed import read_landed
from markets.tokens import SOL_MINT, USDC_MINT

pytestmark = pytest.mark.recorded

JUP = "JUPyiwrYJFskUPiHa7hkeR8VUtAeFoSYbKedZNsDvCN"


@pytest.fixture
def recorded(recorded_data: Path) -> dict[str, dict[str, Any]]:
    """Every recorded result by the first part of its file's name."""
    found = {}
    for path in sorted((recorded_data / "solana" / "transactions").glob("*.json")):
        told = json.loads(path.read_text())
        found[path.name.split("__")[0]] = told.get("result", told)
    assert len(found) == 8
    return found


def explained(told: dict[str, Any], *wallets: str) -> Effect:
    payer = told["transaction"]["message"]["accountKeys"][0]
    return effect_of(told, wallets or (payer,))


def test_every_lamport_is_explained(recorded: dict[str, dict[str, Any]]) -> None:
    for name, told in recorded.items():
        landed = read_landed(told)
        # With every owner a wallet of ours, and every other account too, nothing may be left over.
        owners = {holding.owner for held in (landed.tokens_before, landed.tokens_after) for holding in held.values()}
        effect = effect_of(told, {*owners, *landed.keys})
        counted = {address for owned in effect.accounts.values() for address in owned}
        assert counted == set(landed.keys), name
        # The accounts that are not token accounts, and all token accounts by their owners.
        systems = sum(
            effect.accounts[key][key].lamports_after - effect.accounts[key][key].lamports_before
            for index, key in enumerate(landed.keys)
            if index not in landed.tokens_before and index not in landed.tokens_after
        )
        of_owners = sum(
            one.lamports_after - one.lamports_before
            for owned in effect.accounts.values()
            for one in owned.values()
            if one.mint
        )
        assert systems + of_owners == -effect.fee, name
        assert effect.fee == effect.base_fee + effect.priority_fee == told["meta"]["fee"], name
        assert effect.base_fee == 5_000, name


def test_each_payer_s_gain(recorded: dict[str, dict[str, Any]]) -> None:
    found = {name: explained(told) for name, told in recorded.items()}
    gains = {name: (effect.lamports[effect.payer], effect.tokens[effect.payer]) for name, effect in found.items()}
    assert gains == {
        # Only the fee, 5,000 + 515,451.
        "failed-swap": (-520_451, {}),
        "native-sol-transfer": (-100_005_000, {}),
        "send-usdc-transfer": (-5_000, {"4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU": -10_000}),
        # Twenty payments of one lamport and the fee.
        "spam": (-5_845, {}),
        # 28,168 lamports of wrapped SOL were bought; the account for them was opened and closed in between.
        "swap-a16z-usdt-sol": (28_168 - 22_342, {"HeLp6NuQkmYB4pYWo2zYs22mESHXPQYzXbB8n4V98jwC": -21_898_077}),
        # 991,250 swapped, 8,750 to a collector of fees.
        "swap-sol-to-usdc": (-991_250 - 8_750 - 15_072, {USDC_MINT: 167_225}),
        "swap-trump-to-jup": (
            -41_876,
            {JUP: 1_265_445, "6p6xgHyF7AeE6TZkSmFsko444wqoP15icUSqi2jfGiPN": -437 - 49_563},
        ),
        "swap-usdc-to-jup": (-80_001, {USDC_MINT: -9_350 - 1_090_650, JUP: 2_143_812}),
    }


def test_transfers_add_up_to_the_balances(recorded: dict[str, dict[str, Any]]) -> None:
    """What instructions say and what balances say are the same, for every owner and token of every transaction."""
    for name, told in recorded.items():
        landed = read_landed(told)
        owners = {holding.owner for held in (landed.tokens_before, landed.tokens_after) for holding in held.values()}
        effect = effect_of(told, owners)
        moved: dict[tuple[str, str], int] = {}
        for one in effect.transfers:
            assert one.fee == 0, name
            moved[one.source_owner, one.mint] = moved.get((one.source_owner, one.mint), 0) - one.amount
            moved[one.destination_owner, one.mint] = moved.get((one.destination_owner, one.mint), 0) + one.amount
        moved = {key: amount for key, amount in moved.items() if amount and key[1] != SOL_MINT}
        gained = {(owner, mint): gain for owner, gains in effect.tokens.items() for mint, gain in gains.items()}
        assert moved == gained, name


def test_fills_of_a_swap(recorded: dict[str, dict[str, Any]]) -> None:
    class ALeg:
        def __init__(self, pool: str, token_in: str, token_out: str) -> None:
            self.pool, self.token_in, self.token_out = pool, token_in, token_out

    effect = explained(recorded["swap-sol-to-usdc"])
    called = next(step for step in effect.steps if step.program == "obriQD1zbpyLz95G5n7nJe6a4DPjpFwa5XYPoNm113y")
    [fill] = fills_of(effect, [ALeg(called.accounts[1], SOL_MINT, USDC_MINT)], effect.payer)
    assert (fill.amount_in, fill.amount_out) == (991_250, 167_225)


def test_the_other_encoding_says_the_same(recorded: dict[str, dict[str, Any]]) -> None:
    for name, told in recorded.items():
        as_base64 = told | {"transaction": [base64.b64encode(raw_transaction(told)).decode(), "base64"]}
        wallets = set(read_landed(told).keys)
        assert effect_of(as_base64, wallets) == effect_of(told, wallets), name


def raw_transaction(told: dict[str, Any]) -> bytes:
    """The transaction as it was sent: the compact form of its JSON."""
    message, version = told["transaction"]["message"], told.get("version")
    keys, header, lookups = message["accountKeys"], message["header"], message.get("addressTableLookups") or []
    if len(keys) == len(told["meta"]["preBalances"]):
        loaded = told["meta"]["loadedAddresses"]
        keys = keys[: len(keys) - len(loaded["writable"]) - len(loaded["readonly"])]
    counts = ("numRequiredSignatures", "numReadonlySignedAccounts", "numReadonlyUnsignedAccounts")
    parts = [b"" if version == "legacy" else b"\x80", bytes(header[name] for name in counts)]
    parts += [compact([b58decode(key) for key in keys]), b58decode(message["recentBlockhash"])]
    parts.append(
        compact(
            [
                bytes([one["programIdIndex"], len(one["accounts"]), *one["accounts"]]) + sized(b58decode(one["data"]))
                for one in message["instructions"]
            ]
        )
    )
    if version != "legacy":
        parts.append(
            compact(
                [
                    b58decode(one["accountKey"])
                    + sized(bytes(one["writableIndexes"]))
                    + sized(bytes(one["readableIndexes"] if "readableIndexes" in one else one["readonlyIndexes"]))
                    for one in lookups
                ]
            )
        )
    return compact([b58decode(one) for one in told["transaction"]["signatures"]]) + b"".join(parts)


def compact(parts: list[bytes]) -> bytes:
    return bytes([len(parts)]) + b"".join(parts)


def sized(data: bytes) -> bytes:
    length, prefix = len(data), b""
    while True:
        length, low = length >> 7, length & 127
        prefix += bytes([low | 128 if length else low])
        if not length:
            return prefix + data
