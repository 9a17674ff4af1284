"""When a slot is settled where plans become transactions on a chain."""

from localnet.barrier import ChainBarrier

SIGNATURE, HEIGHT = "signature", 77


class Chain:
    """Knows how some transactions ended."""

    def __init__(self) -> None:
        self.ended: set[tuple[str, int]] = set()

    def knows(self, signature: str, height: int) -> bool:
        return (signature, height) in self.ended


def reported(slot: int = 5, opportunities: int = 1) -> tuple[ChainBarrier, Chain]:
    chain = Chain()
    barrier = ChainBarrier(ended=chain.knows)
    barrier.begin(slot)
    barrier.report(slot, opportunities)
    return barrier, chain


def test_a_plan_holds_its_slot_up_until_its_transaction_is_sent():
    barrier, _ = reported()
    barrier.opportunity("o", 5)
    barrier.plan("p", "o", 5)
    assert barrier.waiting().results == ("p",)
    barrier.submitted("p", SIGNATURE, HEIGHT)
    assert not barrier.waiting()
    assert barrier.busy


def test_a_plan_that_never_became_a_transaction_is_settled_by_its_result():
    barrier, _ = reported()
    barrier.opportunity("o", 5)
    barrier.plan("p", "o", 5)
    barrier.result("p")
    assert not barrier.waiting()
    assert not barrier.busy


def test_the_result_is_waited_for_once_the_chain_knows_it():
    barrier, chain = reported()
    barrier.opportunity("o", 5)
    barrier.plan("p", "o", 5)
    barrier.submitted("p", SIGNATURE, HEIGHT)
    barrier.begin(6)
    barrier.report(6, 0)
    assert not barrier.waiting()
    chain.ended.add((SIGNATURE, HEIGHT))
    assert barrier.waiting().results == ("p",)
    barrier.result("p")
    assert not barrier.waiting()


def test_messages_in_another_order_and_repeated_say_the_same():
    barrier, chain = reported()
    barrier.submitted("p", SIGNATURE, HEIGHT)
    barrier.plan("p", "o", 5)
    barrier.opportunity("o", 5)
    assert not barrier.waiting()
    chain.ended.add((SIGNATURE, HEIGHT))
    barrier.result("p")
    barrier.submitted("p", SIGNATURE, HEIGHT)
    barrier.plan("p", "o", 5)
    assert not barrier.waiting()
    assert not barrier.busy


def test_what_is_given_up_holds_nothing_up_any_more():
    barrier, chain = reported(opportunities=3)
    for name in ("a", "b"):
        barrier.opportunity(name, 5)
    barrier.plan("p", "a", 5)
    barrier.submitted("p", SIGNATURE, HEIGHT)
    chain.ended.add((SIGNATURE, HEIGHT))
    missing = barrier.give_up()
    assert missing.outcomes == ("b",)
    assert missing.results == ("p",)
    barrier.begin(6)
    barrier.report(6, 0)
    assert not barrier.waiting()
    assert not barrier.busy
