"""Whatever dies, hangs or is cut off: trading stops by itself, and only a person starts it again."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from permit_stage import Stage, closed, eventually, logs, opened

from pipeline.messages import Permit, PermitState, decode
from pipeline.permit import Allowed, Gate, Latched, PermitStore, Person, Refused, RefusedBy, Rule
from pipeline.permit.client import connect
from pipeline.permit.halting import halt, resume
from pipeline.permit.word import Word, halt_word, word_path

pytestmark = pytest.mark.integration
LEASE_S = 0.5
# What a busy test machine adds to the time at which somebody looks.
SLACK_S = 0.25


async def history(stage: Stage) -> list[Latched]:
    """Read the latch's changes by a connection of the moment."""
    nc = await connect(stage.config().nats, "tests", patient=False)
    try:
        return await PermitStore(nc.jetstream(), producer="tests").history()
    finally:
        await nc.close()


def refused(gate: Gate) -> Refused:
    verdict = gate.check()
    assert isinstance(verdict, Refused)
    return verdict


@pytest.mark.parametrize("shared_memory", [True, False], ids=["same host", "other host"])
async def test_a_killed_manager_stops_trading_within_the_lease(stage: Stage, shared_memory: bool) -> None:
    manager = stage.manager()
    gate = stage.gate(shared_memory=shared_memory)
    eventually(opened(gate))
    manager.kill()
    assert eventually(closed(gate)) < LEASE_S + SLACK_S
    assert refused(gate).reason in (RefusedBy.LEASE_EXPIRED, RefusedBy.WORD_STALE)
    manager.wait()
    stage.manager()
    eventually(opened(gate))


@pytest.mark.parametrize("shared_memory", [True, False], ids=["same host", "other host"])
async def test_a_stopped_manager_stops_trading_and_does_no_harm_when_it_wakes(
    stage: Stage, store: PermitStore, shared_memory: bool
) -> None:
    manager = stage.manager()
    gate = stage.gate(shared_memory=shared_memory)
    eventually(opened(gate))
    manager.send_signal(signal.SIGSTOP)
    assert eventually(closed(gate)) < LEASE_S + SLACK_S
    await store.change(PermitState.HALTED, Person("ada"), "while it slept; not even announced")
    manager.send_signal(signal.SIGCONT)
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        assert isinstance(gate.check(), Refused)
        await asyncio.sleep(0.001)
    eventually(lambda: refused(gate).reason is RefusedBy.HALTED and gate.view().epoch == 2)


async def test_a_killed_server_stops_trading_and_a_restarted_one_lets_it_go_on(stage: Stage) -> None:
    stage.manager()
    gates = [stage.gate(), stage.gate(shared_memory=False)]
    for gate in gates:
        eventually(opened(gate))
    stage.server.kill()
    for gate in gates:
        assert eventually(closed(gate)) < LEASE_S + SLACK_S
    await stage.restart_server()
    for gate in gates:
        eventually(opened(gate))
        assert gate.view().connects == 2


async def test_a_halt_outlives_the_restart_of_everything(stage: Stage) -> None:
    manager = stage.manager()
    gate = stage.gate()
    eventually(opened(gate))
    done = stage.cli("halt", "the tide is out", "--by", "ada", "--json")
    assert done.returncode == 0, done.stderr
    assert refused(gate).reason in (RefusedBy.HALTED, RefusedBy.WORD_HALTED)
    manager.kill()
    manager.wait()
    stage.server.kill()
    await stage.restart_server()
    stage.manager()
    # A worker that starts later obeys before its first action: its first verdict after the latch was read is a refusal.
    late = stage.gate(shared_memory=False)
    assert (refused(late).reason, late.view().actor) == (RefusedBy.HALTED, "ada")
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert isinstance(late.check(), Refused)
        assert isinstance(gate.check(), Refused)
        await asyncio.sleep(0.005)
    done = stage.cli("resume", "--reason", "it came back", "--by", "ada")
    assert done.returncode == 0, done.stderr
    assert "gates are open" in done.stdout
    eventually(opened(gate), within_s=2)
    eventually(opened(late), within_s=2)
    # The manager may have seen the word, and latched that, before the command had reached the server.
    kept = await history(stage)
    changes = [(change.state, change.switch.actor, change.switch.reason) for change in kept]
    assert [change for change in changes if change[1] != "rule:shared_memory"] == [
        (PermitState.ACTIVE, "start:paper", "paper trading starts active"),
        (PermitState.HALTED, "ada", "the tide is out"),
        (PermitState.ACTIVE, "ada", "it came back"),
    ]
    assert [change.epoch for change in kept] == list(range(1, len(changes) + 1))


