"""The order of transactions, what they leave in accounts, and what they were for: without a chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.solana.transactions.effects import Account, Effect, Payment, Step, Transfer
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_PROGRAM, TOKEN_PROGRAMS
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.ledger import AccountState, Movement, PlanLink
from workers.auditor.chain_reader import Reader
from workers.auditor.explain import LOOKUP_TABLE_PROGRAM, explain
from workers.auditor.walk import Contradiction, Entry, Read, apart, balances, in_order, lay, settle_untouched

VENUE = "Venue"
OURS = frozenset({"w", "v"})


@given(st.lists(st.integers(1, 6), max_size=25), st.data())
def test_histories_come_together_in_the_chain_s_order(slots: list[int], data: st.DataObject) -> None:
    """Whatever each account saw of a chain: every history's own order is kept."""
    chain = [Entry(f"t{number}", slot) for number, slot in enumerate(sorted(slots))]
    seen = st.lists(st.booleans(), min_size=len(chain), max_size=len(chain))
    histories = [
        [one for one, there in reversed(list(zip(chain, data.draw(seen), strict=True))) if there] for _ in range(3)
    ]
    ordered = in_order(histories)
    assert {one.signature for one, _ in ordered} == {one.signature for history in histories for one in history}
    at = {one.signature: place for place, (one, _) in enumerate(ordered)}
    for history in histories:
        assert [at[one.signature] for one in history] == sorted((at[one.signature] for one in history), reverse=True)
    places: dict[int, list[int]] = {}
    for one, place in ordered:
        places.setdefault(one.slot, []).append(place)
    assert all(found == list(range(len(found))) for found in places.values())


@pytest.mark.parametrize(
    "histories",
    [
        [[Entry("a", 1), Entry("b", 1)], [Entry("b", 1), Entry("a", 1)]],
        [[Entry("a", 1)], [Entry("a", 2)]],
        [[Entry("a", 1), Entry("b", 2)]],
    ],
)
def test_histories_that_contradict_each_other_are_refused(histories: list[list[Entry]]) -> None:
    with pytest.raises(Contradiction):
        in_order(histories)


def an_effect(
    accounts: dict[str, dict[str, tuple[str, int, int, int, int]]],
    *,
    payer: str = "w",
    programs: tuple[str, ...] = (SYSTEM_PROGRAM,),
    payments: tuple[Payment, ...] = (),
    error: Any = None,
    signature: str = "s",
    fee: int = 5_000,
) -> Effect:
    held = {wallet: {at: Account(*one) for at, one in owned.items()} for wallet, owned in accounts.items()}
    tokens: dict[str, dict[str, int]] = {wallet: {} for wallet in held}
    for wallet, owned in held.items():
        for one in owned.values():
            if one.mint not in ("", SOL_MINT) and one.amount_after != one.amount_before:
                tokens[wallet][one.mint] = tokens[wallet].get(one.mint, 0) + one.amount_after - one.amount_before
    gained = {wallet: sum(one[2] - one[1] for one in owned.values()) for wallet, owned in accounts.items()}
    return Effect(
        signature=signature,
        slot=7,
        block_time=1,
        error=error,
        payer=payer,
        signers=(payer,),
        fee=fee,
        base_fee=5_000,
        priority_fee=fee - 5_000,
        tip=0,
        units=1,
        lamports=gained,
        tokens=tokens,
        accounts=held,
        transfers=(),
        payments=payments,
        steps=tuple(Step(1, program, ()) for program in programs),
        transient=frozenset(),
    )


def system(wallet: str, before: int, after: int) -> dict[str, dict[str, tuple[str, int, int, int, int]]]:
    return {wallet: {wallet: ("", before, after, 0, 0)}}


def test_accounts_remember_the_first_transaction_that_does_not_fit() -> None:
    effects = [
        an_effect(system("w", 100, 90), signature="a"),
        an_effect(system("w", 90, 95), signature="b"),
        an_effect(system("w", 96, 97), signature="c"),
        an_effect(system("w", 99, 100), signature="d"),
    ]
    laid = lay({}, effects)
    assert laid["w"] == AccountState("w", "w", "", 100, 0, 97, 0, "c")
    assert lay(lay({}, effects[:2]), effects[2:]) == laid
    reads = {"w": Read("w", "", 97, 0), "t": Read("w", USDC_MINT, 5, 7)}
    assert apart(laid, reads) == []
    assert settle_untouched(laid, reads)["t"] == AccountState("t", "w", USDC_MINT, 5, 7, 5, 7)
    assert apart(laid, {"w": Read("w", "", 96, 0)}) == ["w"]
    assert balances(reads) == {SOL_MINT: 102, USDC_MINT: 7}


