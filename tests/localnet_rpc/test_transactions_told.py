"""Transactions as they are told: what they did to the lamport, in every encoding; sent and simulated ones."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import base58
import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.message import to_bytes_versioned
from solders.transaction import VersionedTransaction

from markets.solana.transactions.tips import TIP_ACCOUNTS
from markets.solana.transactions.token_accounts import open_account

from .nodekit import (
    MINT,
    PURSE_A,
    PURSE_B,
    SOL,
    TABLE,
    TOKENS,
    Stage,
    address,
    memo,
    move_tokens,
    pay,
    payment,
    signed,
    stage,
    table,
    text,
)

V0 = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
B64 = {"encoding": "base64"}


async def landed(on: Stage, transaction: VersionedTransaction, *, fails: bool = False, **options: Any) -> Any:
    """Let a transaction land; return it as getTransaction tells it."""
    signature = await on.send(transaction, skipPreflight=fails)
    on.step(2)
    return await on.ask("getTransaction", signature, V0 | options)


async def test_a_transaction_is_told_whole():
    async with stage() as on:
        price = [set_compute_unit_limit(10_000), set_compute_unit_price(500_000)]
        sent = signed(
            on.chain,
            *price,
            move_tokens(1_500_000),
            pay("a", TIP_ACCOUNTS[1], 3_000),
            memo("hello"),
            tables=[table()],
        )
        told = await landed(on, sent)
        meta = told["meta"]
        assert told["slot"] == 2
        assert told["version"] == 0
        assert told["blockTime"] == on.chain.views.by("confirmed").unix_time
        assert meta["err"] is None
        assert meta["status"] == {"Ok": None}
        assert meta["fee"] == 5_000 + 5_000
        message = told["transaction"]["message"]
        (lookup,) = message["addressTableLookups"]
        assert sorted(lookup["writableIndexes"]) == [0, 1, 2]
        entries = [PURSE_A, PURSE_B, TIP_ACCOUNTS[1]]
        assert meta["loadedAddresses"] == {
            "readonly": [],
            "writable": [entries[index] for index in lookup["writableIndexes"]],
        }
        assert lookup["accountKey"] == TABLE
        assert told["transaction"]["signatures"] == [str(sent.signatures[0])]
        keys = message["accountKeys"] + meta["loadedAddresses"]["writable"]
        assert len(keys) == len(meta["preBalances"]) == len(meta["postBalances"])
        paid = dict(
            zip(keys, (b - a for a, b in zip(meta["preBalances"], meta["postBalances"], strict=True)), strict=True)
        )
        assert paid[address("a")] == -(10_000 + 3_000)
        assert paid[TIP_ACCOUNTS[1]] == 3_000
        assert sum(meta["preBalances"]) - sum(meta["postBalances"]) == meta["fee"]
        held = {keys[one["accountIndex"]]: one for one in meta["postTokenBalances"]}
        assert held[PURSE_B] == {
            "accountIndex": keys.index(PURSE_B),
            "mint": MINT,
            "owner": address("b"),
            "programId": TOKENS,
            "uiTokenAmount": {"amount": "1500000", "decimals": 6, "uiAmount": 1.5, "uiAmountString": "1.5"},
        }
        before = {keys[one["accountIndex"]]: one["uiTokenAmount"] for one in meta["preTokenBalances"]}
        assert before[PURSE_B] == {"amount": "0", "decimals": 6, "uiAmount": None, "uiAmountString": "0"}
        assert meta["computeUnitsConsumed"] > 300
        assert any("success" in one for one in meta["logMessages"])
        # The instructions put together give the message that was signed.
        compiled = sent.message.instructions
        assert [one["data"] for one in message["instructions"]] == [
            base58.b58encode(one.data).decode() for one in compiled
        ]
        assert [one["accounts"] for one in message["instructions"]] == [list(one.accounts) for one in compiled]
        assert all(one["stackHeight"] is None for one in message["instructions"])


async def test_the_bytes_are_those_that_were_sent():
    async with stage() as on:
        sent = payment(on.chain)
        signature = await on.send(sent)
        on.step(2)
        for encoding, decode in (("base64", base64.b64decode), ("base58", base58.b58decode)):
            told = (await on.ask("getTransaction", signature, V0 | {"encoding": encoding}))["transaction"]
            assert told[1] == encoding
            assert decode(told[0]) == bytes(sent)
        old = (await on.ask("getTransaction", signature, V0 | {"encoding": "binary"}))["transaction"]
        assert base58.b58decode(old) == bytes(sent)


async def test_what_is_parsed_says_what_it_does():
    async with stage() as on:
        told = await landed(
            on,
            signed(on.chain, move_tokens(9), pay("a", address("b"), 5), memo("hello"), tables=[table()]),
            encoding="jsonParsed",
        )
        message = told["transaction"]["message"]
        assert message["accountKeys"][0] == {
            "pubkey": address("a"),
            "signer": True,
            "source": "transaction",
            "writable": True,
        }
        assert {"pubkey": PURSE_B, "signer": False, "source": "lookupTable", "writable": True} in message["accountKeys"]
        tokens, lamports, note = message["instructions"]
        assert tokens["parsed"] == {
            "info": {"amount": "9", "authority": address("a"), "destination": PURSE_B, "source": PURSE_A},
            "type": "transfer",
        }
        assert tokens["program"] == "spl-token"
        assert lamports["parsed"]["info"] == {"destination": address("b"), "lamports": 5, "source": address("a")}
        assert note["parsed"] == "hello"
        assert "loadedAddresses" not in told["meta"]
        (listed,) = await on.ask("getSignaturesForAddress", PURSE_B, {"commitment": "confirmed"})
        assert listed["memo"] == "[5] hello"


async def test_a_transaction_that_failed_has_paid_its_fee():
    async with stage() as on:
        told = await landed(on, signed(on.chain, pay("a", address("b"), 5), move_tokens(10**15)), fails=True)
        meta = told["meta"]
        assert meta["err"] == {"InstructionError": [1, {"Custom": 1}]}
        assert meta["status"] == {"Err": meta["err"]}
        assert meta["preBalances"][0] - meta["postBalances"][0] == meta["fee"] == 5_000
        assert meta["preTokenBalances"] == meta["postTokenBalances"]
        (status,) = (await on.ask("getSignatureStatuses", [told["transaction"]["signatures"][0]]))["value"]
        assert status["err"] == meta["err"]


async def test_inner_instructions_are_told_with_what_called_them():
    async with stage() as on:
        # Opening a token account calls the token and the system program.
        opening = open_account(address("a"), address("b"), MINT, TOKENS)
        told = await landed(on, signed(on.chain, opening))
        (group,) = told["meta"]["innerInstructions"]
        assert group["index"] == 0
        assert len(group["instructions"]) == 4
        assert {one["stackHeight"] for one in group["instructions"]} == {2}
        parsed = await on.ask("getTransaction", told["transaction"]["signatures"][0], V0 | {"encoding": "jsonParsed"})
        kinds = [
            one["parsed"]["type"] for one in parsed["meta"]["innerInstructions"][0]["instructions"] if "parsed" in one
        ]
        assert kinds == ["createAccount", "initializeImmutableOwner", "initializeAccount3"]


async def test_versions():
    async with stage() as on:
        new, old = payment(on.chain, 3), payment(on.chain, 4, legacy=True)
        for one in (new, old):
            await on.send(one)
        on.step(2)
        refusal = await on.refused("getTransaction", str(new.signatures[0]), {"commitment": "confirmed"})
        assert refusal["code"] == -32015
        assert '"maxSupportedTransactionVersion": 0' in refusal["message"]
        told = await on.ask("getTransaction", str(old.signatures[0]), {"commitment": "confirmed"})
        assert "version" not in told
        told = await on.ask("getTransaction", str(old.signatures[0]), V0)
        assert told["version"] == "legacy"
        assert "addressTableLookups" not in told["transaction"]["message"]
        refusal = await on.refused("getBlock", 2, {"commitment": "confirmed"})
        assert refusal["code"] == -32015


@pytest.mark.recorded
async def test_the_shape_is_that_of_recorded_transactions(recorded_data: Path):
    def shape(value: Any, depth: int = 0) -> Any:
        """Names of the fields; lists by their first element."""
        if isinstance(value, dict) and depth < 4:
            return {name: shape(one, depth + 1) for name, one in value.items()}
        if isinstance(value, list) and value:
            return [shape(value[0], depth + 1)]
        return None

    folder = recorded_data / "solana" / "transactions"
    recorded = json.loads((folder / "send-usdc-transfer__EXPECTED_SEND_USDC_TRANSFER_DATA.json").read_text())
    async with stage() as on:
        told = await landed(on, signed(on.chain, move_tokens(9)))
        assert set(told) == set(recorded)
        wanted, found = shape(recorded["transaction"]), shape(told["transaction"])
        wanted["message"].pop("addressTableLookups")
        found["message"].pop("addressTableLookups")
        assert found == wanted
        assert set(told["meta"]) == set(recorded["meta"])
        for name in ("preTokenBalances", "postTokenBalances", "loadedAddresses", "status", "fee"):
            assert shape(told["meta"][name]) == shape(recorded["meta"][name])


async def test_history_is_listed_newest_first_and_in_pages():
    async with stage() as on:
        sent = []
        for number in range(5):
            sent.append(await on.send(payment(on.chain, number + 1)))
            on.step()
        on.step()
        options = {"commitment": "confirmed"}
        listed = await on.ask("getSignaturesForAddress", address("b"), options)
        assert [one["signature"] for one in listed] == sent[::-1]
        assert [one["slot"] for one in listed] == sorted((one["slot"] for one in listed), reverse=True)
        assert listed[0]["confirmationStatus"] == "confirmed"
        page = await on.ask("getSignaturesForAddress", address("b"), options | {"before": sent[3], "limit": 2})
        assert [one["signature"] for one in page] == [sent[2], sent[1]]
        page = await on.ask("getSignaturesForAddress", address("b"), options | {"until": sent[3]})
        assert [one["signature"] for one in page] == [sent[4]]
        assert await on.ask("getSignaturesForAddress", address("b")) == []
        on.step(32)
        assert len(await on.ask("getSignaturesForAddress", address("b"))) == 5


async def test_statuses_age():
    async with stage() as on:
        signature = await on.send(payment(on.chain))
        seen = []
        for _ in range(36):
            (status,) = (await on.ask("getSignatureStatuses", [signature]))["value"]
            seen.append(None if status is None else (status["confirmationStatus"], status["confirmations"]))
            on.step()
        assert seen[0] is None
        assert seen[1] == ("processed", 0)
        assert seen[2] == ("confirmed", 1)
        assert seen[32] == ("confirmed", 31)
        assert seen[33] == ("finalized", None)
        on.step(150)
        assert (await on.ask("getSignatureStatuses", [signature]))["value"] == [None]
        searched = await on.ask("getSignatureStatuses", [signature], {"searchTransactionHistory": True})
        assert searched["value"][0]["confirmationStatus"] == "finalized"


async def test_commitments_are_honoured_everywhere():
    async with stage() as on:
        on.step(40)
        signature = await on.send(payment(on.chain, SOL))
        on.step()
        slot = on.chain.slot
        for commitment, depth, lamports in (("processed", 0, 11), ("confirmed", 1, 10), ("finalized", 32, 10)):
            asked = {"commitment": commitment}
            assert await on.ask("getSlot", asked) == slot - depth
            assert await on.ask("getBlockHeight", asked) == slot - depth
            balance = await on.ask("getBalance", address("b"), asked)
            assert balance["value"] == lamports * SOL
            assert balance["context"]["slot"] == slot - depth
            assert (await on.ask("getAccountInfo", address("b"), asked))["value"]["lamports"] == lamports * SOL
            many = await on.ask("getMultipleAccounts", [[address("b")]][0], asked)
            assert many["value"][0]["lamports"] == lamports * SOL
            latest = await on.ask("getLatestBlockhash", asked)
            assert latest["context"]["slot"] == slot - depth
            assert latest["value"]["lastValidBlockHeight"] == slot - depth + 150
            assert latest["value"]["blockhash"] == on.chain.views.by(commitment).blockhash
            assert (await on.ask("getEpochInfo", asked))["absoluteSlot"] == slot - depth
        assert await on.ask("getSlot") == slot - 32
        assert await on.ask("getTransaction", signature, V0) is None
        on.step()
        assert (await on.ask("getTransaction", signature, V0))["slot"] == slot


async def test_sending_twice_is_one_transaction():
    async with stage() as on:
        sent = payment(on.chain, 3)
        first = await on.send(sent)
        assert await on.send(sent) == first
        raw = base58.b58encode(bytes(sent)).decode()
        assert await on.ask("sendTransaction", raw, {"skipPreflight": True, "maxRetries": 0}) == first
        on.step(2)
        refusal = await on.refused("sendTransaction", raw)
        assert refusal["code"] == -32002
        assert refusal["message"] == "Transaction simulation failed: This transaction has already been processed"
        assert refusal["data"]["err"] == "AlreadyProcessed"
        assert await on.ask("sendTransaction", raw, {"skipPreflight": True}) == first
        on.step(2)
        assert len(await on.ask("getSignaturesForAddress", address("b"), {"commitment": "confirmed"})) == 1


async def test_a_preflight_tells_what_went_wrong():
    async with stage() as on:
        refusal = await on.refused("sendTransaction", text(payment(on.chain, 99 * SOL)), B64)
        assert refusal["code"] == -32002
        assert refusal["message"].startswith("Transaction simulation failed: Error processing Instruction 0: custom")
        data = refusal["data"]
        assert data["err"] == {"InstructionError": [0, {"Custom": 1}]}
        assert data["accounts"] is None
        assert data["unitsConsumed"] == 150
        assert any("insufficient lamports" in one for one in data["logs"])
        stale = payment(on.chain, 5)
        on.step(151)
        refusal = await on.refused("sendTransaction", text(stale), B64)
        assert refusal["data"]["err"] == "BlockhashNotFound"
        assert refusal["message"] == "Transaction simulation failed: Blockhash not found"
        other = payment(on.chain, 6)
        wrong = VersionedTransaction.populate(other.message, stale.signatures)
        assert (await on.refused("sendTransaction", text(wrong), B64))["code"] == -32003
        assert await on.ask("sendTransaction", text(wrong), B64 | {"skipPreflight": True})
        on.step(2)
        assert await on.ask("getSignaturesForAddress", address("b"), {"commitment": "confirmed"}) == []


async def test_simulations():
    async with stage() as on:
        sent = payment(on.chain, 2 * SOL)
        unsigned = VersionedTransaction.populate(sent.message, [payment(on.chain, 9).signatures[0]])
        told = await on.ask("simulateTransaction", text(unsigned), B64 | {"commitment": "processed"})
        assert told["context"]["slot"] == on.chain.slot
        value = told["value"]
        assert value["err"] is None
        assert value["fee"] == 5_000
        assert value["replacementBlockhash"] is None
        assert value["accounts"] is None
        assert value["innerInstructions"] is None
        refusal = await on.refused("simulateTransaction", text(unsigned), B64 | {"sigVerify": True})
        assert refusal["code"] == -32003
        both = B64 | {"sigVerify": True, "replaceRecentBlockhash": True}
        refusal = await on.refused("simulateTransaction", text(sent), both)
        assert refusal == {"code": -32602, "message": "sigVerify may not be used with replaceRecentBlockhash"}
        accounts = {"addresses": [address("a"), address("b")], "encoding": "base64"}
        told = await on.ask("simulateTransaction", text(sent), B64 | {"sigVerify": True, "accounts": accounts})
        assert [one["lamports"] for one in told["value"]["accounts"]] == [8 * SOL - 5_000, 12 * SOL]
        broke = text(payment(on.chain, 99 * SOL))
        told = await on.ask("simulateTransaction", broke, B64 | {"accounts": accounts})
        assert told["value"]["err"] == {"InstructionError": [0, {"Custom": 1}]}
        assert told["value"]["accounts"] == [None, None]
        on.step(160)
        stale = await on.ask("simulateTransaction", text(sent), B64)
        assert stale["value"]["err"] == "BlockhashNotFound"
        replaced = (await on.ask("simulateTransaction", text(sent), B64 | {"replaceRecentBlockhash": True}))["value"]
        assert replaced["err"] is None
        assert replaced["replacementBlockhash"] == {
            "blockhash": on.chain.latest_blockhash("processed")[0],
            "lastValidBlockHeight": on.chain.block_height + 150,
        }
        assert await on.ask("getBalance", address("b")) == await on.ask("getBalance", address("b"))
        assert on.chain.views.newest.accounts[address("b")].lamports == 10 * SOL


async def test_fees_are_told_before_they_are_paid():
    async with stage() as on:
        sent = signed(
            on.chain, set_compute_unit_limit(10_000), set_compute_unit_price(700_000), pay("a", address("b"), 1)
        )
        raw = base64.b64encode(to_bytes_versioned(sent.message)).decode()
        assert (await on.ask("getFeeForMessage", raw))["value"] == 5_000 + 7_000
        told = await landed(on, sent)
        assert told["meta"]["fee"] == 12_000
        samples = await on.ask("getRecentPrioritizationFees", [address("b")])
        assert {"prioritizationFee": 700_000, "slot": told["slot"]} in samples
        assert len(samples) <= 150
        on.step(200)
        assert (await on.ask("getFeeForMessage", raw))["value"] is None
