"""Forks take back what is not final; faults are drawn from a seed."""

from __future__ import annotations

import pytest

from localnet.chain.faults import ChainFaults
from localnet.chain.records import Block, ChainRefusal
from tests.chain.chainkit import SOL, address, balance, lamports, payment, small_chain, state


def test_a_fork_takes_back_accounts_statuses_and_blockhashes() -> None:
    chain = small_chain()
    chain.produce()
    before, base = state(chain), chain.views.newest
    signature = chain.send(bytes(payment(chain, "a", "new", 3 * SOL)))
    chain.produce()
    lost_hash = chain.latest_blockhash("processed")[0]
    chain.send(bytes(payment(chain, "new", "b", SOL)))
    chain.produce()
    status = chain.status(signature)
    assert status is not None
    assert status.commitment == "confirmed"
    gone = chain.rollback(2)
    assert len(gone) == 2
    assert gone[0] == signature
    assert chain.status(signature, history=True) is None
    assert chain.record(signature, "processed") is None
    assert chain.signatures(address("a"), commitment="processed") == []
    assert state(chain) == before
    assert chain.views.newest is base
    assert (chain.slot, chain.block_height) == (2, 2)
    assert not chain.blockhash_valid(lost_hash)
    block = chain.produce()
    assert (block.slot, block.block_height) == (5, 3)
    assert block.written[address("new")] is None
    told = block.written[address("a")]
    assert told is not None
    assert told.lamports == 10 * SOL
    assert address("a") in chain.views.newest.changed


def test_what_was_taken_back_may_land_again() -> None:
    chain = small_chain()
    chain.produce()
    transaction = payment(chain, "a", "b", SOL)
    chain.send(bytes(transaction))
    chain.produce()
    with pytest.raises(ChainRefusal):
        chain.send(bytes(transaction))
    chain.rollback(1)
    chain.send(bytes(transaction))
    assert len(chain.produce().records) == 1
    assert balance(chain, "b") == 11 * SOL


def test_a_share_of_what_was_taken_back_returns_by_itself() -> None:
    chain = small_chain(faults=ChainFaults(returning=1.0))
    chain.produce()
    raws = [bytes(payment(chain, "a", "b", SOL, tip=2_000)), bytes(payment(chain, "b", "c", 11 * SOL - 5_000))]
    id_ = chain.send_bundle(raws)
    chain.produce()
    chain.rollback(1)
    status = chain.bundle(id_)
    assert status is not None
    assert (status.state, status.reason) == ("Pending", "taken back by a fork")
    records = chain.produce().records
    assert records
    status = chain.bundle(id_)
    assert status is not None
    # Each for itself: the order is no longer the bundle's.
    assert status.state == ("Landed" if len(records) == 2 else "Failed")


def test_final_blocks_stay() -> None:
    chain = small_chain()
    signature = chain.send(bytes(payment(chain)))
    for _ in range(33):
        chain.produce()
    record = chain.record(signature, "finalized")
    assert record is not None
    assert chain.rollback(100) == ()
    assert chain.slot == record.slot
    status = chain.status(signature)
    assert status is not None
    assert status.commitment == "finalized"
    assert chain.rollback(1) == ()
    block = chain.produce()
    assert (block.slot, block.block_height) == (35, 3)
    assert chain.record(signature, "finalized") == record


def test_a_fork_is_told_with_the_block_that_follows_it() -> None:
    chain = small_chain(faults=ChainFaults(fork_slots=3))
    chain.produce()
    signature = chain.send(bytes(payment(chain)))
    chain.produce()
    chain.faults.fork_chance = 1.0
    block = chain.produce()
    assert block.forked == (signature,)
    assert chain.faults.happened == {"fork": 1}
    assert block.slot == 4
    assert block.block_height == 2
    assert balance(chain, "b") == 10 * SOL


def test_what_is_put_survives_forks_and_is_told() -> None:
    chain = small_chain()
    chain.produce()
    chain.produce()
    chain.put(address("late"), lamports(SOL))
    chain.rollback(1)
    assert balance(chain, "late") == SOL
    block = chain.produce(act=lambda: chain.put(address("later"), lamports(SOL)))
    assert block.written.keys() >= {address("late"), address("later")}
    chain.rollback(1)
    assert balance(chain, "later") == 0
    assert balance(chain, "late") == SOL


def test_an_account_that_comes_back_to_what_was_told_is_right_in_the_views() -> None:
    chain = small_chain()
    chain.produce()
    chain.send(bytes(payment(chain, "a", "b", SOL)))
    chain.produce()
    told = balance(chain, "b")
    chain.rollback(1)
    chain.send(bytes(payment(chain, "c", "b", SOL)))
    block = chain.produce()
    assert address("b") not in block.written
    account = chain.views.newest.accounts[address("b")]
    assert account.lamports == told == balance(chain, "b")


def test_dropped_and_late_transactions() -> None:
    chain = small_chain(faults=ChainFaults(dropped=1.0))
    raw = bytes(payment(chain))
    chain.send(raw)
    assert chain.produce().records == ()
    chain.faults.dropped = 0.0
    chain.faults.late, chain.faults.late_slots = 1.0, 3
    chain.send(raw)
    assert [len(chain.produce().records) for _ in range(5)] == [0, 0, 0, 1, 0]
    assert chain.faults.happened == {"dropped": 1, "late": 1}


def test_draws_depend_on_seed_and_deed_alone() -> None:
    def landed(seed: int, first_blockhash: str) -> list[int]:
        chain = small_chain(faults=ChainFaults(dropped=0.5, seed=seed), first_slot=1)
        blocks: list[Block] = []
        for n in range(40):
            blockhash = chain.latest_blockhash("processed" if first_blockhash == "new" else "finalized")[0]
            chain.send(bytes(payment(chain, "a", "b", 1_000 + n, blockhash=blockhash)))
            blocks.append(chain.produce())
        return [block.slot for block in blocks if block.records]

    assert landed(1, "new") == landed(1, "old")
    assert landed(1, "new") != landed(2, "new")
    assert 10 < len(landed(1, "new")) < 30
