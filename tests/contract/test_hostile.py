"""Bad buffers: an error with a stable reason or a valid object, never a crash, a hang or memory growth."""

from __future__ import annotations

import math
import random
import struct
from collections import Counter
from time import perf_counter

import flatbuffers
import psutil
import pytest

from generated import AccountData as AccountTable
from generated import Leg as LegTable
from generated import Opportunity as OpportunityTable
from generated import PoolState as PoolTable
from pipeline import messages
from pipeline.messages import INVALID_REASONS, MAX_MESSAGE_BYTES, InvalidMessage, Leg, Opportunity

from .support import ROOTS, a_message, build, complete, official_read, official_write, plain, same

MEGABYTE = 1 << 20
BUFFERS = 240_000


def seeds(draw: random.Random) -> list[bytes]:
    """Whole messages of every kind, by both writers."""
    found = []
    for table in ROOTS:
        for _ in range(3):
            values = a_message(table, draw)
            found += [build(table, values).encode(), official_write(table, values)]
    return found


def mutate(whole: list[bytes], draw: random.Random) -> bytes:
    """Break one message in one to four places; keep what leads deep into it more often than not."""
    kind = draw.randrange(20)
    if kind == 0:
        return draw.randbytes(draw.randrange(200))
    base = draw.choice(whole)
    if kind == 1:
        return base[:4] + draw.choice(whole)[4:8] + draw.randbytes(draw.randrange(200))
    if kind == 2:
        return base[: draw.randrange(len(base))]
    if kind == 3:
        return base[:8] + draw.choice(whole)[8:]
    data = bytearray(base)
    for _ in range(draw.randrange(1, 5)):
        at = draw.randrange(len(data))
        way = draw.randrange(6)
        if way == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif way == 1:
            data[at] = draw.randrange(256)
        elif way == 2:
            at = min(at & ~3, len(data) - 4)
            value = draw.choice([0, 1, 4, 8, len(data), len(data) - at, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
            struct.pack_into("<I", data, at, value)
        elif way == 3:
            at = min(at & ~1, len(data) - 2)
            struct.pack_into("<H", data, at, draw.choice([0, 2, 3, 4, 6, 0x7FFF, 0xFFFF, draw.randrange(256)]))
        elif way == 4:
            # another offset of the same message: targets shared, overlapping, out of order
            at, other = (min(draw.randrange(len(data)) & ~3, len(data) - 4) for _ in range(2))
            data[at : at + 4] = data[other : other + 4]
        else:
            del data[at : at + draw.choice([1, 2, 4, 8])]
            if len(data) < 8:
                return bytes(data)
    return bytes(data)


def test_mutated_and_random_buffers() -> None:
    draw = random.Random(20_251_121)
    whole = seeds(draw)
    reasons: Counter[str] = Counter()
    process = psutil.Process()
    for buffer in whole:
        messages.decode(buffer)
    before, slowest = process.memory_info().rss, 0.0
    for number in range(BUFFERS):
        buffer = mutate(whole, draw)
        begun = perf_counter()
        try:
            found = messages.decode(buffer)
        except InvalidMessage as error:
            reasons[error.reason] += 1
            continue
        finally:
            slowest = max(slowest, perf_counter() - begun)
        reasons["valid"] += 1
        if number % 16 == 0:
            assert type(found).decode(found.encode()) == found
            assert same(plain(found), official_read(type(found).__name__, buffer))
    assert process.memory_info().rss - before < 32 * MEGABYTE
    assert slowest < 1  # microseconds, and whatever else the machine is doing
    # the mutations reach every check that these schemas can fail
    assert reasons.keys() == {*INVALID_REASONS, "valid"} - {
        "too_long",
        "too_deep",
        "too_many_tables",
        "wrong_identifier",
        "too_much_output",
    }
    assert reasons["valid"] > BUFFERS // 10
    assert reasons.total() == BUFFERS


def test_every_truncation_is_refused() -> None:
    draw = random.Random(7)
    for buffer in seeds(draw):
        # only the zeros that fill the last word up may be missing
        last = max(length for length in range(len(buffer) + 1) if refused(buffer[:length]))
        assert last >= len(buffer) - 8
        assert all(refused(buffer[:length]) for length in range(last))


def refused(buffer: bytes) -> bool:
    try:
        messages.decode(buffer)
    except InvalidMessage:
        return True
    return False


def shared_legs(text: str, count: int) -> bytes:
    """Return an opportunity whose legs are all the same table, as an ordinary builder makes it."""
    builder = flatbuffers.Builder(1024)
    pool = builder.CreateString(text)
    LegTable.Start(builder)
    LegTable.AddPool(builder, pool)
    leg = LegTable.End(builder)
    OpportunityTable.StartLegsVector(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(leg)
    legs = builder.EndVector()
    OpportunityTable.Start(builder)
    OpportunityTable.AddLegs(builder, legs)
    builder.Finish(OpportunityTable.End(builder), file_identifier=b"OPPO")
    return bytes(builder.Output())


def test_a_small_buffer_can_not_become_a_large_object() -> None:
    hostile = shared_legs("x" * 30_000, 15_000)
    assert len(hostile) < 100_000  # and 450 MB of strings, were each leg given its own
    process = psutil.Process()
    before, begun = process.memory_info().rss, perf_counter()
    for _ in range(20):
        with pytest.raises(InvalidMessage) as refusal:
            Opportunity.decode(hostile)
        assert refusal.value.reason == "too_much_output"
    assert process.memory_info().rss - before < 8 * MEGABYTE
    assert perf_counter() - begun < 5


def test_shared_byte_vectors_are_bounded_too() -> None:
    builder = flatbuffers.Builder(1024)
    data = builder.CreateByteVector(b"y" * 40_000)
    AccountTable.Start(builder)
    AccountTable.AddData(builder, data)
    account = AccountTable.End(builder)
    PoolTable.StartAccountsVector(builder, 5_000)
    for _ in range(5_000):
        builder.PrependUOffsetTRelative(account)
    accounts = builder.EndVector()
    PoolTable.Start(builder)
    PoolTable.AddAccounts(builder, accounts)
    builder.Finish(PoolTable.End(builder), file_identifier=b"POOL")
    with pytest.raises(InvalidMessage) as refusal:
        messages.decode(bytes(builder.Output()))
    assert refusal.value.reason == "too_much_output"


def test_sharing_as_ordinary_writers_do_is_fine() -> None:
    found = Opportunity.decode(shared_legs("9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusvFin", 20))
    assert len(found.legs) == 20
    assert {leg.pool for leg in found.legs} == {"9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusvFin"}


def test_too_many_tables() -> None:
    most = Opportunity(legs=[Leg()] * 16_383)
    assert len(Opportunity.decode(most.encode()).legs) == 16_383
    with pytest.raises(InvalidMessage) as refusal:
        Opportunity(legs=[Leg()] * 16_384).encode()
    assert refusal.value.reason == "too_many_tables"
    empty = bytearray(shared_legs("", 16_384))
    with pytest.raises(InvalidMessage) as refusal:
        Opportunity.decode(bytes(empty) + bytes(MEGABYTE))
    assert refusal.value.reason == "too_many_tables"


def test_too_long() -> None:
    with pytest.raises(InvalidMessage) as refusal:
        Opportunity(producer="x" * MAX_MESSAGE_BYTES).encode()
    assert refusal.value.reason == "too_long"
    for buffer in (bytes(MAX_MESSAGE_BYTES + 1), bytearray(MAX_MESSAGE_BYTES + 1)):
        with pytest.raises(InvalidMessage) as refusal:
            Opportunity.decode(buffer)
        assert refusal.value.reason == "too_long"


@pytest.mark.parametrize(
    ("buffer", "reason"),
    [
        (b"", "too_short"),
        (b"{}", "too_short"),
        (bytes(11), "too_short"),
        (bytes(100), "unknown_identifier"),
        (b"\x0c\x00\x00\x00OPPO" + bytes(4), "offset_out_of_bounds"),
        (b"\xff\xff\xff\xffOPPO" + bytes(40), "misaligned"),
        (b"\xf0\xff\xff\xffOPPO" + bytes(40), "offset_out_of_bounds"),
        (b"\x0c\x00\x00\x00OPPO" + bytes(40), "bad_vtable"),
    ],
)
def test_reasons(buffer: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        messages.decode(buffer)
    assert refusal.value.reason == reason
    assert reason in INVALID_REASONS
    assert str(refusal.value).startswith(f"{reason}: ")


def test_another_messages_identifier() -> None:
    with pytest.raises(InvalidMessage) as refusal:
        messages.ExecutionPlan.decode(Opportunity().encode())
    assert refusal.value.reason == "wrong_identifier"


def test_the_field_is_named() -> None:
    good = Opportunity(producer="scanner", legs=[Leg(pool="somewhere")]).encode()
    with pytest.raises(InvalidMessage, match=r"not_utf8: Opportunity\.producer: "):
        Opportunity.decode(good.replace(b"scanner", b"scanne\xff"))
    with pytest.raises(InvalidMessage, match=r"bad_string: Leg\.pool: "):
        Opportunity.decode(good.replace(b"somewhere\0", b"somewhere!"))


def test_numbers_outside_every_range_are_read_as_they_stand() -> None:
    wire = official_write("Opportunity", {"profit_bps": math.nan, "confidence": -math.inf, "amount_in": 2**64 - 1})
    found = Opportunity.decode(wire)
    assert same(
        plain(found),
        complete("Opportunity", {"profit_bps": math.nan, "confidence": -math.inf, "amount_in": 2**64 - 1}),
    )
    assert found == Opportunity.decode(found.encode())
    assert found.to_dict()["profit_bps"] == "NaN"
    assert found.to_dict()["confidence"] == "-Infinity"
