"""The latch: changes are counted, none is lost, and only a person loosens."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from permit_stage import Stage

from pipeline.messages import Command, KillSwitch, PermitState
from pipeline.permit import Latched, LatchError, NotAllowedError, PermitStore, Person, Rule, Startup
from pipeline.permit.change import next_change
from pipeline.permit.client import connect
from pipeline.permit.halting import halt
from pipeline.permit.word import WordHalt

HALTED, REDUCING, ACTIVE = PermitState.HALTED, PermitState.REDUCING, PermitState.ACTIVE
SETTERS = st.sampled_from([Person("ada"), Rule("drawdown"), Startup("paper"), Startup("live")])
NOWHERE = WordHalt("no shared memory here")


def latched(state: int, epoch: int) -> Latched:
    return Latched(KillSwitch(id="k", state=state, epoch=epoch, actor="ada", reason="r"), epoch)


def change(present: Latched | None, wanted: PermitState, setter: Person | Rule | Startup, **more: int) -> KillSwitch:
    return next_change(present, wanted, setter, "because", producer="test", created_ns=1, **more)


@given(st.none() | st.builds(latched, st.integers(0, 5), st.integers(1, 99)), st.sampled_from(PermitState), SETTERS)
def test_only_a_person_loosens_and_the_epoch_always_grows(
    present: Latched | None, wanted: PermitState, setter: Person | Rule | Startup
) -> None:
    before = present.state if present is not None else HALTED
    first = present is None and setter == Startup("paper")
    try:
        switch = change(present, wanted, setter)
    except NotAllowedError:
        assert wanted > before
        assert not isinstance(setter, Person)
        assert not first
        return
    assert wanted <= before or isinstance(setter, Person) or first
    assert switch.epoch == (present.epoch if present is not None else 0) + 1
    assert (switch.state, switch.actor, switch.reason) == (wanted, setter.actor, "because")


def test_an_epoch_seen_elsewhere_is_passed() -> None:
    assert change(latched(HALTED, 3), ACTIVE, Person("ada"), above_epoch=9).epoch == 10
    assert change(None, HALTED, Rule("x"), above_epoch=9).epoch == 10


def test_a_halt_never_loosens_not_even_a_persons() -> None:
    with pytest.raises(NotAllowedError, match="HALTED"):
        change(latched(HALTED, 3), REDUCING, Person("ada"), tighten=True)
    assert change(latched(ACTIVE, 3), REDUCING, Person("ada"), tighten=True).epoch == 4


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "rule:drawdown", "start:paper", "a\nb", "\x1b[31m"])
def test_a_name_that_names_nobody_is_refused(name: str) -> None:
    with pytest.raises(NotAllowedError):
        Person(name)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_change_needs_a_reason(reason: str) -> None:
    with pytest.raises(NotAllowedError):
        next_change(None, HALTED, Person("ada"), reason, producer="test", created_ns=1)


@pytest.mark.integration
async def test_changes_at_once_are_all_kept_each_with_its_own_epoch(stage: Stage, store: PermitStore) -> None:
    await store.change(ACTIVE, Startup("paper"), "begin")
    results = await asyncio.gather(*(store.change(HALTED, Person(f"p{i}"), "stop") for i in range(10)))
    assert sorted(result.epoch for result in results) == list(range(2, 12))
    assert [entry.epoch for entry in await store.history()] == list(range(1, 12))
    again = await store.change(HALTED, Rule("x"), "stop", unless_so=True)
    assert again.epoch == 11


@pytest.mark.integration
async def test_the_bucket_keeps_the_last_64_changes(stage: Stage, store: PermitStore) -> None:
    for _ in range(70):
        await store.change(HALTED, Person("ada"), "again")
    assert [entry.epoch for entry in await store.history()] == list(range(7, 71))


@pytest.mark.integration
@pytest.mark.parametrize("damage", [b"", b"garbage", Command(id="c").encode()])
async def test_a_damaged_latch_is_no_permission_and_a_person_mends_it(
    stage: Stage, store: PermitStore, damage: bytes
) -> None:
    await store.change(ACTIVE, Startup("paper"), "begin")
    nc = await connect(stage.config().nats, "tests", patient=False)
    await nc.jetstream().publish("$KV.permit.latch", damage)
    with pytest.raises(LatchError):
        await store.read()
    with pytest.raises(LatchError):
        await store.change(ACTIVE, Rule("x"), "no")
    report = await halt(nc, store, NOWHERE, Person("ada"), "damage", producer="test")
    assert report.latched is not None
    assert (report.latched.epoch, report.latch_trouble, report.publish_trouble) == (2, "", "")
    assert (await store.change(ACTIVE, Person("ada"), "mended")).epoch == 3
    await nc.close()


@pytest.mark.integration
async def test_a_halt_says_what_it_reached(stage: Stage, store: PermitStore) -> None:
    nc = await connect(stage.config().nats, "tests", patient=False)
    js = nc.jetstream(timeout=0.5)
    store = PermitStore(js, producer="test")
    heard: list[KillSwitch] = []

    async def listen(message: object) -> None:
        heard.append(KillSwitch.decode(message.data))

    await nc.subscribe("system.kill_switch", cb=listen)
    report = await halt(nc, store, NOWHERE, Person("ada"), "first", producer="test")
    assert (report.published, report.publish_trouble, report.latch_trouble) == (1, "", "")
    # Another change comes between what the caller knew and the latch: it is passed, and that is announced.
    await store.change(ACTIVE, Person("bob"), "go")
    report = await halt(nc, store, NOWHERE, Person("ada"), "second", producer="test", known=latched(ACTIVE, 1))
    assert report.latched is not None
    assert report.latched.epoch == report.published == 3
    await asyncio.sleep(0.1)
    assert {(switch.epoch, switch.state) for switch in heard} == {(1, HALTED), (2, HALTED), (3, HALTED)}
    # Once in the stream, although it was announced twice.
    info = await js.stream_info("SYSTEM", subjects_filter="system.kill_switch")
    assert info.state.subjects == {"system.kill_switch": 3}
    # Without JetStream the halt is sent all the same; that no epoch is known is said.
    await js.delete_stream("KV_permit")
    report = await halt(nc, store, NOWHERE, Person("ada"), "third", producer="test", known=latched(ACTIVE, 3))
    assert (report.published, report.publish_trouble) == (4, "")
    assert report.latched is None
    assert report.latch_trouble
    await nc.close()
