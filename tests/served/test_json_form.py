"""Requests and answers as JSON: what is read, what is refused, and no number too large for a double."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.messages import AskedPair, PairQuotes, Problem, Quote, QuoteAnswer
from workers.quote_core.served.json_form import (
    NotJson,
    pool_request,
    quote_request,
    subscribe_request,
    to_json,
)


def test_one_pair_and_many() -> None:
    assert quote_request(b'{"pair": "SOL/USDC", "amount": "1000000000"}').pairs == (
        AskedPair(pair="SOL/USDC", amount=10**9),
    )
    request = quote_request(
        b'{"id": "x", "paired": true, "fresh_external": true,'
        b' "pairs": [{"token_in": "A", "token_out": "B", "amount": 5, "reverse_amount": "6"}, {"pair": "C/D"}]}'
    )
    assert (request.id, request.paired, request.fresh_external) == ("x", True, True)
    assert request.pairs == (
        AskedPair(token_in="A", token_out="B", amount=5, reverse_amount=6),
        AskedPair(pair="C/D"),
    )
    assert quote_request(b"{}").pairs == ()
    assert pool_request(b'{"pool": "P"}').pool == "P"
    subscribed = subscribe_request(b'{"subscription": "mine", "pair": "A/B", "amount": 1, "received": 7, "end": true}')
    assert (subscribed.subscription, subscribed.received, subscribed.end) == ("mine", 7, True)
    assert len(subscribed.pairs) == 1


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{" * 100_000, "not JSON"),
        (b'{"pare": "A/B"}', "unknown key 'pare'"),
        (b'{"pair": 5}', '"pair" is a short text'),
        (b'{"pair": "' + b"x" * 300 + b'"}', '"pair" is a short text'),
        (b'{"amount": -1}', "whole number"),
        (b'{"amount": 1.5}', "whole number"),
        (b'{"amount": true}', "whole number"),
        (b'{"amount": "1e9"}', "whole number"),
        (b'{"amount": "\xd9\xa1"}', "whole number"),
        (b'{"amount": 18446744073709551616}', "whole number"),
        (b'{"paired": 1}', "true or false"),
        (b'{"pairs": {}}', '"pairs" is a list'),
        (b'{"pairs": [1]}', '"pairs" is a list'),
        (b'{"pairs": [{"id": "x"}]}', "unknown key"),
        (b'{"pairs": [{"pair": "A/B"}], "amount": 3}', "one pair"),
        (b'{"pairs": [' + b"{}," * 5000 + b"{}]}", "at most 4096"),
    ],
)
def test_what_is_no_request_is_refused_with_what_is_allowed(payload: bytes, words: str) -> None:
    with pytest.raises(NotJson, match=words):
        quote_request(payload)


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_a_request_or_refused(payload: bytes) -> None:
    for read in (quote_request, pool_request, subscribe_request):
        for given_payload in (payload, b'{"pair":' + payload + b"}"):
            try:
                read(given_payload)
            except NotJson as refusal:
                words = str(refusal)
            else:
                words = "read"
            assert words


def test_an_answer_has_its_large_numbers_as_texts() -> None:
    quote = Quote(provider="local", amount_in=2**64 - 1, route=2**63, quoted_ns=2**62, hops=1, confidence=0.5)
    answer = QuoteAnswer(slot=2**60, market_ns=5, pairs=[PairQuotes(amount_in=7, forward=[quote])])
    shown = json.loads(to_json(answer), parse_int=lambda text: int(text) if int(text) < 2**53 else pytest.fail(text))
    assert shown["slot"] == str(2**60)
    inner = shown["pairs"][0]["forward"][0]
    assert (inner["amount_in"], inner["route"], inner["confidence"]) == (str(2**64 - 1), str(2**63), 0.5)
    assert "problem" not in shown
    assert json.loads(to_json(QuoteAnswer(problem=Problem.NOT_READY, detail="wait")))["problem"] == "NOT_READY"
