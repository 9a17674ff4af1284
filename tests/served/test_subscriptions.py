"""Subscriptions: told the newest of what changed, never more than one flag a pair behind."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.messages import PairQuotes, QuoteChanges
from workers.quote_core.aggregator import Changed
from workers.quote_core.desk import Asked
from workers.quote_core.served.subscriptions import Hub, Subscription

ASKED = [Asked("A", "B", 1), Asked("A", "C", 2), Asked("B", "A", 3)]


def changed(*directions: tuple[str, str], slot: int = 1) -> Changed:
    return Changed(slot, frozenset(directions))


def take(subscription: Subscription) -> QuoteChanges | None:
    return subscription.take(
        lambda asked: PairQuotes(token_in=asked.token_in, token_out=asked.token_out, amount_in=asked.amount),
        slot=1,
        market_ns=2,
        now_ns=3,
        producer="tests",
    )


def amounts(changes: QuoteChanges | None) -> list[int]:
    return [] if changes is None else [pair.amount_in for pair in changes.pairs]


def test_everything_first_then_what_changed_either_way_round() -> None:
    hub, subscription = Hub(4), Subscription("one", ASKED)
    assert hub.add(subscription)
    first = take(subscription)
    assert first is not None
    assert (first.sequence, first.snapshot, amounts(first)) == (1, True, [1, 2, 3])
    assert take(subscription) is None
    hub.on_changed(changed(("C", "A")))
    second = take(subscription)
    assert second is not None
    assert (second.sequence, second.snapshot, amounts(second)) == (2, False, [2])
    hub.on_changed(changed(("A", "B")))
    assert amounts(take(subscription)) == [1, 3]
    hub.on_changed(changed(("X", "Y")))
    assert take(subscription) is None
    assert not subscription.wake.is_set()


def test_what_is_not_taken_is_conflated_and_not_kept() -> None:
    hub, subscription = Hub(4), Subscription("one", ASKED)
    hub.add(subscription)
    take(subscription)
    for slot in range(1000):
        hub.on_changed(changed(("A", "B"), slot=slot))
    assert len(subscription._changed) == 2
    assert hub.conflated == 999 * 2
    assert amounts(take(subscription)) == [1, 3]
    assert take(subscription) is None


def test_a_gap_or_another_market_means_everything_again() -> None:
    hub, subscription = Hub(4), Subscription("one", ASKED)
    hub.add(subscription)
    hub.on_changed(changed(("A", "B"), slot=100))
    take(subscription)
    subscription.start_over()
    again = take(subscription)
    assert again is not None
    assert again.snapshot
    hub.on_changed(changed(("X", "Y"), slot=5))
    restarted = take(subscription)
    assert restarted is not None
    assert restarted.snapshot


def test_there_is_a_limit() -> None:
    hub = Hub(2)
    subscriptions = [Subscription(str(number), ASKED) for number in range(3)]
    assert [hub.add(each) for each in subscriptions] == [True, True, False]
    hub.remove(subscriptions[0], "gone")
    hub.remove(subscriptions[0], "gone")
    assert hub.add(subscriptions[2])
    assert (hub.refused, hub.ended) == (1, {"gone": 1})


pairs = st.sampled_from([("A", "B"), ("B", "A"), ("A", "C"), ("C", "A"), ("B", "C")])


@given(st.lists(st.one_of(pairs, st.none()), max_size=40))
def test_whatever_the_order_the_last_word_is_told(steps: list[tuple[str, str] | None]) -> None:
    """A mirror that is told what the subscription gives ends up knowing the newest of every pair."""
    hub, subscription = Hub(1), Subscription("one", ASKED)
    hub.add(subscription)
    truth = dict.fromkeys((1, 2, 3), 0)
    mirror: dict[int, int] = {}
    sequence = 0

    def tell() -> None:
        nonlocal sequence
        changes = take(subscription)
        if changes is not None:
            sequence += 1
            assert changes.sequence == sequence
            mirror.update({pair.amount_in: truth[pair.amount_in] for pair in changes.pairs})

    for version, step in enumerate(steps, 1):
        if step is None:
            tell()
            continue
        for asked in ASKED:
            if set(asked.direction) == set(step):
                truth[asked.amount] = version
        hub.on_changed(changed(step))
    tell()
    assert mirror == truth
