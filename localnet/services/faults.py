"""What goes wrong at a simulated node, on purpose: seeded, counted, and switched while it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Faults:
    """What goes wrong, each as a share of the requests (0..1) unless it says otherwise. Drawn from a seed."""

    limited: float = 0.0
    """HTTP 429 with Retry-After."""
    retry_after_s: float = 1.0
    failed: float = 0.0
    """HTTP 503."""
    truncated: float = 0.0
    """Half of the JSON, with HTTP 200."""
    garbage: float = 0.0
    """HTML, with HTTP 200."""
    slow: float = 0.0
    slow_s: float = 1.0
    silent: bool = False
    """Answers nothing at all, and sends nothing on websockets that stay open."""
    behind_slots: int = 0
    """The node is stale: it tells the chain as it was so many slots ago."""
    cut_chance: float = 0.0
    """Chance per slot that every websocket is cut without a goodbye."""
    expired_blockhash: float = 0.0
    """Share of the calls of getLatestBlockhash that are answered with a blockhash that has run out."""

    def apply(self, changes: Mapping[str, object]) -> None:
        """Take over some of the values, all of them or none.

        Raises:
            ValueError: for a name or a value that does not fit.
        """
        set_values([self], changes)


_NOT_SHARES = frozenset({"retry_after_s", "slow_s"})


def set_values(targets: list[Any], changes: Mapping[str, object]) -> None:
    """Set the changes on whichever of some dataclasses has their names; all of them or none.

    Raises:
        ValueError: for a name that none of them has, or a value that does not fit.
    """
    known = {name: target for target in targets for name in values_of(target)}
    chosen: list[tuple[Any, str, object]] = []
    for name, value in changes.items():
        target = known.get(name)
        chosen.append((target, name, _fitting(target, name, value, known)))
    for target, name, value in chosen:
        setattr(target, name, value)


def values_of(target: Any) -> dict[str, bool | int | float]:
    """Return what of a dataclass is a number or a switch, by name."""
    found = {field.name: getattr(target, field.name) for field in dataclasses.fields(target)}
    return {name: value for name, value in found.items() if isinstance(value, (bool, int, float)) and name[0] != "_"}


def _fitting(target: Any, name: str, value: object, known: Mapping[str, object]) -> bool | int | float:
    kind = None if target is None else type(getattr(target, name))
    if kind is None or not isinstance(value, (int, float)) or isinstance(value, bool) != (kind is bool):
        raise ValueError(f"no fault {name} = {value!r}; known: {', '.join(known)}")
    if kind is int and not isinstance(value, int):
        raise ValueError(f"{name} = {value!r} must be a whole number")
    most = 1.0 if kind is float and name not in _NOT_SHARES else float("inf")
    if not 0 <= value <= most:
        raise ValueError(f"{name} = {value!r} is not within 0 and {most:g}")
    result: bool | int | float = kind(value)
    return result
