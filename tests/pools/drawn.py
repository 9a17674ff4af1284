"""Drawn positions of pools of concentrated liquidity."""

from __future__ import annotations

from hypothesis import strategies as st

from .ticks import MAX_TICK, MIN_TICK


def positions(draw: st.DrawFn, spacing: int) -> tuple[list[tuple[int, int, int]], int, int]:
    """Positions (lower tick, upper tick, liquidity) around a price near or far from one, its place in spacings and its
    tick."""
    highest = MAX_TICK // spacing
    centre = draw(st.integers(-min(highest, 3_000), min(highest, 3_000)) | st.integers(-highest, highest))
    ranges = []
    for _ in range(draw(st.integers(0, 6))):
        width = draw(st.integers(1, 120) | st.integers(1, 2 * highest))
        lower = max(-highest, min(highest - 1, centre + draw(st.integers(-100, 100))))
        upper = min(highest, lower + width)
        ranges.append((lower * spacing, upper * spacing, draw(st.integers(1, 2**40) | st.integers(1, 2**80))))
    tick = max(MIN_TICK, min(MAX_TICK - 1, centre * spacing + draw(st.integers(0, spacing - 1))))
    return ranges, centre, tick
