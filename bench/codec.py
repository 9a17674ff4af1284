"""Codec: an Opportunity of 26 fields with two legs, Python object <-> bytes, against what else there is.

Every contender handles the same 256 different messages, in turn, round after round; a figure is the median of its
rounds, per message, the loop included. Only ours verifies what it reads. A decoded number of ours becomes a Python
object when it is read, so decoding is measured alone and together with reading every attribute.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from statistics import median
from time import perf_counter_ns
from types import GenericAlias
from typing import Any

import msgspec
import orjson

from bench import official_opportunity as official
from bench.report import Report, Row, row
from pipeline.messages import ConfidenceBand, Leg, Opportunity, Protocol

MESSAGES = 256
ROUNDS = 15
ENCODE_GOAL_US, DECODE_GOAL_US = 0.5, 0.7
ENCODE_GOAL_RATIO, DECODE_GOAL_RATIO = 100.0, 70.0
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

Step = Callable[[Any], Any]


def _struct(name: str, sample: Any, **types: Any) -> type[msgspec.Struct]:
    """Return a frozen msgspec class with the fields of one of our messages, as arrays: its faster form."""
    fields = [(field, types.get(field, type(getattr(sample, field)))) for field in sample.FIELDS]
    return msgspec.defstruct(name, fields, frozen=True, kw_only=True, array_like=True)


def _messages() -> list[Opportunity]:
    draw = random.Random(1)

    def address() -> str:
        return "".join(draw.choices(BASE58, k=44))

    def leg(given: str, taken: str) -> Leg:
        return Leg(
            pool=draw.choice(pools),
            protocol=draw.choice([Protocol.WHIRLPOOL, Protocol.RAYDIUM_CPMM]),
            token_in=given,
            token_out=taken,
            amount_in=draw.randrange(10**6, 10**12),
            amount_out=draw.randrange(10**6, 10**12),
            min_amount_out=draw.randrange(10**6, 10**12),
            slot=draw.randrange(3 * 10**8),
            quoted_ns=1_760_000_000_000_000_000 + draw.randrange(10**15),
            price_impact_bps=draw.random() * 10,
        )

    pools, tokens = [address() for _ in range(145)], [address() for _ in range(16)]
    found = []
    for _ in range(MESSAGES):
        name, one, other = f"{draw.getrandbits(128):032x}", *draw.sample(tokens, 2)
        amount, profit = draw.randrange(10**6, 10**12), draw.randrange(10**6)
        found.append(
            Opportunity(
                id=name,
                correlation_id=name,
                causation_id=f"{draw.getrandbits(128):032x}",
                created_ns=1_760_000_000_000_000_000 + draw.randrange(10**15),
                producer="scanner",
                token=one,
                amount_in=amount,
                amount_out=amount + profit,
                gross_profit=profit,
                base_fee=5_000,
                priority_fee=draw.randrange(10**5),
                tip=draw.randrange(10**5),
                cost=25_000,
                net_profit=profit - 25_000,
                profit_bps=draw.random() * 100,
                confidence=draw.random(),
                slot=draw.randrange(3 * 10**8),
                found_ns=1_760_000_000_000_000_000 + draw.randrange(10**15),
                expires_ns=1_760_000_000_000_000_000 + draw.randrange(10**15),
                legs=(leg(one, other), leg(other, one)),
                band=draw.choice([ConfidenceBand.EXECUTE, ConfidenceBand.VERIFY]),
                age_factor=draw.random(),
                hops_factor=0.6,
                oracle_factor=draw.random(),
                provider_factor=1.0,
                slippage_factor=draw.random(),
            )
        )
    return found


def _values(message: Any) -> tuple[Any, ...]:
    """Return every field of an object with the attributes of an Opportunity, legs as tuples."""
    values = {field: getattr(message, field) for field in Opportunity.FIELDS}
    values["legs"] = tuple(tuple(getattr(leg, field) for field in Leg.FIELDS) for leg in message.legs)
    return tuple(values.values())


def _read_all(get: Step, get_leg: Step, legs: Step) -> Step:
    """Return a step that reads every field of a message and of its legs."""

    def read(message: Any) -> None:
        get(message)
        for leg in legs(message):
            get_leg(leg)

    return read


def _measure(steps: dict[str, tuple[Step, Sequence[Any]]], rounds: int) -> dict[str, float]:
    """Return the median microseconds per message of every step, timed in turn."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, (step, inputs) in steps.items():
            repeats = 1 if name.startswith("flatbuffers") else 20
            begun = perf_counter_ns()
            for _ in range(repeats):
                for item in inputs:
                    step(item)
            taken[name].append((perf_counter_ns() - begun) / 1e3 / repeats / len(inputs))
    return {name: median(values) for name, values in taken.items()}


