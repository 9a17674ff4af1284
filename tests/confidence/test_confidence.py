"""Confidence: bounds, monotony, the bands, and what missing data costs."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.confidence import (
    WEIGHTS,
    Factors,
    age_factor,
    band_of,
    confidence,
    hops_factor,
    known,
    of_cycle,
    oracle_factor,
    slippage_factor,
    staleness_of,
)
from pipeline.messages import ConfidenceBand, Staleness

S = 1_000_000_000
anything = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))
share = st.floats(0, 1)
every_factors = st.builds(Factors, share, share, share, share, share)


def factors(age_s: float, hops: int, deviation: float) -> Factors:
    worth = 1_000_000
    return Factors(
        age=age_factor(int(age_s * S)),
        hops=hops_factor(hops),
        oracle=oracle_factor(round(worth * (1 - deviation)), worth),
        provider=1.0,
        slippage=1.0,
    )


def test_a_stale_long_deviating_quote_is_skipped_and_a_fresh_short_one_executed() -> None:
    bad, good = confidence(factors(45, 3, 0.08)), confidence(factors(3, 1, 0.002))
    assert bad < 0.5
    assert band_of(bad) is ConfidenceBand.SKIP
    assert good > 0.9
    assert band_of(good) is ConfidenceBand.EXECUTE
    assert bad == pytest.approx(0.3 * 0.25 + 0.2 * 0.4 + 0.3 * 0.2 + 0.2)
    assert good == pytest.approx(0.3 * 0.95 + 0.2 * 0.8 + 0.3 * 0.98 + 0.2)


def test_the_weights_are_the_whole() -> None:
    assert sum(WEIGHTS) == 100
    assert confidence(Factors(1, 1, 1, 1, 1)) == 1.0
    assert confidence(Factors()) == 0.0
    for name, weight in WEIGHTS._asdict().items():
        assert confidence(Factors(**{name: 1.0})) == weight / 100


@given(st.lists(anything, min_size=5, max_size=5))
def test_always_within_bounds_and_bad_data_counts_nothing(values: list[float | None]) -> None:
    given_factors = Factors(*values)  # the types promise floats; what comes in may be anything
    result = confidence(given_factors)
    assert 0.0 <= result <= 1.0
    cleaned = [0.0 if value is None or not math.isfinite(value) else min(max(value, 0.0), 1.0) for value in values]
    assert result == confidence(Factors(*cleaned))
    assert result == confidence(given_factors)


@given(every_factors, st.sampled_from(Factors._fields), share)
def test_more_of_a_factor_never_lowers_it(base: Factors, name: str, other: float) -> None:
    low, high = sorted((getattr(base, name), other))
    assert confidence(base._replace(**{name: low})) <= confidence(base._replace(**{name: high}))


@given(st.integers(0, 200 * S), st.integers(0, 200 * S))
def test_an_older_state_is_never_better(first: int, second: int) -> None:
    young, old = sorted((first, second))
    assert age_factor(young) >= age_factor(old)
    assert staleness_of(young) <= staleness_of(old)


@given(st.integers(1, 50), st.integers(1, 50))
def test_more_hops_are_never_better(first: int, second: int) -> None:
    few, many = sorted((first, second))
    assert hops_factor(few) >= hops_factor(many)


@given(st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_larger_deviation_is_never_better(worth: int, first: int, second: int) -> None:
    near, far = sorted((first, second), key=lambda out: abs(out - worth))
    assert 0 <= oracle_factor(far, worth) <= oracle_factor(near, worth) <= 1
    assert oracle_factor(worth, worth) == 1


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_larger_gap_of_slippage_is_never_better(expected: float, first: float, second: float) -> None:
    near, far = sorted((first, second), key=lambda quoted: abs(quoted - expected))
    assert 0 <= slippage_factor(expected, far) <= slippage_factor(expected, near) <= 1
    assert slippage_factor(expected, expected) == 1


@given(st.lists(every_factors, min_size=1, max_size=4))
def test_a_cycle_is_as_good_as_its_worst_leg(legs: list[Factors]) -> None:
    cycle = of_cycle(legs)
    assert cycle.hops == hops_factor(len(legs))
    for name in ("age", "oracle", "provider", "slippage"):
        assert getattr(cycle, name) == min(getattr(leg, name) for leg in legs)


def test_a_cycle_of_nothing_gives_no_confidence() -> None:
    assert of_cycle([]) == Factors()


def test_the_ends_of_every_factor() -> None:
    assert (age_factor(0), age_factor(30 * S), age_factor(60 * S), age_factor(61 * S)) == (1, 0.5, 0, 0)
    assert (hops_factor(1), hops_factor(2), hops_factor(5), hops_factor(6)) == (0.8, 0.6, 0, 0)
    assert (oracle_factor(95, 100), oracle_factor(105, 100), oracle_factor(90, 100)) == (0.5, 0.5, 0)
    assert (slippage_factor(10, 10), slippage_factor(10, 60), slippage_factor(60, 10)) == (1, 0.5, 0.5)
    assert slippage_factor(0, 100) == 0


@pytest.mark.parametrize("value", [None, -1, math.nan, math.inf, -math.inf])
def test_what_is_not_known_is_nothing(value: float | None) -> None:
    assert known(value) == 0
    assert slippage_factor(value, 1.0) == slippage_factor(1.0, value) == 0
    assert band_of(value) is ConfidenceBand.SKIP


@pytest.mark.parametrize("value", [None, -1])
def test_counts_that_are_not_known_are_nothing(value: int | None) -> None:
    assert age_factor(value) == hops_factor(value) == 0
    assert oracle_factor(value, 100) == oracle_factor(100, value) == oracle_factor(0, 100) == oracle_factor(100, 0) == 0
    assert hops_factor(0) == 0
    assert staleness_of(value) is Staleness.VERY_STALE


def test_bands_begin_where_they_say() -> None:
    wanted = {0.9: ConfidenceBand.EXECUTE, 0.7: ConfidenceBand.VERIFY, 0.5: ConfidenceBand.CAUTIOUS}
    for edge, band in wanted.items():
        assert band_of(edge) is band
        assert band_of(math.nextafter(edge, 0)) == band - 1
    assert [staleness_of(age * S) for age in (0, 29, 30, 59, 60)] == [
        Staleness.FRESH,
        Staleness.FRESH,
        Staleness.STALE,
        Staleness.STALE,
        Staleness.VERY_STALE,
    ]


def test_the_page_shows_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "confidence.md").read_text()
    snippet = page.split("```python\n")[1].split("```")[0]
    exec(compile(snippet, "docs/confidence.md", "exec"), {})
    said = snippet.rsplit("# ", 1)[1].split()
    printed = capsys.readouterr().out.split()
    assert (round(float(printed[0]), 3), printed[1]) == (float(said[0]), said[1])
    assert confidence(Factors(age=1, hops=hops_factor(1), provider=1, slippage=1)) == pytest.approx(0.66)
