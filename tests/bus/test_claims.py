"""Claims: of any number of claimants, restarts and repetitions, exactly one wins."""

import asyncio

import pytest

from pipeline.bus import Bus
from pipeline.claims import Claim, Claims, ClaimsUnavailable
from pipeline.config import load_config
from pipeline.errors import CheckFailed
from pipeline.nats_server import EmbeddedNats
from pipeline.streams import reconcile
from tests.conftest import Connect


async def test_exactly_one_of_many_wins(connect: Connect) -> None:
    claimants = [await Claims.open(await connect(f"claimant {number}")) for number in range(4)]
    for key in (f"plan.{number}" for number in range(20)):
        answers = await asyncio.gather(*(claims.create(key, b"%d" % i) for i, claims in enumerate(claimants)))
        winners = [index for index, revision in enumerate(answers) if revision is not None]
        assert len(winners) == 1
        claim = await claimants[0].get(key)
        assert claim == Claim(b"%d" % winners[0], answers[winners[0]])


async def test_updates_name_the_revision_they_replace(bus: Bus) -> None:
    claims = await Claims.open(bus)
    assert await claims.get("plan.a") is None
    first = await claims.create("plan.a", b"claimed")
    assert first is not None
    second = await claims.update("plan.a", b"settled", first)
    assert second is not None
    assert second > first
    assert await claims.update("plan.a", b"too late", first) is None
    assert await claims.get("plan.a") == Claim(b"settled", second)
    assert await claims.create("plan.a", b"again") is None


@pytest.mark.parametrize("key", ["", "a b", "a..b", ".a", "a.", "a*", ">", "a\r\nb"])
async def test_bad_keys_are_refused(bus: Bus, key: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        await (await Claims.open(bus)).create(key, b"")


async def test_a_claim_made_by_another_client_counts(bus: Bus) -> None:
    claims = await Claims.open(bus)
    revision = await (await bus.js.key_value("claims")).create("plan.a", b"theirs")
    assert await claims.create("plan.a", b"ours") is None
    assert await claims.get("plan.a") == Claim(b"theirs", revision)


async def test_no_bucket_is_said(bus: Bus) -> None:
    await bus.js.delete_stream("KV_claims")
    with pytest.raises(CheckFailed) as failed:
        await Claims.open(bus)
    assert failed.value.fix == "run `pipeline init-streams`"


async def test_a_full_bucket_refuses_new_claims_and_keeps_the_old(bus: Bus) -> None:
    claims = await Claims.open(bus, timeout_s=0.3)
    assert await claims.create("plan.first", b"")
    config = (await bus.js.stream_info("KV_claims")).config
    await bus.js.update_stream(config.evolve(max_bytes=1_000))
    with pytest.raises(ClaimsUnavailable):
        await claims.create("plan.big", bytes(2_000))
    assert await claims.get("plan.first") is not None


async def test_over_a_crash_of_the_server_a_claim_is_made_once_and_known_to_its_maker() -> None:
    with EmbeddedNats() as server:
        bus = await Bus.connect(load_config({"nats.url": server.url}, environment={}).nats, name="test")
        await reconcile(bus.js)
        claims, others = await Claims.open(bus, 10), await Claims.open(bus, 10)
        keys = [f"plan.{number}" for number in range(50)]
        making = asyncio.gather(*(claims.create(key, b"mine") for key in keys))
        await asyncio.sleep(0.002)  # some are stored, of some the acknowledgement is lost
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        revisions = await asyncio.wait_for(making, 15)
        assert all(revision is not None for revision in revisions), "a repetition of ours is no other claimant"
        assert await asyncio.gather(*(others.create(key, b"theirs") for key in keys)) == [None] * 50
        await asyncio.to_thread(server.kill)
        with pytest.raises(ClaimsUnavailable):
            await (await _impatient(claims)).create("plan.new", b"")
        await bus.close(0.1)


async def _impatient(claims: Claims) -> Claims:
    claims._timeout_s = 0.3
    return claims
