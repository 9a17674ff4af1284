"""The stand-in for Raydium AMM v4 against the core and real logs: amounts and account bytes, and what it refuses."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest

from localnet.layouts import amm_v4, token_account, token_amount
from markets.solana.venues import raydium_amm_v4
from markets.solana.venues.shape import TOKEN_2022_PROGRAM, Instruction, Meta, key
from markets.tokens import SOL_MINT
from pipeline.messages import Protocol

from .compare import compare
from .rig import RENT, RICH, USER, Raw, Rig, address, authority_of, owned_by, patched, plain_mint

AUTHORITY, NONCE = authority_of(raydium_amm_v4.PROGRAM, b"amm authority")
POOL = address("pool")
MINTS = [address("mint-a"), address("mint-b")]
VAULTS = [address("vault-a"), address("vault-b")]


def accounts(
    balances: tuple[int, int],
    *,
    fee: tuple[int, int] = (25, 10_000),
    owed: tuple[int, int] = (0, 0),
    status: int = 6,
    opens: int = 0,
) -> list[Raw]:
    pool: Raw = amm_v4(POOL, MINTS, VAULTS, (9, 6), 1)
    for at, value in (
        (0, status),
        (8, NONCE),
        (176, fee[0]),
        (184, fee[1]),
        (192, owed[0]),
        (200, owed[1]),
        (224, opens),
    ):
        pool = patched(pool, at, value.to_bytes(8, "little"))
    vaults = [token_account(v, m, AUTHORITY, b) for v, m, b in zip(VAULTS, MINTS, balances, strict=True)]
    return [pool, *vaults]


def rig(balances: tuple[int, int] = (10**12, 10**11), **options: Any) -> Rig:
    return Rig(Protocol.RAYDIUM_AMM_V4, POOL, accounts(balances, **options), [plain_mint(mint) for mint in MINTS])


def test_chains_of_swaps_are_those_of_the_core() -> None:
    dice = random.Random(1)
    filled = failed = most = 0
    for _ in range(30):
        scale = 10 ** dice.randrange(4, 18)
        balances = (dice.randrange(scale // 10, scale), dice.randrange(scale // 10, scale))
        owed = (dice.randrange(scale // 20), dice.randrange(scale // 20))
        made = rig(balances, owed=owed, fee=dice.choice([(25, 10_000), (1, 3), (0, 1)]), status=dice.choice([6, 7]))
        for _ in range(15):
            amount = dice.randrange(1, 10 ** dice.randrange(1, 18))
            done = compare(made, dice.random() < 0.5, amount, codes={"invalid_input": 29})
            filled, failed = filled + (done.error is None), failed + (done.error is not None)
            most = max(most, done.units)
    assert filled > 300
    assert failed > 10
    assert most < 8_000


def test_wrapped_sol_moves_lamports_as_well() -> None:
    raws = accounts((10**12, 10**11))
    raws[0] = patched(raws[0], 400, key(SOL_MINT))
    raws[1] = token_account(VAULTS[0], SOL_MINT, AUTHORITY, 10**12)
    made = Rig(Protocol.RAYDIUM_AMM_V4, POOL, raws, [plain_mint(SOL_MINT), plain_mint(MINTS[1])])
    for a_to_b in (True, False, True):
        compare(made, a_to_b, 10**9)
        assert made.lamports(VAULTS[0]) == RENT + token_amount(made.data(VAULTS[0]))
        assert made.lamports(made.wallets[0]) == RENT + token_amount(made.data(made.wallets[0]))


def classic(made: Rig, instruction: Instruction, *, target_orders: bool) -> Instruction:
    """Return the older instruction for the same swap: with the accounts of an order book, which nobody reads."""
    tokens, pool, authority, coin, pc, *user = instruction.metas
    unread = [Meta(address(f"book-{number}"), writable=True) for number in range(9)]
    metas = (tokens, pool, authority, *unread[: 1 + target_orders], coin, pc, *unread[1:], *user)
    assert len(metas) == 17 + target_orders
    return Instruction(instruction.program, metas, b"\x09" + instruction.data[1:])


@pytest.mark.parametrize("target_orders", [False, True])
def test_the_older_instruction_does_the_same(target_orders: bool) -> None:
    made, other = rig(), rig()
    for a_to_b in (True, False):
        assert made.run(classic(made, made.instruction(a_to_b, 10**8), target_orders=target_orders)).error is None
        assert other.swap(a_to_b, 10**8).error is None
    assert made.raws() == other.raws()
    assert made.holdings() == other.holdings()


def test_the_least_amount_holds() -> None:
    made = rig()
    out = made.model().quote_in(True, 10**9).amount_out
    assert made.swap(True, 10**9, out + 1).code == 30
    assert made.holdings() == [RICH, RICH]
    assert made.swap(True, 10**9, out).error is None


def test_more_than_the_user_has_is_refused() -> None:
    made = rig()
    made.put(token_account(made.wallets[0], MINTS[0], USER, 99))
    assert made.swap(True, 100).code == 40
    assert made.swap(True, 99).error is None


@pytest.mark.parametrize("options", [{"status": 5}, {"status": 1}, {"status": 7, "opens": 2**40}])
def test_closed_pools_trade_nothing(options: dict[str, int]) -> None:
    made = rig()
    instruction = made.instruction(True, 1_000_000)
    [closed, *_] = accounts((10**12, 10**11), **options)
    made.put(closed)
    assert made.run(instruction).code == 22


OTHER = address("other")
HOSTILE = {
    "no token program": (0, Meta(OTHER), 38),
    "the other token program": (0, Meta(TOKEN_2022_PROGRAM), 38),
    "a pool of nobody": (1, Meta(OTHER, writable=True), 27),
    "another account of the program": (1, Meta(address("target"), writable=True), 3),
    "another authority": (2, Meta(OTHER), 1),
    "a vault of our own, filled with air": (3, Meta(address("vault-x"), writable=True), 4),
    "the same vault twice": (4, Meta(VAULTS[0], writable=True), 5),
    "a vault as the source": (5, Meta(VAULTS[0], writable=True), 42),
    "source is no token account": (5, Meta(OTHER, writable=True), 38),
    "source is another's": (5, Meta(address("victim"), writable=True), 4),
    "destination of the token given": (6, Meta(address("twin"), writable=True), 42),
    "a vault as the destination": (6, Meta(VAULTS[1], writable=True), 42),
    "owner does not sign": (7, Meta(OTHER), 21),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_accounts_are_refused(case: str) -> None:
    position, meta, code = HOSTILE[case]
    made = rig()
    made.put((address("target"), raydium_amm_v4.PROGRAM, bytes(600)))
    made.put(token_account(address("vault-x"), MINTS[0], AUTHORITY, 10**15))
    made.put(token_account(address("twin"), MINTS[0], USER, 10**15))
    made.put(owned_by(token_account(address("victim"), MINTS[0], USER, 10**15), OTHER))
    made.tampered[position] = meta
    before = {of: made.data(of) for of in (POOL, *VAULTS, *made.wallets, address("victim"))}
    assert made.swap(True, 10**9).code == code
    assert {of: made.data(of) for of in before} == before
    made.tampered.clear()
    assert made.swap(True, 10**9).error is None


def test_other_instructions_are_refused() -> None:
    made = rig()
    instruction = made.instruction(True, 10**9)
    for data in (b"", b"\x0b" + instruction.data[1:], b"\x11" + instruction.data[1:]):
        assert made.run(Instruction(instruction.program, instruction.metas, data)).code == 77001
    assert made.run(Instruction(instruction.program, instruction.metas, instruction.data[:16])).error is not None
    assert made.run(Instruction(instruction.program, instruction.metas[:7], instruction.data)).error is not None
    assert made.run(Instruction(instruction.program, instruction.metas, b"\x09" + instruction.data[1:])).code == 24


@pytest.mark.recorded
def test_real_swaps_come_out_alike(recorded_data: Path) -> None:
    for log in json.loads((recorded_data / "solana/vectors/raydium_amm_v4_ray_log.json").read_text()):
        made = rig((log["pool_coin"] + 5, log["pool_pc"] + 7), owed=(5, 7))
        assert made.swap(log["direction"] == 2, log["amount_in"]).error is None
        taken = made.holdings()[log["direction"] == 2] - RICH
        assert taken == log["out_amount"]


@pytest.mark.recorded
def test_the_recorded_pool_trades_as_the_core_says(recorded_data: Path) -> None:
    [path] = (recorded_data / "solana/accounts/raydium_amm_v4").iterdir()
    document = json.loads(path.read_text())
    data = base64.b64decode(document["data"])
    coin, pc = raydium_amm_v4.vaults(data)
    mints = raydium_amm_v4.mints(data)
    # Its vaults were not recorded.
    assert data[8] == NONCE
    vaults = [token_account(v, m, AUTHORITY, 10**14) for v, m in zip((coin, pc), mints, strict=True)]
    raws = [(document["pubkey"], raydium_amm_v4.PROGRAM, data), *vaults]
    made = Rig(Protocol.RAYDIUM_AMM_V4, document["pubkey"], raws, [plain_mint(mint) for mint in mints])
    dice = random.Random(3)
    for _ in range(100):
        assert compare(made, dice.random() < 0.5, dice.randrange(10**3, 10**12)).error is None