async def test_a_halt_with_nobody_alive_is_obeyed_by_whoever_starts_later(stage: Stage) -> None:
    done = stage.cli("halt", "before anything ran", "--by", "ada")
    assert done.returncode == 0, done.stderr
    assert "shared memory: not used" in done.stdout
    assert "latched: HALTED, epoch 1" in done.stdout
    stage.manager()
    gate = stage.gate()
    eventually(lambda: gate.view().permits > 3)
    assert refused(gate).reason is RefusedBy.HALTED


async def test_the_word_alone_halts_and_is_latched_once_the_server_is_back(stage: Stage) -> None:
    stage.manager()
    gate = stage.gate()
    eventually(opened(gate))
    stage.server.kill()
    done = stage.cli("halt", "no server", "--by", "ada")
    assert done.returncode == 1
    assert "every gate of this host is closed" in done.stdout
    assert "not latched" in done.stderr
    await stage.restart_server()
    other = stage.gate(shared_memory=False)
    eventually(lambda: other.view().epoch == 2)
    assert refused(other).reason is RefusedBy.HALTED
    latched = (await history(stage))[-1]
    assert (latched.state, latched.switch.actor) == (PermitState.HALTED, "rule:shared_memory")
    done = stage.cli("resume", "--reason", "server is back", "--by", "ada")
    assert done.returncode == 0, done.stderr
    eventually(opened(gate), within_s=2)
    word = Word(word_path(stage.shm)).read()
    assert word.halts == word.lifted == 1


async def test_a_halt_reaches_a_gate_whose_loop_is_blocked(stage: Stage) -> None:
    stage.manager()
    near, far = stage.gate(), stage.gate(shared_memory=False)
    eventually(opened(near))
    eventually(opened(far))
    # This test's own event loop runs nothing from here on: only `check` itself can learn of the halt.
    process = stage.start("-c", "from pipeline.cli import main; main()", "halt", "blocked", "--by", "ada")
    eventually(closed(near))
    eventually(closed(far), within_s=1)
    assert process.wait(10) == 0


async def test_live_trading_starts_halted_each_time(stage: Stage) -> None:
    live = {"executor.mode": "live"}
    manager = stage.manager(**live)
    gate = stage.gate()
    eventually(lambda: gate.view().epoch == 1 and gate.view().permits > 2)
    assert refused(gate).reason is RefusedBy.HALTED
    assert stage.cli("resume", "--reason", "go", "--by", "ada", **live).returncode == 0
    eventually(opened(gate), within_s=2)
    manager.kill()
    manager.wait()
    stage.manager(**live)
    eventually(lambda: gate.view().epoch == 3)
    assert (refused(gate).reason, gate.view().actor) == (RefusedBy.HALTED, "start:live")


async def test_two_managers_do_not_fight(stage: Stage, store: PermitStore) -> None:
    first, second = stage.manager(run="a"), stage.manager(run="b")
    gate = stage.gate()
    eventually(opened(gate))
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert isinstance(gate.check(), Allowed)
        await asyncio.sleep(0.005)
    assert len(await store.history()) == 1  # one of them set the state, once
    for process in (first, second):
        assert process.poll() is None
    # Whichever is in office dies; on the same host the other sees that at once.
    for manager in (first, second):
        manager.kill()
        manager.wait()
        eventually(opened(gate))
        if manager is first:
            stage.manager(run="c")
    assert len(await store.history()) == 1


async def test_a_manager_that_lost_its_office_while_asleep_says_nothing_more(stage: Stage, store: PermitStore) -> None:
    first = stage.manager(run="a")
    gate = stage.gate(shared_memory=False)
    eventually(opened(gate))
    first.send_signal(signal.SIGSTOP)
    second = stage.manager(run="b")
    eventually(opened(gate), within_s=8)
    nc = await connect(stage.config().nats, "tests", patient=False)
    await store.change(PermitState.HALTED, Person("ada"), "stop")
    eventually(closed(gate), within_s=1)
    first.send_signal(signal.SIGCONT)
    permits = await nc.subscribe("system.permit")
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        assert isinstance(gate.check(), Refused)
        await asyncio.sleep(0.002)
    said = [decode((await permits.next_msg()).data) for _ in range(permits.pending_msgs)]
    assert {(permit.state, permit.epoch) for permit in said if isinstance(permit, Permit)} == {(PermitState.HALTED, 2)}
    sequences = [permit.sequence for permit in said if isinstance(permit, Permit)]
    assert sequences == sorted(sequences)  # one voice, not two
    assert gate.view().epoch == 2
    second.kill()
    await nc.close()


