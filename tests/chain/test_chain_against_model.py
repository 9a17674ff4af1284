"""Random transfers, bundles and forks against a model in plain Python; the same deeds give the same chain."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from localnet.chain.chain import Chain
from localnet.chain.faults import ChainFaults
from localnet.chain.records import Block, ChainRefusal
from markets.solana.transactions.tips import TIP_ACCOUNTS
from tests.chain.chainkit import SOL, address, balance, payment, small_chain, state
from tests.chain.lamport_model import RENT, Model, Payment

NAMES = [f"wallet {n}" for n in range(5)]

amounts = st.one_of(
    st.integers(1, 3 * SOL), st.sampled_from([RENT - 1, RENT, SOL - 5_000, SOL, 2 * SOL - 5_000, SOL - 5_000 - RENT])
)
transfers = st.tuples(st.sampled_from(NAMES), st.sampled_from([*NAMES, "new", "newer"]), amounts)
deeds = st.one_of(
    st.tuples(st.just("send"), transfers),
    st.tuples(st.just("send"), transfers),
    st.tuples(st.just("bundle"), st.lists(transfers, min_size=1, max_size=5)),
    st.tuples(st.just("produce"), st.integers(1, 3)),
    st.tuples(st.just("produce"), st.just(40)),
    st.tuples(st.just("fork"), st.integers(1, 6)),
    st.tuples(st.just("again"), st.integers(0, 10)),
)


class Pair:
    """A chain and its model, told the same."""

    def __init__(self) -> None:
        self.chain = small_chain(*NAMES, amount=2 * SOL)
        self.model = Model(dict.fromkeys(NAMES, 2 * SOL), 1, 1)
        self.model.balances["tip"] = RENT
        self.sent: list[tuple[Payment, bytes]] = []
        self.bundles: list[tuple[str, tuple[str, ...]]] = []
        self.total = self.lamports()

    def lamports(self) -> int:
        return sum(account.lamports for account in self.chain._vm.accounts.values())

    def make(self, transfer: tuple[str, str, int], tip: int = 0) -> tuple[Payment, bytes]:
        source, target, amount = transfer
        # Prices and tips differ: how ties are broken is another test's.
        price = 1_000 * (len(self.sent) + 1)
        transaction = payment(self.chain, source, target, amount, price=price, tip=tip)
        made = Payment(str(transaction.signatures[0]), source, target, amount, price, tip), bytes(transaction)
        self.sent.append(made)
        return made

    def do(self, kind: str, what: Any) -> None:
        chain, model = self.chain, self.model
        if kind == "send":
            made, raw = self.make(what)
            chain.send(raw, preflight=False)
            model.queue[made.signature] = made
        elif kind == "bundle":
            tip = 2_000 + len(self.sent)
            parts = [self.make(one, tip if place == 0 else 0) for place, one in enumerate(what)]
            id_ = chain.send_bundle([raw for _, raw in parts])
            model.bundles.append(tuple(made for made, _ in parts))
            self.bundles.append((id_, tuple(made.signature for made, _ in parts)))
        elif kind == "produce":
            for _ in range(what):
                block = chain.produce()
                model.produce()
                assert [record.signature for record in block.records] == list(model.now)
                assert block.block_height == model.height
                for record in block.records:
                    assert sum(record.pre_balances) - sum(record.post_balances) == record.fee
                self.check()
        elif kind == "fork":
            chain.rollback(what)
            model.rollback(what)
            self.check()
        elif self.sent:
            made, raw = self.sent[what % len(self.sent)]
            # Its blockhash may be of a block that a fork took back, or too old.
            if chain.simulate(chain_transaction(raw)).error != "BlockhashNotFound":
                chain.send(raw, preflight=False)
                model.queue[made.signature] = made

    def check(self) -> None:
        chain, model = self.chain, self.model
        for name, held in model.balances.items():
            account = chain.account(TIP_ACCOUNTS[0]) if name == "tip" else chain.account(address(name))
            assert (account.lamports if account else 0) == held, name
        assert self.lamports() == self.total - model.burned
        landed = model.landed()
        for made, _ in self.sent:
            status = chain.status(made.signature, history=True)
            assert (None if status is None else status.error is None) == landed.get(made.signature)
        for id_, signatures in self.bundles:
            told = chain.bundle(id_)
            assert told is not None
            if told.state == "Landed":
                assert all(landed.get(signature) is not None for signature in signatures)
        assert_one_state(chain)


def chain_transaction(raw: bytes) -> Any:
    from solders.transaction import VersionedTransaction

    return VersionedTransaction.from_bytes(raw)


def assert_one_state(chain: Chain) -> None:
    """The VM, its mirror and the newest view hold the same bytes."""
    vm, view = chain._vm.accounts, chain.views.newest.accounts
    clock = "SysvarC1ock11111111111111111111111111111111"
    assert {name: vm[name] for name in vm if name != clock} == {name: view[name] for name in view if name != clock}
    for name, account in vm.items():
        if name != clock:
            held = chain._vm._svm.get_account(Pubkey.from_string(name))
            assert held is not None
            assert (held.lamports, held.data, str(held.owner)) == (account.lamports, account.data, account.owner)


@given(st.lists(deeds, max_size=30))
@settings(max_examples=60)
def test_the_chain_does_as_the_model(todo: list[tuple[str, Any]]) -> None:
    pair = Pair()
    for kind, what in [*todo, ("produce", 1)]:
        # What was made on blocks that are gone is worthless; the model knows no blockhashes.
        if kind == "fork" and (pair.model.queue or pair.model.bundles):
            pair.do("produce", 1)
        pair.do(kind, what)


@given(st.lists(transfers, min_size=1, max_size=4), st.integers(0, 4), st.sampled_from([*NAMES, "nobody"]))
@settings(max_examples=60)
def test_a_failed_bundle_restores_every_byte(parts: list[tuple[str, str, int]], place: int, source: str) -> None:
    chain = small_chain(*NAMES, amount=2 * SOL)
    chain.produce()
    before = state(chain)
    raws = [bytes(payment(chain, a, b, amount, price=1_000 + n, tip=2_000)) for n, (a, b, amount) in enumerate(parts)]
    # This one cannot succeed, wherever it stands.
    raws.insert(place, bytes(payment(chain, source, "new", 100 * SOL, tip=2_000)))
    id_ = chain.send_bundle(raws)
    block = chain.produce()
    told = chain.bundle(id_)
    assert told is not None
    assert told.state == "Failed"
    assert block.records == ()
    after = state(chain)
    clock = "SysvarC1ock11111111111111111111111111111111"
    before.pop(clock)
    after.pop(clock)
    assert after == before


@given(st.lists(transfers, min_size=1, max_size=8), st.randoms(use_true_random=False), st.integers(1, 5))
@settings(max_examples=25)
def test_the_same_deeds_give_the_same_chain_whatever_their_arrival(
    todo: list[tuple[str, str, int]], order: Any, seed: int
) -> None:
    def run(arrival: list[int], name: str) -> list[Block]:
        faults = ChainFaults(dropped=0.2, late=0.3, late_slots=2, bundle_lost=0.3, fork_chance=0.3, seed=seed)
        chain = Chain(name=name, faults=faults)
        for wallet in NAMES:
            chain.put(address(wallet), small_chain(wallet).account(address(wallet)))
        blocks = []
        for _ in range(4):
            for n in arrival:
                source, target, amount = todo[n]
                raw = bytes(payment(chain, source, target, amount, price=1 + n // 3, tip=2_000 if n % 2 else 0))
                if n % 2:
                    chain.send_bundle([raw])
                else:
                    chain.send(raw, preflight=False)
            blocks.append(chain.produce())
        return blocks

    numbers = list(range(len(todo)))
    shuffled = list(numbers)
    order.shuffle(shuffled)
    first, second = run(numbers, "one"), run(shuffled, "another")
    assert [block.written for block in first] == [block.written for block in second]
    assert [[record.post_balances for record in block.records] for block in first] == [
        [record.post_balances for record in block.records] for block in second
    ]


def test_a_preflight_tells_what_then_happens() -> None:
    chain = small_chain("a", amount=SOL)
    for amount in (SOL, SOL - 5_000, SOL - 5_000 - RENT + 1, SOL - 5_000 - RENT, RENT - 1):
        transaction = payment(chain, "a", f"target {amount}", amount)
        told = chain.simulate(transaction)
        try:
            chain.send(bytes(transaction))
            refused = None
        except ChainRefusal as refusal:
            refused = refusal.error
            chain.send(bytes(transaction), preflight=False)
        records = chain.produce().records
        assert told.error == refused
        assert [record.error for record in records] == [told.error]
        assert [record.units for record in records] == [told.units]
        chain.rollback(1)
        assert balance(chain, "a") == SOL
