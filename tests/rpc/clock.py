"""A clock that tests turn by hand."""

from __future__ import annotations

NS_PER_S = 1_000_000_000


class FakeClock:
    """Monotonic ns that stand still until told otherwise."""

    def __init__(self, now_ns: int = 5 * NS_PER_S) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def forward(self, seconds: float) -> None:
        self.now_ns += round(seconds * NS_PER_S)
