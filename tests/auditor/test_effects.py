"""Effects of transactions that somebody wrote by hand, and of answers that somebody broke."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from base58 import b58encode
from hypothesis import given
from hypothesis import strategies as st

from markets.solana.transactions.effects import BadTransaction, Effect, LegFill, Payment, effect_of, fills_of
from markets.solana.transactions.tips import TIP_ACCOUNTS
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from markets.tokens import SOL_MINT, USDC_MINT
from pipeline.messages import Leg

from .results import JITO

WALLET, OTHER, POOL = "Wallet", "Other", "Pool"
VENUE = "Venue"
RENT = 2_039_280


def u64(number: int) -> bytes:
    return number.to_bytes(8, "little")


def balance(index: int, mint: str, owner: str, amount: int) -> dict[str, Any]:
    return {
        "accountIndex": index,
        "mint": mint,
        "owner": owner,
        "programId": TOKEN_PROGRAM,
        "uiTokenAmount": {"amount": str(amount), "decimals": 6, "uiAmount": 0.0, "uiAmountString": ""},
    }


def called(
    keys: list[str], program: str, accounts: list[str], data: bytes, height: int | None = None
) -> dict[str, Any]:
    return {
        "programIdIndex": keys.index(program),
        "accounts": [keys.index(one) for one in accounts],
        "data": b58encode(data).decode(),
        "stackHeight": height,
    }


KEYS = [
    WALLET, "Wrapped", "Usdc", "Jito", POOL, "Vault", "VaultUsdc", "VaultJito", TIP_ACCOUNTS[3],
    VENUE, TOKEN_PROGRAM, TOKEN_2022_PROGRAM, SYSTEM_PROGRAM, JITO, USDC_MINT, "Stranger",
]  # fmt: skip


def a_cycle(*, error: Any = None) -> dict[str, Any]:
    """USDC -> JitoSOL -> USDC with a fee of 5,600 and a tip of 700: 5 of the middle token are left."""
    legs = [("Usdc", "VaultUsdc", 1_000_000, "VaultJito", "Jito", 800_005), ("Jito", "VaultJito", 800_000)]
    first = [
        called(KEYS, TOKEN_PROGRAM, ["Usdc", "VaultUsdc", WALLET], b"\x03" + u64(legs[0][2]), 2),
        called(KEYS, TOKEN_PROGRAM, ["VaultJito", "Jito", POOL], b"\x03" + u64(800_005), 2),
    ]
    second = [
        called(KEYS, TOKEN_PROGRAM, ["Jito", JITO, "VaultJito", WALLET], b"\x0c" + u64(800_000) + b"\x09", 2),
        called(KEYS, TOKEN_PROGRAM, ["VaultUsdc", USDC_MINT, "Usdc", POOL], b"\x0c" + u64(1_004_000) + b"\x06", 2),
    ]
    before = [10**9, RENT + 500, RENT, RENT, 5, RENT, RENT, RENT, 77, 1, 1, 1, 1, 1, 1, 0]
    after = list(before)
    after[0] -= 5_600 + (0 if error else 700)
    after[8] += 0 if error else 700
    holdings = [(1, SOL_MINT, WALLET, 500), (2, USDC_MINT, WALLET, 9_000_000), (3, JITO, WALLET, 50)]
    holdings += [(6, USDC_MINT, POOL, 10**10), (7, JITO, POOL, 10**10)]
    gains = {} if error else {2: 4_000, 3: 5, 6: -4_000, 7: -5}
    swap = [POOL, "Usdc", "Jito", "VaultUsdc", "VaultJito", TOKEN_PROGRAM]
    return {
        "slot": 9,
        "blockTime": 1_790_000_000,
        "version": 0,
        "meta": {
            "err": error,
            "fee": 5_600,
            "computeUnitsConsumed": 90_000,
            "preBalances": before,
            "postBalances": after,
            "preTokenBalances": [balance(*one) for one in holdings],
            "postTokenBalances": [balance(*one[:3], one[3] + gains.get(one[0], 0)) for one in holdings],
            "innerInstructions": [{"index": 0, "instructions": first}, {"index": 1, "instructions": second}],
            "loadedAddresses": {"writable": [], "readonly": KEYS[-3:]},
        },
        "transaction": {
            "signatures": ["Signature"],
            "message": {
                "accountKeys": KEYS[:-3],
                "header": {"numRequiredSignatures": 1},
                "instructions": [
                    called(KEYS, VENUE, swap, b"swap"),
                    called(KEYS, VENUE, swap, b"swap"),
                    called(KEYS, SYSTEM_PROGRAM, [WALLET, TIP_ACCOUNTS[3]], bytes([2, 0, 0, 0]) + u64(700)),
                ],
            },
        },
    }


def legs() -> list[Leg]:
    return [
        Leg(pool=POOL, token_in=USDC_MINT, token_out=JITO, amount_in=1_000_000, amount_out=800_005),
        Leg(pool=POOL, token_in=JITO, token_out=USDC_MINT, amount_in=800_000, amount_out=1_004_000),
    ]


def test_a_cycle() -> None:
    effect = effect_of(a_cycle(), [WALLET])
    assert (effect.base_fee, effect.priority_fee, effect.tip, effect.fee) == (5_000, 600, 700, 5_600)
    assert effect.lamports == {WALLET: -6_300}
    assert effect.tokens == {WALLET: {USDC_MINT: 4_000, JITO: 5}}
    assert effect.payments == (Payment(6, WALLET, TIP_ACCOUNTS[3], 700),)
    assert fills_of(effect, legs(), WALLET) == (
        LegFill(POOL, USDC_MINT, JITO, 1_000_000, 800_005),
        LegFill(POOL, JITO, USDC_MINT, 800_000, 1_004_000),
    )
    assert effect.accounts[WALLET]["Wrapped"].amount_after == 500


def test_a_failed_one_is_its_fee_and_nothing_else() -> None:
    effect = effect_of(a_cycle(error={"InstructionError": [1, {"Custom": 30}]}), [WALLET])
    assert (effect.lamports, effect.tokens, effect.tip, effect.transfers) == ({WALLET: -5_600}, {WALLET: {}}, 0, ())
    assert fills_of(effect, legs(), WALLET) == ()
    told = a_cycle(error="AccountInUse")
    told["meta"]["postTokenBalances"][1]["uiTokenAmount"]["amount"] = "9000001"
    with pytest.raises(BadTransaction, match="moved tokens"):
        effect_of(told, [WALLET])


def test_lamports_that_do_not_add_up_are_refused() -> None:
    told = a_cycle()
    told["meta"]["postBalances"][0] += 1
    with pytest.raises(BadTransaction, match="differ by the fee"):
        effect_of(told, [WALLET])


def test_a_leg_that_was_not_run() -> None:
    effect = effect_of(a_cycle(), [WALLET])
    with pytest.raises(BadTransaction, match="leg 2 never"):
        fills_of(effect, [*legs(), legs()[0]], WALLET)


def a_plain(instructions: list[dict[str, Any]], changes: dict[int, int], holdings: Any = ((), ())) -> Effect:
    """A transaction of one wallet with a fee of 5,000."""
    before = [10**10] * len(KEYS)
    after = [amount + changes.get(index, 0) for index, amount in enumerate(before)]
    after[0] -= 5_000
    told = a_cycle()
    told["meta"] |= {"fee": 5_000, "preBalances": before, "postBalances": after, "innerInstructions": []}
    told["meta"] |= {"preTokenBalances": [balance(*one) for one in holdings[0]]}
    told["meta"] |= {"postTokenBalances": [balance(*one) for one in holdings[1]]}
    told["transaction"]["message"]["instructions"] = instructions
    return effect_of(told, [WALLET, OTHER])


def test_wrapping_and_opening_cost_the_fee_alone() -> None:
    """An account opened with rent and 1,000 wrapped; then closed again."""
    opened = a_plain([], {0: -RENT - 1_000, 1: RENT + 1_000 - 10**10, 15: 10**10}, ((), [(1, SOL_MINT, WALLET, 1_000)]))
    # The address held lamports of nobody of ours before: they came with the account.
    assert opened.lamports == {WALLET: -RENT - 1_000 - 5_000 + RENT + 1_000}
    assert opened.tokens == {WALLET: {}}
    closed = a_plain([], {0: 10**10, 1: -(10**10)}, ([(1, SOL_MINT, WALLET, 1_000)], ()))
    assert closed.lamports == {WALLET: -5_000}


def test_an_account_handed_over_is_no_gain_before_and_a_gain_after() -> None:
    effect = a_plain([], {}, ([(2, USDC_MINT, OTHER, 70)], [(2, USDC_MINT, WALLET, 70)]))
    assert effect.tokens == {WALLET: {USDC_MINT: 70}, OTHER: {USDC_MINT: -70}}
    assert effect.lamports == {WALLET: 10**10 - 5_000, OTHER: -(10**10)}


@pytest.mark.parametrize(
    ("data", "fee"),
    [(b"\x1a\x01" + u64(1_000) + b"\x06" + u64(12), 12), (b"\x0c" + u64(1_000) + b"\x06", 12)],
)
def test_a_fee_that_the_token_takes(data: bytes, fee: int) -> None:
    """Told by the instruction, or by what arrived."""
    sent = called(KEYS, TOKEN_2022_PROGRAM, ["VaultUsdc", USDC_MINT, "Usdc", POOL], data)
    holdings = [(6, USDC_MINT, POOL, 5_000), (2, USDC_MINT, WALLET, 1)]
    after = [(6, USDC_MINT, POOL, 4_000), (2, USDC_MINT, WALLET, 989)]
    effect = a_plain([sent], {}, (holdings, after))
    [transfer] = effect.transfers
    assert (transfer.amount, transfer.fee) == (1_000, fee)
    assert effect.tokens[WALLET] == {USDC_MINT: 988}


def test_a_fee_that_two_transfers_share_is_not_guessed() -> None:
    sent = called(KEYS, TOKEN_2022_PROGRAM, ["VaultUsdc", USDC_MINT, "Usdc", POOL], b"\x0c" + u64(500) + b"\x06")
    holdings = [(6, USDC_MINT, POOL, 5_000), (2, USDC_MINT, WALLET, 1)]
    after = [(6, USDC_MINT, POOL, 4_000), (2, USDC_MINT, WALLET, 989)]
    effect = a_plain([sent, sent], {}, (holdings, after))
    assert [one.fee for one in effect.transfers] == [None, None]


def test_a_batch_of_token_instructions() -> None:
    one = b"\x03" + u64(7)
    two = b"\x0c" + u64(9) + b"\x06"
    data = b"\xff" + bytes([3, len(one)]) + one + bytes([4, len(two)]) + two
    accounts = ["Usdc", "VaultUsdc", WALLET, "VaultUsdc", USDC_MINT, "Usdc", POOL]
    holdings = [(6, USDC_MINT, POOL, 50), (2, USDC_MINT, WALLET, 50)]
    after = [(6, USDC_MINT, POOL, 48), (2, USDC_MINT, WALLET, 52)]
    effect = a_plain([called(KEYS, TOKEN_PROGRAM, accounts, data)], {}, (holdings, after))
    assert [(one.source, one.amount, one.mint) for one in effect.transfers] == [
        ("Usdc", 7, USDC_MINT),
        ("VaultUsdc", 9, USDC_MINT),
    ]
    for cut in range(1, len(data)):
        try:
            a_plain([called(KEYS, TOKEN_PROGRAM, accounts, data[:cut])], {}, (holdings, holdings))
        except BadTransaction:
            continue
        assert cut in (1, 12), cut


def _paths(found: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return [path, *(deeper for key, value in inner for deeper in _paths(value, (*path, key)))]


PATHS = _paths(a_cycle())[1:]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(st.lists(st.tuples(st.sampled_from(PATHS), ANYTHING), min_size=1, max_size=3))
def test_a_broken_answer_is_refused_or_still_adds_up(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    told = copy.deepcopy(a_cycle())
    for path, value in changes:
        place: Any = told
        try:
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        except (LookupError, TypeError):
            continue  # an earlier change took the place away
    try:
        effect = effect_of(told, [WALLET])
        fills_of(effect, legs(), WALLET)
    except BadTransaction:
        return
    assert effect.fee == effect.base_fee + effect.priority_fee
