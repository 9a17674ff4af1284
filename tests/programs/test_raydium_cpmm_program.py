"""The stand-in for Raydium CPMM against the core: amounts and account bytes, and what it refuses."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest

from localnet.layouts import cpmm, cpmm_config, token_account
from markets.solana.venues import raydium_cpmm
from markets.solana.venues.shape import TOKEN_2022_PROGRAM, Meta, address_at, key
from pipeline.messages import Protocol
from tests.pools.build import fee_config, mint_account, withheld

from .compare import compare
from .rig import RICH, USER, Raw, Rig, address, authority_of, owned_by, patched, plain_mint

AUTHORITY, BUMP = authority_of(raydium_cpmm.PROGRAM, b"vault_and_lp_mint_auth_seed")
POOL, CONFIG = address("pool"), address("config")
MINTS = [address("mint-a"), address("mint-b")]
VAULTS = [address("vault-a"), address("vault-b")]
CODES: dict[str, object] = {"zero_tradable_amount": 2505, "zero_trading_tokens": 2505}


def accounts(
    balances: tuple[int, int],
    *,
    rates: tuple[int, int, int, int] = (2_500, 120_000, 40_000, 0),
    owed: tuple[int, int, int] = (0, 0, 0),
    creator_on: int = 0,
    status: int = 0,
    opens: int = 0,
) -> list[Raw]:
    pool: Any = cpmm(POOL, MINTS, VAULTS, (9, 6), lp_supply=1, config=CONFIG)
    pool = patched(pool, 328, bytes([BUMP, status]))
    for at, amount in zip((341, 357, 397), owed, strict=True):
        pool = patched(pool, at, amount.to_bytes(8, "little") * 2)
    pool = patched(pool, 373, opens.to_bytes(8, "little"))
    pool = patched(pool, 389, bytes([creator_on, rates[3] > 0]))
    config: Any = cpmm_config(CONFIG, rates[0])
    config = patched(config, 20, rates[1].to_bytes(8, "little") + rates[2].to_bytes(8, "little"))
    config = patched(config, 108, rates[3].to_bytes(8, "little"))
    vaults = [token_account(v, m, AUTHORITY, b) for v, m, b in zip(VAULTS, MINTS, balances, strict=True)]
    return [pool, config, *vaults]


def rig(balances: tuple[int, int] = (10**12, 10**11), **options: Any) -> Rig:
    return Rig(Protocol.RAYDIUM_CPMM, POOL, accounts(balances, **options), [plain_mint(mint) for mint in MINTS])


def test_chains_of_swaps_are_those_of_the_core() -> None:
    dice = random.Random(1)
    filled = failed = most = 0
    for _ in range(30):
        scale = 10 ** dice.randrange(4, 18)
        balances = (dice.randrange(scale // 10, scale), dice.randrange(scale // 10, scale))
        made = rig(
            balances,
            rates=(dice.choice([100, 2_500, 10_000]), 120_000, 40_000, dice.choice([0, 0, 500, 5_000])),
            owed=(dice.randrange(scale // 100), dice.randrange(scale // 100), dice.randrange(scale // 100)),
            creator_on=dice.randrange(3),
        )
        for _ in range(15):
            done = compare(made, dice.random() < 0.5, dice.randrange(1, 10 ** dice.randrange(1, 18)), codes=CODES)
            filled, failed = filled + (done.error is None), failed + (done.error is not None)
            most = max(most, done.units)
    assert filled > 300
    assert failed > 10
    assert most < 8_000


def test_transfer_fees_are_those_of_token_2022() -> None:
    dice = random.Random(2)
    for bps, most in ((30, 10**15), (500, 1_000), (10_000, 7)):
        extension = fee_config(bps, most)
        mint = mint_account(MINTS[1], owner=TOKEN_2022_PROGRAM, extensions=extension)
        raws = accounts((10**13, 10**12))
        raws[0] = patched(raws[0], 264, key(TOKEN_2022_PROGRAM))
        vault = raws[3]
        raws[3] = (vault[0], TOKEN_2022_PROGRAM, vault[2] + b"\x02" + withheld())
        made = Rig(Protocol.RAYDIUM_CPMM, POOL, [*raws, mint], [plain_mint(MINTS[0])])
        wallet = made.data(made.wallets[1])
        made.put((made.wallets[1], TOKEN_2022_PROGRAM, wallet + b"\x02" + withheld()))
        for _ in range(20):
            _compare_withheld(made, dice.random() < 0.5, dice.randrange(1, 10 ** dice.randrange(4, 12)))


def _compare_withheld(made: Rig, a_to_b: bool, amount: int) -> None:
    """Compare amounts and balances; what token accounts withhold is beyond what the core follows."""
    before, model = made.holdings(), made.model()
    done = made.swap(a_to_b, amount)
    after, moved = model.swap(a_to_b, amount)
    assert done.error is None, done
    change = [now - then for now, then in zip(made.holdings(), before, strict=True)]
    given, taken = change if a_to_b else change[::-1]
    assert (-given, taken) == (moved.amount_in, moved.amount_out)
    for found, expected in zip(made.raws(), after.accounts(), strict=True):
        assert found[2][:165] == expected[2][:165]
        if len(found[2]) == 637:
            assert found[2] == expected[2]


def test_the_least_amount_holds() -> None:
    made = rig()
    out = made.model().quote_in(True, 10**9).amount_out
    assert made.swap(True, 10**9, out + 1).code == 6005
    assert made.holdings() == [RICH, RICH]
    assert made.swap(True, 10**9, out).error is None


@pytest.mark.parametrize(("options", "code"), [({"status": 4}, 6000), ({"opens": 2**40}, 6000)])
def test_closed_pools_trade_nothing(options: dict[str, int], code: int) -> None:
    made = rig()
    [closed, *_] = accounts((10**12, 10**11), **options)
    instruction = made.instruction(True, 1_000)
    made.put(closed)
    assert made.run(instruction).code == code


OTHER = address("other")
HOSTILE = {
    "payer does not sign": (0, Meta(OTHER), 3010),
    "another authority": (1, Meta(OTHER), 2006),
    "another configuration": (2, Meta(address("config-2")), 2012),
    "a pool of nobody": (3, Meta(OTHER, writable=True), 3007),
    "a configuration as the pool": (3, Meta(CONFIG, writable=True), 3002),
    "pool cannot be written": (3, Meta(POOL), 2000),
    "source is no token account": (4, Meta(OTHER, writable=True), 3007),
    "source is another's": (4, Meta(address("victim"), writable=True), 4),
    "destination of another token": (5, Meta(address("wallet-0"), writable=True), None),
    "a vault of our own, filled with air": (6, Meta(address("vault-x"), writable=True), 2003),
    "the same vault twice": (7, Meta(VAULTS[0], writable=True), 2502),
    "no token program": (8, Meta(OTHER), 3008),
    "another mint given": (10, Meta(MINTS[1]), 2012),
    "another mint taken": (11, Meta(MINTS[0]), 2012),
    "another observation": (12, Meta(OTHER, writable=True), 2012),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_accounts_are_refused(case: str) -> None:
    position, meta, code = HOSTILE[case]
    made = rig()
    made.put((address("config-2"), raydium_cpmm.PROGRAM, made.data(CONFIG)))
    made.put(token_account(address("vault-x"), MINTS[0], AUTHORITY, 10**15))
    made.put(owned_by(token_account(address("victim"), MINTS[0], USER, 10**15), OTHER))
    made.tampered[position] = meta
    before = {of: made.data(of) for of in (POOL, *VAULTS, *made.wallets, address("victim"))}
    done = made.swap(True, 10**9)
    assert done.error is not None
    if code is not None:
        assert done.code == code
    assert {of: made.data(of) for of in before} == before
    made.tampered.clear()
    assert made.swap(True, 10**9).error is None


def test_other_instructions_are_refused() -> None:
    made = rig()
    instruction = made.instruction(True, 10**9)
    for data, code in ((b"", 77001), (b"\x01" * 24, 77001), (instruction.data[:16], 102)):
        assert made.run(type(instruction)(instruction.program, instruction.metas, data)).code == code
    short = type(instruction)(instruction.program, instruction.metas[:12], instruction.data)
    assert made.run(short).code == 3005


@pytest.mark.recorded
def test_the_recorded_pool_trades_as_the_core_says(recorded_data: Path) -> None:
    """A real pool of wrapped SOL and a Token-2022 token; its mints were not recorded, and it has long been open."""
    path = recorded_data / "solana/accounts/raydium_cpmm/cpmm_wsol_pump_slot446605268.json"
    recorded = json.loads(path.read_text())
    raws: list[Raw] = [
        (of, row["owner"], base64.b64decode(row["data"]), row["lamports"]) for of, row in recorded["accounts"].items()
    ]
    pool, config, *vaults = ((raw[0], raw[1], raw[2]) for raw in raws)
    assert pool[2][328] == BUMP
    assert {vault[2][32:64] for vault in vaults} == {key(AUTHORITY)}
    mints = raydium_cpmm.mints(pool[2])
    programs = [address_at(pool[2], at) for at in (232, 264)]
    beside = [(mint, program, plain_mint(mint)[2]) for mint, program in zip(mints, programs, strict=True)]
    opened = patched(pool, 373, bytes(8))
    # Of the vaults what stands behind the balance was not recorded: that they are initialized.
    working = [patched(vault, 108, b"\1") for vault in vaults]
    made = Rig(Protocol.RAYDIUM_CPMM, pool[0], [opened, config, *working], beside)
    dice = random.Random(3)
    for _ in range(100):
        assert compare(made, dice.random() < 0.5, dice.randrange(10**3, 10**10)).error is None
