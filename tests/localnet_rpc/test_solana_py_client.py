"""solana-py, unchanged, against a simulated node."""

from __future__ import annotations

from typing import Any

import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.core import RPCException
from solana.rpc.models import DataSliceOpts, MemcmpOpts, TokenAccountOpts, TxOpts
from solana.rpc.websocket_api import SolanaWsClient
from solders.pubkey import Pubkey
from solders.rpc.config import RpcTransactionLogsFilterMentions
from solders.rpc.responses import (
    AccountNotification,
    LogsNotification,
    ProgramNotification,
    RootNotification,
    SignatureNotification,
    SlotNotification,
)
from solders.transaction_status import TransactionConfirmationStatus

from .nodekit import MINT, PURSE_A, PURSE_B, SOL, TOKENS, key, move_tokens, payment, signed, stage, ticking

A, B, FRESH = key("a").pubkey(), key("b").pubkey(), key("fresh").pubkey()
QUICK = TxOpts(skip_confirmation=True, preflight_commitment=Processed)


async def test_a_transfer_is_sent_confirmed_and_told():
    async with stage() as on, AsyncClient(on.url, Confirmed) as client, ticking(on):
        assert await client.is_connected()
        latest = (await client.get_latest_blockhash()).value
        payment_ = payment(on.chain, 3 * SOL, blockhash=str(latest.blockhash))
        opts = TxOpts(preflight_commitment=Confirmed, last_valid_block_height=latest.last_valid_block_height)
        signature = (await client.send_transaction(payment_, opts)).value
        status = (await client.confirm_transaction(signature, Finalized, sleep_seconds=0.02)).value[0]
        assert status is not None
        assert status.confirmation_status == TransactionConfirmationStatus.Finalized
        assert status.err is None
        told = (await client.get_transaction(signature, max_supported_transaction_version=0)).value
        assert told is not None
        meta = told.transaction.meta
        assert meta is not None
        assert meta.fee == 5_000
        assert meta.pre_balances[0] - meta.post_balances[0] == 3 * SOL + 5_000
        assert (await client.get_balance(B)).value == 13 * SOL
        listed = (await client.get_signatures_for_address(B)).value
        assert [one.signature for one in listed] == [signature]
        for encoding in ("jsonParsed", "base64"):
            again = (await client.get_transaction(signature, encoding, max_supported_transaction_version=0)).value
            assert again is not None
            assert again.slot == told.slot


async def test_an_airdrop_lands():
    async with stage() as on, AsyncClient(on.url, Confirmed) as client, ticking(on):
        for _ in range(2):
            signature = (await client.request_airdrop(FRESH, SOL)).value
            await client.confirm_transaction(signature, sleep_seconds=0.02)
        assert (await client.get_balance(FRESH)).value == 2 * SOL


async def test_what_fails_in_the_preflight_is_an_error_with_its_reason():
    async with stage() as on, AsyncClient(on.url, Processed) as client:
        with pytest.raises(RPCException) as caught:
            await client.send_transaction(payment(on.chain, 100 * SOL), QUICK)
        refusal = caught.value.args[0]
        assert "custom program error: 0x1" in refusal.message
        assert any("insufficient lamports" in line for line in refusal.data.logs)


async def test_accounts_are_read_in_every_way():
    async with stage() as on, AsyncClient(on.url, Processed) as client:
        on.step()
        mint, purse = Pubkey.from_string(MINT), Pubkey.from_string(PURSE_A)
        program = Pubkey.from_string(TOKENS)
        plain = (await client.get_account_info(purse)).value
        assert plain is not None
        assert len(plain.data) == 165
        for encoding in ("base58", "base64"):
            cut = (
                await client.get_account_info(purse, encoding=encoding, data_slice=DataSliceOpts(offset=64, length=8))
            ).value
            assert cut is not None
            assert int.from_bytes(cut.data, "little") == 5_000_000_000
        parsed = (await client.get_account_info_json_parsed(purse)).value
        assert parsed is not None
        assert parsed.data.parsed["info"]["tokenAmount"]["uiAmountString"] == "5000"
        both = (await client.get_multiple_accounts([purse, FRESH])).value
        assert both[0] == plain
        assert both[1] is None
        assert (await client.get_multiple_accounts_json_parsed([mint])).value[0].data.parsed["type"] == "mint"
        at_owner = MemcmpOpts(offset=32, bytes=str(A))
        for filters in ([165, at_owner], [at_owner]):
            found = (await client.get_program_accounts(program, encoding="base64", filters=filters)).value
            assert [str(one.pubkey) for one in found] == [PURSE_A]
        assert len((await client.get_program_accounts_json_parsed(program)).value) == 3
        for opts in (TokenAccountOpts(mint=mint), TokenAccountOpts(program_id=program)):
            owned = (await client.get_token_accounts_by_owner(A, opts)).value
            assert [str(one.pubkey) for one in owned] == [PURSE_A]
            (told,) = (await client.get_token_accounts_by_owner_json_parsed(A, opts)).value
            assert told.account.data.parsed["info"]["owner"] == str(A)
        assert (await client.get_token_accounts_by_delegate(A, TokenAccountOpts(mint=mint))).value == []
        assert (await client.get_token_account_balance(purse)).value.amount == "5000000000"
        assert (await client.get_token_supply(mint)).value.ui_amount_string == "5000"
        assert str((await client.get_token_largest_accounts(mint)).value[0].address) == PURSE_A


