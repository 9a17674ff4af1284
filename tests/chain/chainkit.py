"""Keys, transactions and small chains for the tests of the chain."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from localnet.chain.chain import Chain
from localnet.chain_view import ChainAccount
from markets.solana.transactions.tips import TIP_ACCOUNTS

SYSTEM = "11111111111111111111111111111111"
SOL = 10**9


def key(name: str | int) -> Keypair:
    """A keypair that is the same for the same name."""
    return Keypair.from_seed(hashlib.sha256(f"chain test {name}".encode()).digest())


def address(name: str | int) -> str:
    return str(key(name).pubkey())


def lamports(amount: int) -> ChainAccount:
    return ChainAccount(SYSTEM, b"", amount)


def small_chain(*names: str, amount: int = 10 * SOL, **given: object) -> Chain:
    """A chain on which some wallets hold SOL."""
    chain = Chain(name="test", **given)
    for name in names or ("a", "b", "c"):
        chain.put(address(name), lamports(amount))
    return chain


def pay(source: str, target: str, amount: int) -> Instruction:
    return transfer(
        TransferParams(from_pubkey=key(source).pubkey(), to_pubkey=Pubkey.from_string(target), lamports=amount)
    )


def signed(
    payer: str,
    instructions: Sequence[Instruction],
    blockhash: str,
    *,
    tables: Sequence[AddressLookupTableAccount] = (),
    others: Sequence[str] = (),
) -> VersionedTransaction:
    keys = [key(payer), *(key(name) for name in others)]
    message = MessageV0.try_compile(keys[0].pubkey(), list(instructions), list(tables), Hash.from_string(blockhash))
    return VersionedTransaction(message, keys)


def payment(
    chain: Chain,
    source: str = "a",
    target: str = "b",
    amount: int = SOL,
    *,
    price: int = 0,
    tip: int = 0,
    blockhash: str | None = None,
) -> VersionedTransaction:
    """A transfer from one named wallet to another, with a price per compute unit and a tip."""
    instructions = [pay(source, address(target), amount)]
    if price:
        instructions = [set_compute_unit_limit(1_000), set_compute_unit_price(price), *instructions]
    if tip:
        instructions.append(pay(source, TIP_ACCOUNTS[0], tip))
    return signed(source, instructions, blockhash or chain.latest_blockhash("processed")[0])


def balance(chain: Chain, name: str) -> int:
    found = chain.account(address(name))
    return found.lamports if found is not None else 0


def state(chain: Chain) -> dict[str, object]:
    """Every account of the VM itself, byte by byte."""
    svm = chain._vm._svm
    read = {}
    for name in chain._vm.accounts:
        account = svm.get_account(Pubkey.from_string(name))
        read[name] = None if account is None else bytes(account)
    return read
