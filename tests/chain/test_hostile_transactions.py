"""Whatever bytes come, the chain refuses them in its own words and stays as it was."""

from __future__ import annotations

import contextlib
import random

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.errors import SignerError
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from localnet.chain.chain import Chain
from localnet.chain.execution import LOOKUP_TABLE_PROGRAM
from localnet.chain.records import ChainRefusal
from localnet.chain_view import ChainAccount
from markets.solana.transactions.tips import TIP_ACCOUNTS
from tests.chain.chainkit import SOL, address, key, pay, payment, signed, small_chain, state

TABLE = address("table")
ROUNDS = 400


def with_table(chain: Chain) -> VersionedTransaction:
    head = (1).to_bytes(4, "little") + (2**64 - 1).to_bytes(8, "little") + bytes(9) + b"\0" * 35
    entries = [Pubkey.from_string(address(name)) for name in ("b", "c")]
    data = head[:56] + b"".join(bytes(entry) for entry in entries)
    chain.put(TABLE, ChainAccount(LOOKUP_TABLE_PROGRAM, data, SOL))
    table = AddressLookupTableAccount(Pubkey.from_string(TABLE), entries)
    paid = [pay("a", address("b"), SOL), pay("a", TIP_ACCOUNTS[0], 5_000)]
    return signed("a", paid, chain.latest_blockhash("processed")[0], tables=[table])


def mutated(raw: bytes, draw: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        match draw.randrange(4):
            case 0:
                changed[draw.randrange(len(changed))] = draw.randrange(256)
            case 1:
                del changed[draw.randrange(len(changed)) :]
            case 2:
                at = draw.randrange(len(changed))
                changed[at:at] = draw.randbytes(draw.randint(1, 40))
            case _:
                # Behind the signatures: counts, indexes and lookups.
                changed[draw.randrange(min(64, len(changed) - 1), len(changed))] = draw.choice([0, 1, 2, 127, 128, 255])
        if not changed:
            return b""
    return bytes(changed)


def resigned(raw: bytes) -> bytes:
    """Sign a mutated message again, so that more than its signature is looked at."""
    try:
        message = VersionedTransaction.from_bytes(raw).message
        return bytes(VersionedTransaction(message, [key("a")]))
    except (ValueError, SignerError):
        return raw


def attack(chain: Chain, raw: bytes) -> None:
    with contextlib.suppress(ChainRefusal):
        chain.send(raw)
    with contextlib.suppress(ChainRefusal):
        chain.send(raw, preflight=False)
    with contextlib.suppress(ChainRefusal):
        chain.send_bundle([raw])
    with contextlib.suppress(ValueError, ChainRefusal):
        chain.simulate(VersionedTransaction.from_bytes(raw), replace_blockhash=True, addresses=[address("b")])


def test_mutated_transactions_raise_nothing_but_refusals() -> None:
    draw = random.Random(5)
    chain = small_chain()
    landed = 0
    good = [bytes(payment(chain, "a", "b", SOL, price=5, tip=2_000)), bytes(with_table(chain))]
    for n in range(ROUNDS):
        raw = mutated(draw.choice(good), draw)
        attack(chain, resigned(raw) if n % 2 else raw)
        if n % 20 == 19:
            block = chain.produce()
            landed += len(block.records)
            for record in block.records:
                assert sum(record.pre_balances) - sum(record.post_balances) == record.fee
            mirror, vm = chain._vm.accounts, state(chain)
            assert {name for name, held in vm.items() if held is None} == set()
            assert chain.views.newest.accounts == mirror
    # Some mutations are harmless: not all of it ends at the first check.
    assert landed > 3