async def test_a_lost_latch_halts(stage: Stage, store: PermitStore) -> None:
    stage.manager()
    gate = stage.gate()
    eventually(opened(gate))
    nc = await connect(stage.config().nats, "tests", patient=False)
    await nc.jetstream().purge_stream("KV_permit")
    await nc.close()
    eventually(closed(gate), within_s=2)
    eventually(lambda: gate.view().actor == "rule:latch_lost", within_s=2)
    latched = await store.read()
    assert latched is not None
    assert latched.epoch == 2


async def test_only_a_person_lifts_a_halt(stage: Stage, store: PermitStore) -> None:
    stage.manager()
    gate = stage.gate()
    eventually(opened(gate))
    nc = await connect(stage.config().nats, "tests", patient=False)
    report = await halt(nc, store, halt_word(word_path(stage.shm)), Rule("drawdown"), "too deep", producer="tests")
    assert report.latched is not None
    assert report.latched.epoch in (2, 3)  # the manager may have latched the word before
    assert isinstance(gate.check(), Refused)
    for arguments in (["resume"], ["resume", "--reason", "x"], ["resume", "--by", "ada"], ["resume", "--by", " "]):
        assert stage.cli(*arguments).returncode == 2
    assert stage.cli("resume", "--reason", "x", "--by", "rule:drawdown").returncode == 2
    assert isinstance(gate.check(), Refused)
    await resume(nc, store, Person("ada"), "checked", above_epoch=0)
    eventually(opened(gate), within_s=2)
    await nc.close()


async def test_reducing_lets_only_what_lowers_exposure_begin(stage: Stage) -> None:
    stage.manager()
    gate = stage.gate()
    eventually(opened(gate))
    assert stage.cli("halt", "unwind", "--reducing", "--by", "ada").returncode == 0
    eventually(closed(gate), within_s=1)
    assert refused(gate).reason is RefusedBy.REDUCING
    eventually(lambda: isinstance(gate.check(reduces_exposure=True), Allowed), within_s=1)
    assert stage.cli("halt", "now stop", "--by", "ada").returncode == 0
    assert isinstance(gate.check(reduces_exposure=True), Refused)
    # A halt never loosens, whatever it is asked for.
    done = stage.cli("halt", "unwind", "--reducing", "--by", "ada")
    assert done.returncode == 4
    assert "HALTED" in done.stderr
    assert isinstance(gate.check(reduces_exposure=True), Refused)


async def test_resuming_with_no_manager_does_not_pretend(stage: Stage) -> None:
    done = stage.cli("resume", "--reason", "go", "--by", "ada")
    assert done.returncode == 0
    assert "nobody renews it" in done.stdout
    manager = stage.manager()
    gate = stage.gate()
    eventually(opened(gate))
    assert "nothing to do" in stage.cli("resume", "--reason", "go", "--by", "ada").stdout
    manager.kill()
    manager.wait()
    assert stage.cli("halt", "manager is dead", "--by", "ada").returncode == 0
    done = stage.cli("resume", "--reason", "go", "--by", "ada")
    assert done.returncode == 4
    assert "start it" in done.stderr
    stage.server.kill()
    assert stage.cli("resume", "--reason", "go", "--by", "ada").returncode == 3


async def test_a_clean_end_leaves_the_office_at_once(stage: Stage) -> None:
    manager = stage.manager(run="a")
    gate = stage.gate()
    eventually(opened(gate))
    manager.terminate()
    assert manager.wait(10) == 0
    assert manager.stdout is not None
    assert any(line["event"] == "stopped" for line in logs(manager.stdout.read()))
    stage.manager(run="b")
    eventually(opened(gate))


async def test_a_manager_without_rules_goes_on_renewing(stage: Stage) -> None:
    manager = stage.manager(**{"rules.enabled": False})
    gate = stage.gate()
    eventually(opened(gate))
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert isinstance(gate.check(), Allowed)
        await asyncio.sleep(0.005)
    assert manager.poll() is None


async def test_a_server_that_hangs_does_not_hold_up_a_halt(stage: Stage) -> None:
    stage.manager()
    gate = stage.gate()
    eventually(opened(gate))
    os.kill(stage.server.pid, signal.SIGSTOP)
    try:
        assert eventually(closed(gate)) < LEASE_S + SLACK_S
        began = time.monotonic()
        done = stage.cli("halt", "it hangs", "--by", "ada", "--json")
        assert done.returncode == 1, done.stdout
        assert time.monotonic() - began < 8
        assert Word(word_path(stage.shm)).read().halts == 1
        assert isinstance(gate.check(), Refused)
    finally:
        os.kill(stage.server.pid, signal.SIGCONT)
    # Awake again, the server finds everybody closed, and the manager latches what it had not heard of.
    eventually(lambda: refused(gate).reason in (RefusedBy.HALTED, RefusedBy.WORD_HALTED) and gate.view().epoch == 2)
    assert (await history(stage))[-1].state is PermitState.HALTED