@pytest.mark.parametrize(
    ("effect", "kind", "movement"),
    [
        # Signed by another: what comes is a deposit, what goes is no business of theirs.
        (an_effect(system("w", 0, 10), payer="x"), "deposit", Movement(moved=10)),
        (an_effect(system("w", 10, 0), payer="x"), "unexplained", Movement(unexplained=-10)),
        # A payment out, and what it cost.
        (
            an_effect(system("w", 9_000, 3_000), payments=(Payment(0, "w", "x", 1_000),)),
            "withdrawal",
            Movement(moved=-1_000, upkeep=-5_000),
        ),
        (
            an_effect({**system("w", 9_000, 3_000), **system("v", 0, 1_000)}, payments=(Payment(0, "w", "v", 1_000),)),
            "upkeep",
            Movement(upkeep=-5_000),
        ),
        (an_effect(system("w", 9_000, 4_000), programs=(TOKEN_PROGRAM,)), "upkeep", Movement(upkeep=-5_000)),
        # Lamports that no instruction moved.
        (
            an_effect(system("w", 9_000, 3_999), programs=(TOKEN_PROGRAM,)),
            "unexplained",
            Movement(upkeep=-5_000, unexplained=-1),
        ),
        # A lookup table's rent comes back.
        (
            an_effect(system("w", 9_000, 6_000), programs=(LOOKUP_TABLE_PROGRAM,)),
            "upkeep",
            Movement(upkeep=-3_000),
        ),
        # A swap that belongs to no plan, landed or not.
        (an_effect(system("w", 9_000, 9_900), programs=(VENUE,)), "unexplained", Movement(unexplained=900)),
        (
            an_effect(system("w", 9_000, 4_000), programs=(VENUE,), error="x"),
            "unexplained",
            Movement(unexplained=-5_000),
        ),
    ],
)
def test_what_a_transaction_was_for(effect: Effect, kind: str, movement: Movement) -> None:
    walked = explain(effect, 3, OURS, None)
    assert (walked.kind, walked.movements.get(SOL_MINT)) == (kind, movement)
    # Whatever it was for, nothing is left out.
    parts = [one.traded + one.moved + one.upkeep + one.unexplained for one in walked.movements.values()]
    assert sum(parts) == sum(effect.lamports.values())
    link = PlanLink("plan", ())
    assert explain(effect, 3, OURS, link).movements == {SOL_MINT: Movement(traded=sum(effect.lamports.values()))}


def test_tokens_that_nothing_moved_are_unexplained() -> None:
    burnt = an_effect({"w": {"w": ("", 9_000, 4_000, 0, 0), "t": (USDC_MINT, 5, 5, 90, 40)}}, programs=(TOKEN_PROGRAM,))
    walked = explain(burnt, 0, OURS, None)
    assert (walked.kind, walked.movements[USDC_MINT]) == ("unexplained", Movement(unexplained=-50))


def test_the_fee_of_a_token_between_our_own_wallets_is_upkeep() -> None:
    """Token-2022 keeps a part back: it went nowhere that an owner sends things to, and it is explained."""
    accounts = {
        "w": {"w": ("", 10_000, 5_000, 0, 0), "a": ("M", 2, 2, 100, 0)},
        "v": {"b": ("M", 2, 2, 0, 97)},
    }
    effect = replace(
        an_effect(accounts, programs=(TOKEN_PROGRAMS[1],)),
        transfers=(Transfer(0, "a", "b", "w", "v", "M", 100, 3),),
    )
    found = explain(effect, 0, OURS, None)
    assert (found.kind, dict(found.movements)) == (
        "upkeep",
        {SOL_MINT: Movement(upkeep=-5_000), "M": Movement(upkeep=-3)},
    )


@pytest.mark.parametrize("count", [0, 1, 999, 1_000, 1_001, 2_000, 2_500])
@pytest.mark.parametrize("known", [None, 700])
async def test_a_history_of_any_length_is_read_whole(count: int, known: int | None) -> None:
    """Pages of a thousand, newest first; `until` leaves out what is booked, `before` goes on."""
    lines = [{"signature": f"{number:0>40}", "slot": 10 + number // 3} for number in range(count)]

    class Node:
        async def call(self, _method: str, params: Any, *, read: Any, **_: Any) -> Any:
            _, options = params
            found = list(reversed(lines))
            names = [line["signature"] for line in found]
            begin = names.index(options["before"]) + 1 if "before" in options else 0
            end = names.index(options["until"]) if options.get("until") in names else count
            return read(found[begin:end][: options["limit"]])

    pool: Any = Node()
    reader = Reader(pool, ["w"])
    if known is not None and known < count:
        reader._until["w"] = lines[known]["signature"]
    after, through = 12, 10 + count // 3 - 1
    found = await reader.history("w", after=after, through=through)
    first = known + 1 if known is not None and known < count else 0
    wanted = [line["signature"] for line in lines[first:] if after < line["slot"] <= through]
    assert [entry.signature for entry in reversed(found)] == wanted
