"""Recorded vectors: every case comes out exactly, the failing ones with the program's own error."""

from __future__ import annotations

import base64
import gzip
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from markets.solana.pools import Pool, QuoteError
from pipeline.messages import Protocol

from .build import NOW, POOL, VAULT_A, VAULT_B, amm_v4_accounts, token_account, whirlpool_account
from .reference import WHIRLPOOL, amm_v4_in, cpmm_in
from .ticks import MAX_TICK, MIN_TICK, sqrt_price

pytestmark = pytest.mark.recorded


def _case(case: dict[str, Any]) -> tuple[object, ...]:
    """Run one case as its authors do: three tick arrays without ticks, the price limit at their far end."""
    tick, a_to_b = case["currTickIndex"], case["aToB"]
    span = 88 * case["tickSpacing"]
    start = tick // span * span
    limit = start - 2 * span if a_to_b else start + 3 * span - 1
    limit = max(MIN_TICK, min(MAX_TICK, limit))
    data = whirlpool_account(
        spacing=case["tickSpacing"],
        fee_rate=case["feeRate"],
        protocol_rate=case["protocolFeeRate"],
        liquidity=int(case["liquidity"]),
        tick=tick,
    )
    pool = Pool.parse(Protocol.WHIRLPOOL, POOL, [(POOL, WHIRLPOOL, data)], 1, 0, 0)
    try:
        after, quote = pool.swap(a_to_b, int(case["tradeAmount"]), sqrt_price(limit), case["amountIsInput"])
    except QuoteError as error:
        return (error.reason,)
    raw = after.accounts()[0][2]
    amounts = (quote.amount_in, quote.amount_out) if a_to_b else (quote.amount_out, quote.amount_in)
    growth, owed = (165, 85) if a_to_b else (245, 93)

    def wide(source: bytes, at: int) -> int:
        return int.from_bytes(source[at : at + 16], "little")

    return (
        *amounts,
        wide(raw, 49),
        struct.unpack_from("<i", raw, 81)[0],
        wide(raw, 65),
        (wide(raw, growth) - wide(data, growth)) % 2**128,
        struct.unpack_from("<Q", raw, owed)[0] - struct.unpack_from("<Q", data, owed)[0],
    )


def _expected(case: dict[str, Any]) -> tuple[object, ...]:
    expectation = case["expectation"]
    if expectation["exception"]:
        return (re.sub("(?<!^)(?=[A-Z])", "_", expectation["exception"]).lower(),)
    names = ("amountA", "amountB", "nextLiquidity", "nextTickIndex", "nextSqrtPrice", "nextFeeGrowthGlobal")
    return (*(int(expectation[name]) for name in names), int(expectation["nextProtocolFee"]))


def test_every_orca_case(recorded_data: Path) -> None:
    cases = json.loads(gzip.decompress((recorded_data / "solana/vectors/orca_swap_test_cases.json.gz").read_bytes()))
    assert len(cases) == 3_840
    wrong = [case["testId"] for case in cases if _case(case) != _expected(case)]
    assert wrong == []


def test_every_ray_log(recorded_data: Path) -> None:
    logs = json.loads((recorded_data / "solana/vectors/raydium_amm_v4_ray_log.json").read_text())
    assert len(logs) == 6
    for log in logs:
        accounts = amm_v4_accounts(log["pool_coin"] + 5, log["pool_pc"] + 7, owed=(5, 7))
        pool = Pool.parse(Protocol.RAYDIUM_AMM_V4, POOL, accounts, 1, 0, NOW)
        quote = pool.quote_in(log["direction"] == 2, log["amount_in"])
        assert (quote.amount_in, quote.amount_out) == (log["amount_in"], log["out_amount"])


def test_raydium_amm_v4_account(recorded_data: Path) -> None:
    name = "58oQChx4yWmvKdwLLZzBi4ChoCc2fqCUWBkwMihLYQo2"
    recorded = json.loads((recorded_data / f"solana/accounts/raydium_amm_v4/{name}.json").read_text())
    data = base64.b64decode(recorded["data"])
    vaults = [
        token_account(_address(data[336:368]), _address(data[400:432]), 50_000 * 10**9),
        token_account(_address(data[368:400]), _address(data[432:464]), 8_000_000 * 10**6),
    ]
    accounts = [(name, recorded["owner"], data), *vaults]
    pool = Pool.parse(Protocol.RAYDIUM_AMM_V4, name, accounts, recorded["slot"], 0, NOW)
    assert pool.token_a == "So11111111111111111111111111111111111111112"
    assert pool.token_b == "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
    info = pool.info()
    assert (info["fee_numerator"], info["fee_denominator"]) == (25, 10_000)
    coin_owed, pc_owed = struct.unpack_from("<QQ", data, 192)
    assert info["owed"] == (coin_owed, pc_owed)
    given, taken = 50_000 * 10**9 - coin_owed, 8_000_000 * 10**6 - pc_owed
    assert pool.quote_in(True, 10**9).amount_out == amm_v4_in(given, taken, 10**9)


