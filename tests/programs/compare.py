"""One swap in the machine and in the core: both fail, or both move the same and leave the same bytes."""

from __future__ import annotations

from markets.solana.pools import PoolRefused, QuoteError

from .rig import Outcome, Rig


def compare(rig: Rig, a_to_b: bool, amount: int, *, codes: dict[str, object] | None = None) -> Outcome:
    """Swap on both sides and compare every byte that the core follows, what the user has included."""
    before, model = rig.holdings(), rig.model()
    done = rig.swap(a_to_b, amount)
    reason, swapped = None, None
    try:
        swapped = model.swap(a_to_b, amount)
    except QuoteError as error:
        reason = str(error)
    if swapped is None:
        assert done.error is not None, (reason, amount, a_to_b)
        if codes is not None:
            assert done.code == codes[str(reason)], (reason, done)
        assert rig.holdings() == before
        return done
    after, moved = swapped
    assert done.error is None, (done.error, done.logs, amount, a_to_b)
    change = [now - then for now, then in zip(rig.holdings(), before, strict=True)]
    given, taken = change if a_to_b else change[::-1]
    assert (-given, taken) == (moved.amount_in, moved.amount_out)
    for found, expected in zip(rig.raws(), after.accounts(), strict=True):
        assert found == expected or found[0] in rig.unfollowed, [
            (at, a, b) for at, (a, b) in enumerate(zip(found[2], expected[2], strict=True)) if a != b
        ]
    return done


def still_readable(rig: Rig) -> bool:
    """Tell whether the core reads the pool as it stands."""
    try:
        rig.model()
    except PoolRefused:
        return False
    return True
