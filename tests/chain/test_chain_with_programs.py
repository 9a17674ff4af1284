"""Forks and failed bundles over real swaps: stand-in programs, token accounts, stake pools, a rival."""

from __future__ import annotations

from localnet.chain_world import ChainTerms, open_chain
from markets.tokens import load_registry
from tests.chain.chainkit import SOL, address, lamports, payment, state

CLOCK = "SysvarC1ock11111111111111111111111111111111"


def test_swaps_are_taken_back_to_the_byte() -> None:
    world = open_chain(load_registry(), ChainTerms(seed=3, slot_ms=400, rival_chance=0.5))
    chain = world.chain
    for name in ("a", "b"):
        chain.put(address(name), lamports(10 * SOL))
    chain.produce()
    before = state(chain)

    slots = 0
    swaps: list[bytes] = []
    while len(swaps) < 3:
        world.advance()
        slots += 1
        newest = chain._history._blocks[-1].records
        swaps = [bytes(record.transaction) for record in newest if record.error is None and not record.bundle][:4]
    assert state(chain).keys() >= before.keys()
    changed = [name for name, held in state(chain).items() if held != before.get(name)]
    assert len(changed) > 10

    chain.rollback(1)
    parent = state(chain)
    rolled = chain.views.newest.accounts
    failing = bytes(payment(chain, "a", "b", 100 * SOL, tip=5_000))
    id_ = chain.send_bundle([*swaps, failing])
    block = chain.produce()
    told = chain.bundle(id_)
    assert told is not None
    assert (told.state, told.reason) == ("Failed", "Error processing Instruction 0: custom program error: 0x1")
    assert block.records == ()
    after = state(chain)
    assert {name: held for name, held in after.items() if name != CLOCK} == {
        name: held for name, held in parent.items() if name != CLOCK
    }
    assert {name for name, held in rolled.items() if chain.views.newest.accounts.get(name) is not held} == {CLOCK}

    # The same swaps land in a bundle that succeeds.
    paying = bytes(payment(chain, "a", "b", SOL, tip=5_000))
    id_ = chain.send_bundle([*swaps, paying])
    assert len(chain.produce().records) == len(swaps) + 1

    chain.rollback(slots + 1)
    restored = state(chain)
    assert restored == before