def run(rounds: int = ROUNDS) -> Report:
    """Measure, after asserting that every contender reads back what was written."""
    ours = _messages()
    leg_type = _struct("MsgspecLeg", ours[0].legs[0], protocol=int)
    message_type = _struct("MsgspecOpportunity", ours[0], legs=GenericAlias(tuple, (leg_type, ...)), band=int)
    packer, unpacker = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(message_type)

    buffers = [message.encode() for message in ours]
    official_buffers = [official.encode(message) for message in ours]
    structs = [msgspec.convert(_values(message), message_type) for message in ours]
    packed = [packer.encode(struct) for struct in structs]
    plain = [_plain(message) for message in ours]
    texts = [orjson.dumps(item) for item in plain]

    for index, message in enumerate(ours):
        expected = _values(message)
        assert Opportunity.decode(buffers[index]) == message
        assert Opportunity.decode(official_buffers[index]) == message
        assert _as_text(official.read(buffers[index])) == expected
        assert _values(unpacker.decode(packed[index])) == expected
        assert orjson.loads(texts[index]) == plain[index]

    fields, leg_fields = Opportunity.FIELDS, Leg.FIELDS
    read_ours = _read_all(attrgetter(*fields), attrgetter(*leg_fields), attrgetter("legs"))
    read_plain = _read_all(itemgetter(*fields), itemgetter(*leg_fields), itemgetter("legs"))
    decode, unpack = Opportunity.decode, unpacker.decode
    arguments = [{field: getattr(message, field) for field in fields} for message in ours]
    taken = _measure(
        {
            "ours encode": (Opportunity.encode, ours),
            "flatbuffers encode": (official.encode, ours),
            "msgspec encode": (packer.encode, structs),
            "orjson encode": (orjson.dumps, plain),
            "ours decode": (decode, buffers),
            "flatbuffers decode": (official.read, buffers),
            "msgspec decode": (unpack, packed),
            "orjson decode": (orjson.loads, texts),
            "ours read": (lambda data: read_ours(decode(data)), buffers),
            "msgspec read": (lambda data: read_ours(unpack(data)), packed),
            "orjson read": (lambda data: read_plain(orjson.loads(data)), texts),
            "ours build": (lambda given: Opportunity(**given), arguments),
            "msgspec build": (lambda given: message_type(**given), arguments),
        },
        rounds,
    )
    sizes = f"{len(buffers[0])} bytes; msgpack {len(packed[0])}, JSON {len(texts[0])}"
    return {"bench": "codec", "what": f"Opportunity, 26 fields and two legs, {sizes}", "rows": _rows(taken)}


def _rows(taken: dict[str, float]) -> list[Row]:
    rows = []
    for what, limit, factor in (
        ("encode", ENCODE_GOAL_US, ENCODE_GOAL_RATIO),
        ("decode", DECODE_GOAL_US, DECODE_GOAL_RATIO),
    ):
        name = "encode" if what == "encode" else "verify and decode"
        ours = taken[f"ours {what}"]
        other = taken[f"flatbuffers {what}"]
        met = ours <= limit and other / ours >= factor
        rows.append(row(name, "us", ours, "flatbuffers", other, goal=f"<= {limit} us and >= {factor:.0f}x", met=met))
        other = taken[f"msgspec {what}"]
        rows.append(row(name, "us", ours, "msgspec msgpack", other, goal="not slower", met=ours <= other))
        rows.append(row(name, "us", ours, "orjson", taken[f"orjson {what}"]))
    name = "verify, decode and read all"
    rows.append(row(name, "us", taken["ours read"], "flatbuffers", taken["flatbuffers decode"]))
    rows.append(row(name, "us", taken["ours read"], "msgspec msgpack", taken["msgspec read"]))
    rows.append(row(name, "us", taken["ours read"], "orjson", taken["orjson read"]))
    rows.append(row("build from keywords", "us", taken["ours build"], "msgspec", taken["msgspec build"]))
    return rows


def _plain(message: Opportunity) -> dict[str, Any]:
    """Return a message as dictionaries, enumerations by number as the other contenders write them."""
    legs = [leg.to_dict() | {"protocol": int(leg.protocol)} for leg in message.legs]
    return message.to_dict() | {"legs": legs, "band": int(message.band)}


def _as_text(value: Any) -> Any:
    """Return the official accessors' values with their byte strings as text."""
    if isinstance(value, tuple):
        return tuple(_as_text(item) for item in value)
    return value.decode() if isinstance(value, bytes) else value
