"""Routes: the swaps on the way from one token to another, known by a short id that follows from them.

The id is 64 bits of BLAKE3, so two routes could in principle share one. A book notices that and refuses the second: a
route id in a quote always means the route it was given out for.
"""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from blake3 import blake3

from pipeline.messages import RouteStep

MAX_STEPS = 32
"""No route worth a trade is longer; a longer one is a provider's mistake."""
MAX_TEXT = 256


class RouteRefused(ValueError):
    """A route that cannot be one, or whose id is taken by another."""


@dataclass(frozen=True, slots=True)
class Step:
    """One swap: which pool takes which token for which."""

    pool: str
    """Pool address, or empty where the provider does not name it."""
    venue: str
    """The pool's program family, as the provider names it."""
    token_in: str
    token_out: str


@dataclass(frozen=True)
class Route:
    """One or more swaps, in order. Two routes of the same steps are the same route."""

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        """Refuse what is no way from one token to another.

        Steps need not take what the one before gave: providers split an amount over parallel ways.

        Raises:
            RouteRefused: no steps, too many, a step from a token to itself, or a name of no reasonable length.
        """
        if not 1 <= len(self.steps) <= MAX_STEPS:
            raise RouteRefused(f"{len(self.steps)} steps, a route has 1 to {MAX_STEPS}")
        for step in self.steps:
            if not step.token_in or not step.token_out or step.token_in == step.token_out:
                raise RouteRefused(f"a step from {step.token_in!r} to {step.token_out!r}")
            if max(map(len, (step.pool, step.venue, step.token_in, step.token_out))) > MAX_TEXT:
                raise RouteRefused(f"a name longer than {MAX_TEXT} characters")

    @property
    def hops(self) -> int:
        """Return the number of swaps."""
        return len(self.steps)

    @cached_property
    def canonical(self) -> bytes:
        """Return the bytes that the id is made of: each text after its length, so no two routes run together."""
        parts = [struct.pack("<I", len(self.steps))]
        for step in self.steps:
            for text in (step.pool, step.venue, step.token_in, step.token_out):
                raw = text.encode()
                parts += (struct.pack("<I", len(raw)), raw)
        return b"".join(parts)

    @classmethod
    def from_text(cls, text: str) -> Route:
        """Return the route that `to_text` wrote.

        Raises:
            RouteRefused: if it is none.
        """
        try:
            rows = json.loads(text)
            steps = tuple(Step(*row) for row in rows)
            whole = all(type(name) is str for row in rows for name in row)
        except (ValueError, TypeError):
            raise RouteRefused("no list of steps") from None
        if not whole:
            raise RouteRefused("a step has four names")
        return cls(steps)

    def to_text(self) -> str:
        """Return the steps as JSON: what stores keep."""
        rows = [(step.pool, step.venue, step.token_in, step.token_out) for step in self.steps]
        return json.dumps(rows, separators=(",", ":"))

    @cached_property
    def route_id(self) -> int:
        """Return 64 bits of BLAKE3 over the canonical bytes; never 0, which stands for no route."""
        return int.from_bytes(blake3(self.canonical).digest(8), "little") or 1

    def to_steps(self) -> tuple[RouteStep, ...]:
        """Return the steps as messages carry them."""
        return tuple(
            RouteStep(pool=step.pool, venue=step.venue, token_in=step.token_in, token_out=step.token_out)
            for step in self.steps
        )


def route_of(steps: Iterable[RouteStep]) -> Route:
    """Return the route of a message's steps.

    Raises:
        RouteRefused: if they are no route.
    """
    return Route(tuple(Step(step.pool, step.venue, step.token_in, step.token_out) for step in steps))


class RouteBook:
    """The routes in use, newest use first, at most so many: what an id means, without asking anybody."""

    def __init__(self, capacity: int = 4096) -> None:
        """Begin empty."""
        if capacity < 1:
            raise ValueError("a book holds at least one route")
        self._capacity = capacity
        self._routes: OrderedDict[int, Route] = OrderedDict()
        self.hits = 0
        self.misses = 0
        self.collisions = 0
        self.evicted = 0

    def __len__(self) -> int:
        """Return how many routes are held."""
        return len(self._routes)

    def add(self, route: Route) -> tuple[int, bool]:
        """Hold a route; return its id, and whether it was not held before.

        Raises:
            RouteRefused: if another route holds the id; that one stays.
        """
        route_id = route.route_id
        held = self._routes.get(route_id)
        if held is None:
            self._routes[route_id] = route
            if len(self._routes) > self._capacity:
                self._routes.popitem(last=False)
                self.evicted += 1
            return route_id, True
        if held.canonical != route.canonical:
            self.collisions += 1
            raise RouteRefused(f"route id {route_id:016x} belongs to another route")
        self._routes.move_to_end(route_id)
        return route_id, False

    def forget(self, route_id: int) -> None:
        """Let go of a route: its id was found to belong to another."""
        self._routes.pop(route_id, None)

    def get(self, route_id: int) -> Route | None:
        """Return the route of an id, if it is held; using it keeps it."""
        route = self._routes.get(route_id)
        if route is None:
            self.misses += 1
            return None
        self.hits += 1
        self._routes.move_to_end(route_id)
        return route
