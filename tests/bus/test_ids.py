"""Deterministic ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ids import ID_LENGTH, deterministic_id, payload_digest

PARTS = st.lists(st.one_of(st.text(), st.integers(), st.binary()), min_size=1, max_size=6)


@given(PARTS, PARTS)
def test_equal_parts_give_equal_ids_and_others_others(
    left: list[str | int | bytes], right: list[str | int | bytes]
) -> None:
    assert len(deterministic_id(*left)) == ID_LENGTH
    same = [(type(part), part) for part in left] == [(type(part), part) for part in right]
    assert (deterministic_id(*left) == deterministic_id(*right)) == same


def test_parts_do_not_run_together_and_types_count() -> None:
    different = [("ab", "c"), ("a", "bc"), ("abc",), (b"abc",), ("1",), (1,), (b"1",), ("1", ""), ("", "1")]
    assert len({deterministic_id(*parts) for parts in different}) == len(different)


def test_ids_stay_what_they_are() -> None:
    assert deterministic_id("opportunity", 42, b"x") == "3e2c2290e783a41249b42dd990a9e2d9"
    assert payload_digest(b"payload") == "10869b0f6f20a93198b36b54dcfb8664"


@pytest.mark.parametrize("parts", [(), (True,), (1.5,), (None,)])
def test_what_is_no_part_is_refused(parts: tuple[object, ...]) -> None:
    with pytest.raises((TypeError, ValueError)):
        deterministic_id(*parts)
