"""Bundles: all or none, the auction, and what becomes of them."""

from __future__ import annotations

import pytest
from solders.transaction import VersionedTransaction

from localnet.chain.bundles import Auction
from localnet.chain.chain import Chain
from localnet.chain.faults import ChainFaults
from localnet.chain.records import BundleStatus, ChainRefusal
from markets.solana.transactions.tips import TIP_ACCOUNTS
from tests.chain.chainkit import SOL, address, balance, payment, small_chain, state


def bundle(chain: Chain, *transactions: VersionedTransaction) -> str:
    return chain.send_bundle([bytes(one) for one in transactions])


def told(chain: Chain, id_: str) -> BundleStatus:
    status = chain.bundle(id_)
    assert status is not None
    return status


def test_a_bundle_lands_whole_and_in_its_order() -> None:
    chain = small_chain()
    passing_on = [
        payment(chain, "a", "b", 9 * SOL, tip=2_000),
        payment(chain, "b", "c", 18 * SOL),
        payment(chain, "c", "d", 27 * SOL),
    ]
    id_ = bundle(chain, *passing_on)
    assert told(chain, id_).state == "Pending"
    block = chain.produce()
    assert [record.signature for record in block.records] == [str(one.signatures[0]) for one in passing_on]
    assert {record.bundle for record in block.records} == {id_}
    assert (told(chain, id_).state, told(chain, id_).slot) == ("Landed", block.slot)
    assert balance(chain, "d") == 27 * SOL
    assert chain.landed_tips() == [2_000]


def test_a_bundle_that_fails_leaves_no_trace() -> None:
    chain = small_chain()
    chain.produce()
    before, told_before = state(chain), chain.views.newest.accounts
    id_ = bundle(
        chain,
        payment(chain, "a", "new", 5 * SOL, tip=2_000),
        payment(chain, "new", "b", 4 * SOL),
        payment(chain, "b", "c", 100 * SOL),
    )
    block = chain.produce()
    assert block.records == ()
    assert told(chain, id_).state == "Failed"
    assert told(chain, id_).reason == "Error processing Instruction 0: custom program error: 0x1"
    after = state(chain)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"SysvarC1ock11111111111111111111111111111111"}
    assert before.keys() == after.keys()
    assert address("new") not in after
    assert set(block.written) == changed
    assert chain.views.newest.accounts.keys() == told_before.keys()
    assert chain.signatures(address("a"), commitment="processed") == []


def test_the_higher_tip_comes_first_and_the_other_loses_what_it_took() -> None:
    chain = small_chain("rich", "poor", "prize")
    low = bundle(chain, payment(chain, "prize", "poor", 8 * SOL, tip=5_000))
    high = bundle(chain, payment(chain, "prize", "rich", 8 * SOL, tip=6_000))
    chain.produce()
    assert told(chain, high).state == "Landed"
    assert told(chain, low).state == "Failed"
    assert balance(chain, "rich") == 18 * SOL
    assert balance(chain, "poor") == 10 * SOL


def test_ties_are_broken_the_same_way_whatever_comes_first() -> None:
    def order(arrival: str) -> list[str]:
        chain = small_chain("a", "b", "c", "d")
        ids = {bundle(chain, payment(chain, name, "e", SOL, tip=3_000)): name for name in arrival}
        return [ids[record.bundle] for record in chain.produce().records]

    assert order("abcd") == order("dcba") == order("bdac")
    assert sorted(order("abcd")) == list("abcd")


def test_more_bundles_than_fit_are_outbid() -> None:
    chain = small_chain("a", "b", "c", auction=Auction(bundles_per_block=2))
    ids = [bundle(chain, payment(chain, name, "d", SOL, tip=2_000 + n)) for n, name in enumerate("abc")]
    chain.produce()
    assert [told(chain, id_).state for id_ in ids] == ["Failed", "Landed", "Landed"]
    assert told(chain, ids[0]).reason == "outbid"


def test_bundles_come_before_what_was_sent_and_the_same_transaction_lands_once() -> None:
    chain = small_chain()
    both = payment(chain, "a", "b", SOL, tip=2_000)
    other = payment(chain, "c", "b", SOL, price=10**6)
    chain.send(bytes(other))
    chain.send(bytes(both))
    id_ = bundle(chain, both)
    block = chain.produce()
    assert [record.bundle for record in block.records] == [id_, ""]
    assert balance(chain, "b") == 12 * SOL
    with pytest.raises(ChainRefusal) as refused:
        bundle(chain, both)
    assert refused.value.error == "AlreadyProcessed"


def test_malformed_bundles_are_refused() -> None:
    chain = small_chain()
    good = payment(chain, "a", "b", SOL, tip=2_000)
    unsigned = VersionedTransaction.populate(good.message, list(payment(chain, "c").signatures))
    cases = {
        "1 to 5": [],
        "not 6": [payment(chain, "a", "b", n + 1, tip=2_000) for n in range(6)],
        "twice": [good, good],
        "signature": [unsigned],
        "tip 1000 lamports": [payment(chain, "a", "b", SOL)],
        "not 999": [payment(chain, "a", "b", SOL, tip=999)],
        "Blockhash not found": [payment(chain, "a", "b", SOL, tip=2_000, blockhash="1" * 32)],
    }
    for words, transactions in cases.items():
        with pytest.raises(ChainRefusal, match=words):
            bundle(chain, *transactions)
    assert chain.produce().records == ()
    assert chain.bundle("0" * 64) is None


def test_tips_to_several_accounts_add_up() -> None:
    chain = small_chain()
    first, second = payment(chain, "a", "b", SOL, tip=600), payment(chain, "c", "b", SOL, tip=700)
    bundle(chain, first, second)
    chain.produce()
    assert chain.landed_tips() == [1_300]
    account = chain.account(TIP_ACCOUNTS[0])
    assert account is not None
    assert account.lamports == 890_880 + 1_300


def test_a_lost_bundle_is_told_as_invalid() -> None:
    chain = small_chain(faults=ChainFaults(bundle_lost=1.0))
    id_ = bundle(chain, payment(chain, "a", "b", SOL, tip=2_000))
    assert told(chain, id_).state == "Pending"
    assert chain.produce().records == ()
    assert (told(chain, id_).state, told(chain, id_).reason) == ("Invalid", "lost")
    chain.faults.bundle_lost = 0.0
    assert bundle(chain, payment(chain, "a", "b", SOL, tip=2_000, blockhash=chain.views.at(1).blockhash)) == id_
    chain.produce()
    assert told(chain, id_).state == "Landed"