def test_raydium_cpmm_accounts(recorded_data: Path) -> None:
    path = recorded_data / "solana/accounts/raydium_cpmm/cpmm_wsol_pump_slot446605268.json"
    recorded = json.loads(path.read_text())
    accounts = [(key, row["owner"], base64.b64decode(row["data"])) for key, row in recorded["accounts"].items()]
    opens = struct.unpack_from("<Q", accounts[0][2], 373)[0]
    pool = Pool.parse(Protocol.RAYDIUM_CPMM, recorded["pool"], accounts, recorded["slot"], 0, opens)
    # One vault is a Token-2022 account without the extension that a transfer fee would need.
    info = pool.info()
    assert info["transfer_fees"] == (None, None)
    rates = info["trade_fee_rate_e6"], info["protocol_fee_rate_e6"], info["fund_fee_rate_e6"]
    assert rates == (2_500, 120_000, 40_000)
    assert info["creator_fee_rate_e6"] == 0
    by_address = {key: data for key, _, data in accounts}
    data = by_address[recorded["pool"]]
    balances = [struct.unpack_from("<Q", by_address[_address(data[at : at + 32])], 64)[0] for at in (72, 104)]
    owed = [sum(struct.unpack_from("<Q", data, at + 8 * side)[0] for at in (341, 357, 397)) for side in (0, 1)]
    reserves = (balances[0] - owed[0], balances[1] - owed[1])
    assert info["reserves"] == reserves
    for amount in (1_000, 10**6, 10**9, 10**12):
        assert pool.quote_in(True, amount).amount_out == cpmm_in(*reserves, amount, 2_500)
        assert pool.quote_in(False, amount).amount_out == cpmm_in(*reversed(reserves), amount, 2_500)


def test_carbon_whirlpool_account(recorded_data: Path) -> None:
    dump = json.loads((recorded_data / "solana/carbon/orca-whirlpool/whirlpool_account.json").read_text())
    fields = {name: value["data"] for name, value in dump["data_decoded"].items() if "data" in value}
    accounts = [(POOL, dump["owner"], base64.b64decode(dump["data"]))]
    pool = Pool.parse(Protocol.WHIRLPOOL, POOL, accounts, 1, 0, NOW)
    assert (pool.token_a, pool.token_b) == (fields["tokenMintA"], fields["tokenMintB"])
    info = pool.info()
    for ours, theirs in {
        "tick_spacing": "tickSpacing",
        "fee_rate_e6": "feeRate",
        "protocol_fee_rate_bps": "protocolFeeRate",
        "liquidity": "liquidity",
        "sqrt_price": "sqrtPrice",
        "tick": "tickCurrentIndex",
    }.items():
        assert info[ours] == int(fields[theirs])


@pytest.mark.parametrize("name", ["tick_array_account", "dynamic_tick_array_account0"])
def test_carbon_tick_arrays(recorded_data: Path, name: str) -> None:
    dump = json.loads((recorded_data / f"solana/carbon/orca-whirlpool/{name}.json").read_text())
    data = base64.b64decode(dump["data"])
    start = struct.unpack_from("<i", data, 8)[0]
    dynamic = len(data) != 9_988
    owner = _address(data[12:44] if dynamic else data[9_956:])
    # The dump holds no pool: one whose spacing fits the array's start and first tick stands in.
    spacing = 32_896 if start == -2_894_848 else 1
    assert start % (88 * spacing) == 0
    whirlpool = whirlpool_account(spacing=spacing, tick=0)
    accounts = [(owner, WHIRLPOOL, whirlpool), (VAULT_A if dynamic else VAULT_B, dump["owner"], data)]
    if dynamic:
        accounts[1] = ("DynamicArray1111111111111111111111111111111", dump["owner"], data)
    else:
        accounts[1] = ("FixedArray111111111111111111111111111111111", dump["owner"], data)
    ticks = Pool.parse(Protocol.WHIRLPOOL, owner, accounts, 1, 0, NOW).info()["ticks"]
    if "data_decoded" in dump:
        decoded = enumerate(dump["data_decoded"]["ticks"]["data"])
        expected = [(start + spacing * at, int(tick["liquidityNet"])) for at, tick in decoded if tick["initialized"]]
        assert ticks == expected
    assert isinstance(ticks, list)
    assert len(ticks) == 1


def _address(raw: bytes) -> str:
    import base58

    return base58.b58encode(raw).decode()