async def test_the_chain_is_told_in_every_way():
    async with stage() as on, AsyncClient(on.url, Confirmed) as client:
        on.chain.send(bytes(payment(on.chain)))
        on.step(3)
        slot = on.chain.slot
        assert (await client.get_slot(Processed)).value == slot
        assert (await client.get_slot()).value == slot - 1
        assert (await client.get_block_height(Processed)).value == on.chain.block_height
        assert (await client.get_block_time(slot)).value == on.chain.unix_time
        block = (await client.get_block(slot - 2, max_supported_transaction_version=0)).value
        assert block is not None
        assert len(block.transactions or []) == 1
        assert (await client.get_epoch_info(Processed)).value.absolute_slot == slot
        assert (await client.get_epoch_schedule()).value.slots_per_epoch == 432_000
        assert str((await client.get_genesis_hash()).value) == on.chain.genesis_hash
        assert (await client.get_first_available_block()).value == (await client.get_minimum_ledger_slot()).value == 1
        assert (await client.get_minimum_balance_for_rent_exemption(165)).value == 2_039_280
        assert (await client.get_transaction_count()).value == 1
        assert (await client.get_identity()).value.identity == (await client.get_slot_leader()).value
        assert len((await client.get_slot_leaders(slot, 3)).value) == 3
        assert "simulated" in (await client.get_version()).value.solana_core
        fee = (await client.get_fee_for_message(payment(on.chain).message)).value
        assert fee == 5_000
        assert (await client.get_recent_prioritization_fees([A])).value
        on.step(32)
        assert (await client.get_blocks(slot - 2, slot + 5)).value == [slot - 2, slot - 1, slot]


async def test_simulations():
    async with stage() as on, AsyncClient(on.url, Processed) as client:
        done = payment(on.chain, 2 * SOL)
        plain = (await client.simulate_transaction(done)).value
        assert plain.err is None
        assert plain.units_consumed == 150
        checked = await client.simulate_transaction(done, sig_verify=True, accounts_addresses=[A, B])
        assert checked.value.accounts is not None
        assert [one and one.lamports for one in checked.value.accounts] == [8 * SOL - 5_000, 12 * SOL]
        replaced = await client.simulate_transaction(done, replace_recent_blockhash=True, inner_instructions=True)
        assert replaced.value.err is None
        broke = (await client.simulate_transaction(payment(on.chain, 99 * SOL))).value
        assert broke.err is not None
        assert (await client.get_balance(B)).value == 10 * SOL


async def test_the_websocket_tells_what_happens():
    async with stage() as on, SolanaWsClient(on.url.replace("http", "ws")) as socket:
        done = signed(on.chain, move_tokens(7_000_000))
        purse = Pubkey.from_string(PURSE_B)
        kinds = {
            await socket.account_subscribe(pubkey=purse, commitment=Processed, encoding="base64"): AccountNotification,
            await socket.program_subscribe(
                program_id=Pubkey.from_string(TOKENS),
                commitment=Processed,
                encoding="base64",
                filters=[165, MemcmpOpts(offset=32, bytes=str(B))],
            ): ProgramNotification,
            await socket.logs_subscribe(
                filter_=RpcTransactionLogsFilterMentions(purse), commitment=Confirmed
            ): LogsNotification,
            await socket.signature_subscribe(
                signature=done.signatures[0], commitment=Finalized, enable_received_notification=True
            ): SignatureNotification,
            await socket.slot_subscribe(): SlotNotification,
            await socket.root_subscribe(): RootNotification,
        }
        assert len({one.subscription_id for one in kinds}) == len(kinds)
        by_id = {one.subscription_id: kind for one, kind in kinds.items()}
        on.chain.send(bytes(done))
        on.step(40)
        seen: dict[type, list[Any]] = {kind: [] for kind in kinds.values()}
        while not seen[RootNotification] or seen[RootNotification][-1] < on.chain.slot - 32:
            told = await socket.recv()
            assert type(told) is by_id[told.subscription]
            seen[type(told)].append(told.result)
        assert [one.slot for one in seen[SlotNotification]] == list(range(2, 42))
        (account,) = seen[AccountNotification]
        assert int.from_bytes(account.value.data[64:72], "little") == 7_000_000
        assert account.context.slot == 2
        (program,) = seen[ProgramNotification]
        assert program.value.account == account.value
        (logs,) = seen[LogsNotification]
        assert logs.value.signature == done.signatures[0]
        (landed,) = seen[SignatureNotification]
        assert landed.value.err is None
        for one, kind in kinds.items():
            if kind is not SignatureNotification:
                await socket.unsubscribe(one)
        assert on.node.subscriptions == 0
