"""The verdict as a pure function of what was learnt: it can only fail towards closed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.messages import PermitState
from pipeline.permit.state import Allowed, LeaseView, Refused, RefusedBy, WordReading, judge

LEASE = 500
HALTED, REDUCING, ACTIVE = PermitState.HALTED, PermitState.REDUCING, PermitState.ACTIVE


def leased(state: int = ACTIVE, epoch: int = 3, since_ns: int = 1000) -> LeaseView:
    view = LeaseView(max_lease_ns=LEASE)
    view.renew(state, epoch, "ada", "go", lease_ns=LEASE, since_ns=since_ns)
    return view


def word(
    state: int = ACTIVE, epoch: int = 3, renewed_ns: int = 1000, lease_ns: int = LEASE, halts: int = 0, lifted: int = 0
) -> WordReading:
    return WordReading(state, epoch, renewed_ns, lease_ns, halts, lifted)


@pytest.mark.parametrize(
    ("view", "reading", "now_ns", "expected"),
    [
        (leased(), None, 1499, Allowed(3, ACTIVE)),
        (leased(), None, 1500, RefusedBy.LEASE_EXPIRED),
        (leased(), word(), 1499, Allowed(3, ACTIVE)),
        (leased(), word(renewed_ns=1100), 1500, RefusedBy.LEASE_EXPIRED),
        (leased(since_ns=1100), word(), 1500, RefusedBy.WORD_STALE),
        (leased(), word(renewed_ns=1300), 1200, RefusedBy.WORD_STALE),  # from the future: of before a restart
        (leased(), word(halts=1), 1100, RefusedBy.WORD_HALTED),
        (leased(), word(halts=1, lifted=1), 1100, Allowed(3, ACTIVE)),
        (leased(), word(halts=1, lifted=2), 1100, RefusedBy.WORD_HALTED),
        (leased(), word(state=HALTED), 1100, RefusedBy.HALTED),
        (leased(), word(state=9), 1100, RefusedBy.HALTED),
        (leased(), word(state=HALTED, epoch=4), 1100, RefusedBy.HALTED),
        (leased(), word(state=HALTED, epoch=2), 1100, RefusedBy.WORD_STALE),
        (
            leased(),
            word(epoch=4),
            1100,
            RefusedBy.NO_PERMIT,
        ),  # resumed, says the word; our connection knows nothing of it
        (leased(HALTED), word(), 1100, RefusedBy.HALTED),
        (leased(REDUCING), word(), 1100, RefusedBy.REDUCING),
        (leased(9), word(), 1100, RefusedBy.HALTED),
        (LeaseView(max_lease_ns=LEASE), None, 1100, RefusedBy.NO_PERMIT),
        (LeaseView(max_lease_ns=LEASE), word(), 1100, RefusedBy.NO_PERMIT),
    ],
)
def test_verdicts(view: LeaseView, reading: WordReading | None, now_ns: int, expected: object) -> None:
    verdict = judge(view, reading, now_ns)
    assert (verdict.reason if isinstance(verdict, Refused) else verdict) == expected


def test_reducing_allows_what_lowers_exposure() -> None:
    assert isinstance(judge(leased(REDUCING), None, 1100), Refused)
    assert judge(leased(REDUCING), None, 1100, reduces_exposure=True) == Allowed(3, REDUCING)
    assert isinstance(judge(leased(HALTED), None, 1100, reduces_exposure=True), Refused)


def test_a_change_of_state_ends_the_lease_it_was_given_under() -> None:
    view = leased()
    view.learn(HALTED, 4, "ada", "stop")
    view.learn(ACTIVE, 5, "ada", "go on")
    verdict = judge(view, None, 1100)
    assert isinstance(verdict, Refused)
    assert verdict.reason is RefusedBy.NO_PERMIT
    assert not view.renew(ACTIVE, 3, "ada", "late", lease_ns=LEASE, since_ns=1000)
    assert isinstance(judge(view, None, 1100), Refused)


def test_a_permit_cannot_ask_for_more_than_our_own_lease() -> None:
    view = LeaseView(max_lease_ns=LEASE)
    view.renew(ACTIVE, 1, "ada", "go", lease_ns=10**18, since_ns=1000)
    assert isinstance(judge(view, None, 1500), Refused)
    assert isinstance(judge(leased(), word(renewed_ns=900, lease_ns=10**18), 1450), Refused)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["learn", "renew", "lost"]),
        st.integers(0, 4),  # states, and two that this version does not know
        st.integers(0, 5),
        st.integers(0, 2000),
    ),
    max_size=40,
)


@settings(max_examples=500)
@given(
    EVENTS,
    st.integers(0, 3000),
    st.none() | st.builds(word, st.integers(0, 4), st.integers(0, 5), st.integers(0, 3000)),
)
def test_an_open_gate_has_every_reason_to_be_open(
    events: list[tuple[str, int, int, int]], now_ns: int, reading: WordReading | None
) -> None:
    view = LeaseView(max_lease_ns=LEASE)
    epoch = 0
    strictest: dict[int, int] = {}
    leases: list[tuple[int, int]] = []
    for kind, state, at_epoch, since_ns in events:
        if kind == "lost":
            view.forget_lease()
            leases.clear()
            continue
        if at_epoch >= epoch:
            known = state if state <= 2 else 0
            strictest[at_epoch] = min(strictest.get(at_epoch, 0 if at_epoch == 0 else 2), known)
        if kind == "renew":
            view.renew(state, at_epoch, "a", "r", lease_ns=LEASE, since_ns=since_ns)
            leases.append((at_epoch, since_ns))
        else:
            view.learn(state, at_epoch, "a", "r")
        assert view.epoch >= epoch
        epoch = view.epoch
    match judge(view, reading, now_ns):
        case Allowed(epoch=allowed, state=state):
            assert allowed == epoch == max(strictest)
            assert state is ACTIVE
            assert strictest[epoch] == ACTIVE
            assert any(e == epoch and now_ns < since + LEASE for e, since in leases)
            if reading is not None:
                assert (reading.epoch, reading.state) == (epoch, ACTIVE)
                assert 0 <= now_ns - reading.renewed_ns < LEASE
        case Refused():
            pass
