"""Message classes: immutable values that refuse what the schema does not allow."""

from __future__ import annotations

import copy
import inspect
import json
import math
import pickle
from enum import IntEnum
from typing import Any

import pytest

from pipeline import messages
from pipeline.messages import (
    AccountData,
    InvalidMessage,
    KillSwitch,
    Leg,
    Mode,
    Opportunity,
    PermitState,
    PoolState,
    Protocol,
    SlotUpdate,
    WorkerHealth,
)


def an_opportunity(**changes: Any) -> Opportunity:
    legs = (
        Leg(pool="A", protocol=Protocol.WHIRLPOOL, amount_in=10, amount_out=11, price_impact_bps=0.5),
        Leg(pool="B", protocol=Protocol.RAYDIUM_CPMM, amount_in=11, amount_out=12),
    )
    given = {"id": "one", "token": "So1", "amount_in": 10, "amount_out": 12, "gross_profit": 2, "legs": legs} | changes
    return Opportunity(**given)


def test_fields_can_not_be_set() -> None:
    message = an_opportunity()
    for field in Opportunity.FIELDS:
        with pytest.raises(AttributeError):
            setattr(message, field, getattr(message, field))
    with pytest.raises(AttributeError):
        message.other = 1


def test_classes_can_not_be_extended() -> None:
    with pytest.raises(TypeError):
        type("Mine", (Opportunity,), {})


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: Opportunity("id"), TypeError, "positional"),
        (lambda: Opportunity(amount=1), TypeError, "unexpected keyword argument 'amount'"),
        (lambda: Opportunity(id=None), TypeError, r"Opportunity\.id: expected str, got NoneType"),
        (lambda: Opportunity(id=b"x"), TypeError, r"Opportunity\.id: expected str, got bytes"),
        (lambda: Opportunity(id="\ud800"), ValueError, r"Opportunity\.id: a lone surrogate"),
        (lambda: Opportunity(amount_in=1.0), TypeError, r"Opportunity\.amount_in: expected int, got float"),
        (lambda: Opportunity(amount_in=True), TypeError, r"Opportunity\.amount_in: expected int, got bool"),
        (lambda: Opportunity(amount_in="1"), TypeError, r"Opportunity\.amount_in: expected int, got str"),
        (
            lambda: Opportunity(amount_in=-1),
            ValueError,
            r"amount_in: -1 is outside 0\.\.18446744073709551615",
        ),
        (lambda: Opportunity(amount_in=2**64), ValueError, "is outside"),
        (lambda: Opportunity(net_profit=2**63), ValueError, "is outside"),
        (lambda: SlotUpdate(pools_changed=2**32), ValueError, "is outside 0..4294967295"),
        (lambda: Opportunity(confidence="0.5"), TypeError, r"Opportunity\.confidence: expected float, got str"),
        (lambda: Opportunity(confidence=True), TypeError, "expected float, got bool"),
        (lambda: Opportunity(confidence=10**400), OverflowError, "too large"),
        (lambda: SlotUpdate(closing=1), TypeError, r"SlotUpdate\.closing: expected bool, got int"),
        (lambda: Leg(protocol=Mode.LIVE), TypeError, r"Leg\.protocol: expected Protocol, got Mode"),
        (lambda: Leg(protocol="WHIRLPOOL"), TypeError, r"Leg\.protocol: expected Protocol, got str"),
        (lambda: Leg(protocol=256), ValueError, r"Leg\.protocol: 256 is outside 0\.\.255"),
        (lambda: Opportunity(legs=5), TypeError, r"Opportunity\.legs: expected a sequence of Leg, got int"),
        (lambda: Opportunity(legs="ab"), TypeError, r"Opportunity\.legs: expected a sequence of Leg, got str"),
        (lambda: Opportunity(legs=[Opportunity()]), TypeError, "expected a sequence of Leg, got Opportunity"),
        (lambda: AccountData(data="x"), TypeError, r"AccountData\.data: expected bytes, got str"),
        (lambda: AccountData(data=bytearray(b"x")), TypeError, r"AccountData\.data: expected bytes, got bytearray"),
        (lambda: Opportunity.decode("text"), TypeError, "expected bytes"),
        (lambda: Opportunity().replace(amount=1), TypeError, "unexpected keyword argument"),
        (lambda: Opportunity().replace(amount_in=-1), ValueError, "is outside"),
    ],
)
def test_wrong_values_are_refused_with_their_field(build: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build()


def test_integers_are_floats_where_floats_are_wanted() -> None:
    assert Opportunity(confidence=1).confidence == 1.0
    assert type(Opportunity(confidence=1).confidence) is float


def test_a_list_becomes_a_tuple_and_a_subclass_of_str_a_str() -> None:
    class Word(str):
        __slots__ = ()

    message = Opportunity(id=Word("x"), legs=[Leg()])
    assert type(message.id) is str
    assert message.legs == (Leg(),)
    assert Opportunity(legs=(leg for leg in message.legs)) == Opportunity(legs=message.legs)


def test_names_need_not_be_interned() -> None:
    name = "".join(["amount", "_", "in"])
    assert Opportunity(**{name: 5, "id": "x"}) == Opportunity(id="x", amount_in=5)


def test_signature_names_the_fields() -> None:
    assert tuple(inspect.signature(Leg).parameters) == Leg.FIELDS
    assert tuple(inspect.signature(Leg().replace).parameters) == Leg.FIELDS


def test_equality_and_hash_are_by_value() -> None:
    one, other = an_opportunity(), an_opportunity()
    assert one is not other
    assert one == other
    assert len({one, other, Opportunity.decode(one.encode())}) == 1
    for field in Opportunity.FIELDS:
        value = getattr(one, field)
        changed = () if isinstance(value, tuple) else value + ("x" if isinstance(value, str) else 1)
        assert one.replace(**{field: changed}) != one, field
    assert one != "one"
    assert Leg() != AccountData()
    assert Opportunity(confidence=0.0) == Opportunity(confidence=-0.0)
    assert hash(Opportunity(confidence=0.0)) == hash(Opportunity(confidence=-0.0))
    assert Opportunity(confidence=math.nan) == Opportunity(confidence=math.nan)


def test_replace_changes_a_copy() -> None:
    message = an_opportunity()
    assert message.replace() == message
    changed = message.replace(amount_in=99, producer="me")
    assert (changed.amount_in, changed.producer, changed.legs) == (99, "me", message.legs)
    assert message.amount_in == 10


def test_repr_can_be_read_back() -> None:
    legs = [Leg(protocol=Protocol.RAYDIUM_CPMM), Leg(protocol=99)]
    message = Opportunity(id="it's", legs=legs, confidence=0.25)
    assert eval(repr(message), vars(messages)) == message
    assert repr(AccountData(data=b"\0")) == "AccountData(address='', owner='', data=b'\\x00', lamports=0)"


@pytest.mark.parametrize("message", [an_opportunity(), Leg(pool="x", protocol=77), PoolState(accounts=[AccountData()])])
def test_copies_and_pickles(message: Any) -> None:
    assert copy.copy(message) == copy.deepcopy(message) == pickle.loads(pickle.dumps(message)) == message


def test_to_dict_is_what_json_holds() -> None:
    message = PoolState(
        id="p", protocol=Protocol.WHIRLPOOL, complete=True, accounts=[AccountData(address="a", data=b"\x00\xff\x10")]
    )
    found = json.loads(json.dumps(message.to_dict()))
    assert found == message.to_dict()
    assert list(found) == list(PoolState.FIELDS)
    assert found["protocol"] == "WHIRLPOOL"
    assert found["complete"] is True
    assert found["accounts"] == [{"address": "a", "owner": "", "data": "AP8Q", "lamports": 0}]
    assert Leg(protocol=99).to_dict()["protocol"] == 99


def test_enumerations_are_int_enums() -> None:
    for enum in messages.ENUMERATIONS:
        assert issubclass(enum, IntEnum)
        assert enum.__module__ == "pipeline.messages"
        assert pickle.loads(pickle.dumps(enum(0))) is enum(0)
    assert KillSwitch().state is PermitState.HALTED  # the zero value is the safe one
    assert Leg(protocol=2).protocol is Protocol.RAYDIUM_AMM_V4
    assert Leg(protocol=200).protocol == 200


def test_every_class_is_documented() -> None:
    for cls in messages.MESSAGES:
        assert cls.__doc__
        assert cls.__module__ == "pipeline.messages"
    assert Mode.__doc__ == "How executions reach the market."


def test_buffers_of_other_kinds_are_copied_first() -> None:
    wire = an_opportunity().encode()
    double = bytearray(2 * len(wire))
    double[::2] = wire
    assert Opportunity.decode(memoryview(double)[::2]) == an_opportunity()
    changing = bytearray(wire)
    message = Opportunity.decode(changing)
    changing[:] = bytes(len(wire))
    assert message == an_opportunity()


def test_invalid_message_is_a_value_error_with_a_reason() -> None:
    error = InvalidMessage("wrong_type", "expected an ExecutionPlan")
    assert isinstance(error, ValueError)
    assert (error.reason, error.detail, str(error)) == (
        "wrong_type",
        "expected an ExecutionPlan",
        "wrong_type: expected an ExecutionPlan",
    )
    again = pickle.loads(pickle.dumps(error))
    assert (again.reason, again.detail) == (error.reason, error.detail)


def test_a_message_with_every_health_figure() -> None:
    health = WorkerHealth(rate=1.5, cpu_ratio=2, memory_bytes=2**40, in_flight=7)
    assert WorkerHealth.decode(health.encode()) == health
