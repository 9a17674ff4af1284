"""Lookup tables made on the chain, token balances, inner instructions."""

from __future__ import annotations

import struct

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from localnet.chain.chain import Chain
from localnet.chain.records import ChainRefusal
from localnet.chain_view import ChainAccount, mint_account
from markets.solana.transactions.lookup_tables import create_table, extend_table, parse_table
from markets.solana.transactions.token_accounts import associated_address, open_account
from markets.solana.venues.shape import TOKEN_PROGRAM
from tests.chain.chainkit import SOL, address, key, pay, signed, small_chain

MINT = address("mint")


def send(chain: Chain, payer: str, *instructions: Instruction, **given: object) -> str:
    return chain.send(bytes(signed(payer, instructions, chain.latest_blockhash("processed")[0], **given)))


def test_a_table_made_on_the_chain_is_used_a_slot_later() -> None:
    chain = small_chain(first_slot=5_000)
    chain.produce()
    chain.produce()
    create, table = create_table(address("a"), address("a"), chain.slot - 1)
    entries = [address(n) for n in ("b", "c", "d")]
    send(chain, "a", create, *extend_table(table, address("a"), address("a"), entries))
    chain.produce()
    account = chain.account(table)
    assert account is not None
    parsed = parse_table(table, account.owner, account.data)
    assert [str(entry) for entry in parsed.addresses] == entries
    transaction = signed("a", [pay("a", address("d"), SOL)], chain.latest_blockhash("processed")[0], tables=[parsed])
    assert transaction.message.address_table_lookups
    assert chain.simulate(transaction).error == "InvalidAddressLookupTableIndex"
    chain.produce()
    chain.send(bytes(transaction))
    (record,) = chain.produce().records
    assert record.loaded_writable == (address("d"),)
    assert record.loaded_readonly == ()
    assert record.keys == (*(str(one) for one in transaction.message.account_keys), address("d"))
    assert record.post_balances[-1] - record.pre_balances[-1] == SOL
    assert sum(record.pre_balances) - sum(record.post_balances) == record.fee
    assert chain.signatures(address("d"), commitment="processed") == [record]


def test_a_table_that_is_not_there_is_told() -> None:
    chain = small_chain()
    for table, error in (
        (address("no table"), "AddressLookupTableNotFound"),
        (address("b"), "InvalidAddressLookupTableOwner"),
    ):
        made_up = AddressLookupTableAccount(Pubkey.from_string(table), [Pubkey.from_string(address("d"))])
        transaction = signed(
            "a", [pay("a", address("d"), SOL)], chain.latest_blockhash("processed")[0], tables=[made_up]
        )
        assert chain.simulate(transaction).error == error
        with pytest.raises(ChainRefusal) as refused:
            chain.send(bytes(transaction))
        assert refused.value.error == error


def test_a_bundle_that_fails_restores_what_it_loaded_through_tables() -> None:
    chain = small_chain(first_slot=5_000)
    chain.produce()
    create, table = create_table(address("a"), address("a"), chain.slot - 1)
    send(chain, "a", create, *extend_table(table, address("a"), address("a"), [address("b"), address("d")]))
    chain.produce()
    chain.produce()
    account = chain.account(table)
    assert account is not None
    blockhash = chain.latest_blockhash("processed")[0]
    parsed = parse_table(table, account.owner, account.data)
    tip = pay("a", "96gYZGLnJYVFmbjzopPSU6QiEV5fGqZNyN9nmNhvrZU5", 5_000)
    first = signed("a", [pay("a", address("b"), SOL), pay("a", address("d"), SOL), tip], blockhash, tables=[parsed])
    second = signed("c", [pay("c", address("d"), 100 * SOL)], blockhash)
    before = {name: chain.account(address(name)) for name in "abcd"}
    id_ = chain.send_bundle([bytes(first), bytes(second)])
    chain.produce()
    status = chain.bundle(id_)
    assert status is not None
    assert status.state == "Failed"
    assert {name: chain.account(address(name)) for name in "abcd"} == before
    assert before["d"] is None
    id_ = chain.send_bundle([bytes(first)])
    chain.produce()
    status = chain.bundle(id_)
    assert status is not None
    assert status.state == "Landed"


def token_account(owner: str, amount: int) -> ChainAccount:
    data = bytearray(165)
    data[:32], data[32:64] = bytes(Pubkey.from_string(MINT)), bytes(Pubkey.from_string(owner))
    struct.pack_into("<Q", data, 64, amount)
    data[108] = 1
    return ChainAccount(TOKEN_PROGRAM, bytes(data), 2_039_280)


def test_token_balances_before_and_after() -> None:
    chain = small_chain()
    chain.put(MINT, mint_account(6, TOKEN_PROGRAM))
    source, target = associated_address(address("a"), MINT), associated_address(address("b"), MINT)
    chain.put(source, token_account(address("a"), 500))
    move = Instruction(
        Pubkey.from_string(TOKEN_PROGRAM),
        struct.pack("<BQ", 3, 200),
        [
            AccountMeta(Pubkey.from_string(source), is_signer=False, is_writable=True),
            AccountMeta(Pubkey.from_string(target), is_signer=False, is_writable=True),
            AccountMeta(key("a").pubkey(), is_signer=True, is_writable=False),
        ],
    )
    send(chain, "a", open_account(address("a"), address("b"), MINT), move)
    (record,) = chain.produce().records
    assert record.error is None
    held = {(one.owner, one.amount) for one in record.post_token_balances}
    assert {(one.owner, one.amount) for one in record.pre_token_balances} == {(address("a"), 500)}
    assert held == {(address("a"), 300), (address("b"), 200)}
    for one in record.post_token_balances:
        assert (one.mint, one.decimals, one.program) == (MINT, 6, TOKEN_PROGRAM)
        assert record.keys[one.account_index] == associated_address(one.owner, MINT)
    # The associated token account program calls others; the transfer calls none.
    assert [bool(inner) for inner in record.inner_instructions] == [True, False]
    assert sum(record.pre_balances) - sum(record.post_balances) == record.fee == 5_000
    chain.send(bytes(signed("a", [pay("a", source, SOL)], chain.latest_blockhash("processed")[0])))
    # No token program named: nothing is told of tokens, though a token account is written.
    assert chain.produce().records[0].post_token_balances == ()


def test_return_data_is_told() -> None:
    chain = small_chain()
    chain.put(MINT, mint_account(6, TOKEN_PROGRAM))
    size = Instruction(
        Pubkey.from_string(TOKEN_PROGRAM),
        bytes([21]),
        [AccountMeta(Pubkey.from_string(MINT), is_signer=False, is_writable=False)],
    )
    transaction = signed("a", [size], chain.latest_blockhash("processed")[0])
    assert chain.simulate(transaction).return_data == (TOKEN_PROGRAM, (165).to_bytes(8, "little"))


def test_an_airdrop_is_a_transfer() -> None:
    chain = small_chain()
    signature = chain.airdrop(address("new"), SOL)
    chain.produce()
    record = chain.record(signature, "processed")
    assert record is not None
    assert record.error is None
    account = chain.account(address("new"))
    assert account is not None
    assert account.lamports == SOL
