"""Swap instructions against recorded mainnet ones, byte for byte, and derived addresses against recorded account lists.

The pool accounts behind the recorded swaps were not recorded: they are laid out here with the addresses that the
instruction names. A transaction marks an account writable or signing for all of its instructions together, so single
flags of the recordings may say more than the instruction needs; each such place is named.
"""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from markets.solana.snapshot import load_snapshot
from markets.solana.venues import Swap, meteora_dlmm, raydium_amm_v4, raydium_clmm, raydium_cpmm, whirlpool
from markets.solana.venues.shape import TOKEN_PROGRAM, derived, discriminator, key, number_at
from tests.venues.recordings import addresses, flags, inner_instructions, instruction, laid_out

pytestmark = pytest.mark.recorded

USER, SOURCE, DESTINATION = (
    "J6ksVSmKYzHeVT3P4pzkPEDNP56hezuZanhXQ8JNTvS5",
    "mDABzxpxQM4syX3QsuborrVd8v4qnPPSyj14BJuK5X6",
    "C2CejjJ5QXKNf58P2bJzafSAffhRL7iQYeHfKz4HNWwc",
)


def clmm_pool(
    mints: tuple[str, str],
    vaults: tuple[str, str],
    *,
    config: str,
    observation: str,
    spacing: int = 1,
    tick: int = 0,
    arrays: tuple[int, ...] = (),
) -> bytes:
    bitmap = sum(1 << (start // (60 * spacing) + 512) for start in arrays)
    return laid_out(
        1544,
        (0, discriminator("PoolState", "account")),
        (9, config),
        (73, mints[0]),
        (105, mints[1]),
        (137, vaults[0]),
        (169, vaults[1]),
        (201, observation),
        (235, spacing.to_bytes(2, "little")),
        (269, tick.to_bytes(4, "little", signed=True)),
        (904, bitmap.to_bytes(128, "little")),
    )


def clmm_extension(pool: str, arrays: tuple[int, ...], spacing: int = 1) -> bytes:
    """The bitmap of arrays far from price one, written as the program's own tests number its bits."""
    data = bytearray(laid_out(1832, (0, discriminator("TickArrayBitmapExtension", "account")), (8, pool)))
    for start in arrays:
        number = start // (60 * spacing)
        group, bit = (number // 512 - 1, number % 512) if number >= 0 else (-(number + 1) // 512 - 1, number % 512)
        at = (40 if number >= 0 else 40 + 14 * 64) + 64 * group + bit // 8
        data[at] |= 1 << (bit % 8)
    return bytes(data)


def test_every_recorded_tick_array_stands_where_the_venue_derives_it(recorded_data: Path):
    snapshot = recorded_data / "solana/whirlpool_snapshots/whirlpool-snapshot-152927999.csv.gz"
    arrays = [
        (pool.address, number_at(data, 8, "i"), address)
        for pool in load_snapshot(snapshot)
        for address, _, data in pool.accounts[1:]
    ]
    assert len(arrays) == 1395
    assert all(whirlpool.tick_array(pool, start) == address for pool, start, address in arrays)


def test_whirlpool_swap_v2(recorded_data: Path):
    recorded = instruction(recorded_data, "orca-whirlpool/swap_v2")
    named = recorded.labels
    pool, spacing = named["whirlpool"], 8
    data = laid_out(
        653,
        (0, discriminator("Whirlpool", "account")),
        (41, spacing.to_bytes(2, "little")),
        (43, spacing.to_bytes(2, "little")),
        # The array with the current tick starts at 57,024: the recorded arrays are this one and the two below.
        (81, (57_030).to_bytes(4, "little", signed=True)),
        (101, named["tokenMintA"]),
        (133, named["tokenVaultA"]),
        (181, named["tokenMintB"]),
        (213, named["tokenVaultB"]),
    )
    accounts = {pool: (whirlpool.PROGRAM, data)}
    accounts |= {named[mint]: (TOKEN_PROGRAM, bytes(82)) for mint in ("tokenMintA", "tokenMintB")}
    swap = Swap(
        a_to_b=True,
        amount_in=367_897_999,
        min_amount_out=1,
        user=named["tokenAuthority"],
        source=named["tokenOwnerAccountA"],
        destination=named["tokenOwnerAccountB"],
    )
    built = whirlpool.swap_instruction(pool, accounts, swap)
    assert built.program == recorded.program
    assert built.data == recorded.data
    # The program takes the three arrays in any order; the recorded one is the reverse of ours.
    ours, theirs = addresses(built), recorded.addresses
    assert ours[:11] + ours[13:10:-1] + ours[14:] == theirs
    # The recorded authority is a program's address that signs by itself: no signature stands in the transaction.
    assert [flag for at, flag in enumerate(flags(built)) if at != 3] == [
        flag for at, flag in enumerate(recorded.flags) if at != 3
    ]
    assert flags(built)[3] == (True, False)


# Where the arrays of the recorded swaps start, in their order; the first pool holds liquidity over the whole range, and
# its swap names the array of the other direction as well.
RECORDED_ARRAYS = [(10, (-444_000, 443_400)), (1, (-19_020, -18_960, -18_900))]


@pytest.mark.parametrize(("which", "spacing", "starts"), [(at, *arrays) for at, arrays in enumerate(RECORDED_ARRAYS)])
def test_raydium_clmm_swap_v2_in_a_transaction(recorded_data: Path, which: int, spacing: int, starts: tuple[int, ...]):
    accounts_in, data_in = inner_instructions(recorded_data, "swap-a16z-usdt-sol", raydium_clmm.PROGRAM)[which]
    user, config, pool, source, destination, vault_in, vault_out, observation = accounts_in[:8]
    mint_in, mint_out, extension, *arrays = accounts_in[11:]
    assert extension == raydium_clmm.bitmap_extension(pool)
    assert arrays == [raydium_clmm.tick_array(pool, start) for start in starts]
    a_to_b = key(mint_in) < key(mint_out)
    near = tuple(start for start in starts if abs(start) < 512 * 60 * spacing)
    data = clmm_pool(
        (mint_in, mint_out) if a_to_b else (mint_out, mint_in),
        (vault_in, vault_out) if a_to_b else (vault_out, vault_in),
        config=config,
        observation=observation,
        spacing=spacing,
        tick=starts[0] + 1,
        arrays=near,
    )
    far = clmm_extension(pool, tuple(set(starts) - set(near)), spacing)
    accounts = {pool: (raydium_clmm.PROGRAM, data), extension: (raydium_clmm.PROGRAM, far)}
    swap = Swap(
        a_to_b=a_to_b,
        amount_in=int.from_bytes(data_in[8:16], "little"),
        min_amount_out=int.from_bytes(data_in[16:24], "little"),
        user=user,
        source=source,
        destination=destination,
    )
    # A swap upwards that begins between the arrays of the whole range needs the upper one only.
    if which == 0:
        assert not a_to_b
        data = clmm_pool(
            (mint_out, mint_in),
            (vault_out, vault_in),
            config=config,
            observation=observation,
            spacing=10,
            tick=-140_000,
        )
        accounts[pool] = raydium_clmm.PROGRAM, data
        accounts_in.remove(arrays[0])
    built = raydium_clmm.swap_instruction(pool, accounts, swap)
    assert built.data == data_in
    assert addresses(built) == accounts_in


def test_raydium_clmm_swap_v2_over_the_whole_price_range(recorded_data: Path):
    recorded = instruction(recorded_data, "raydium-clmm/swap_v2")
    named = recorded.labels
    pool = named["poolState"]
    mints = named["inputVaultMint"], named["outputVaultMint"]
    assert key(mints[0]) > key(mints[1])  # token 1 is given
    vaults = named["outputVault"], named["inputVault"]
    data = clmm_pool(
        mints[::-1], vaults, config=named["ammConfig"], observation=named["observationState"], tick=-130_000
    )
    extension = raydium_clmm.bitmap_extension(pool)
    # Both arrays lie outside of the pool's own bitmap.
    accounts = {
        pool: (raydium_clmm.PROGRAM, data),
        extension: (raydium_clmm.PROGRAM, clmm_extension(pool, (-443_640, 443_580))),
    }
    swap = Swap(
        a_to_b=False,
        amount_in=int.from_bytes(recorded.data[8:16], "little"),
        min_amount_out=int.from_bytes(recorded.data[16:24], "little"),
        user=named["payer"],
        source=named["inputTokenAccount"],
        destination=named["outputTokenAccount"],
    )
    built = raydium_clmm.swap_instruction(pool, accounts, swap)
    assert addresses(built) == recorded.addresses[:15]
    assert recorded.addresses[15] == raydium_clmm.tick_array(pool, -443_640)  # the array that this direction leaves
    # The recorded swap names the amount out (last byte) and a price limit (16 bytes before it), ours the amount in and
    # no limit; its payer also pays for the transaction, which makes it writable.
    assert built.data[:24] == recorded.data[:24]
    assert built.data[24:] == bytes(16) + b"\x01"
    assert recorded.data[40:] == b"\x00"
    assert flags(built)[1:] == recorded.flags[1:15]
    assert {need.address for need in raydium_clmm.accounts_needed(pool, data, accounts)} >= {
        *recorded.addresses[13:16], named["ammConfig"], named["inputVault"], named["outputVault"], *mints,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arrays"),
    [("swap", (-7, -6, -5)), ("swap2", ()), ("swap_exact_out", (-27, -28)), ("swap_exact_out2", ())],
)
def test_dlmm_addresses(recorded_data: Path, name: str, arrays: tuple[int, ...]):
    recorded = instruction(recorded_data, f"meteora-dlmm/{name}")
    named = recorded.labels
    pool = named["lbPair"]
    assert recorded.program == meteora_dlmm.PROGRAM
    assert derived(meteora_dlmm.PROGRAM, b"oracle", key(pool)) == named["oracle"]
    assert derived(meteora_dlmm.PROGRAM, b"__event_authority") == named["eventAuthority"]
    rest = recorded.addresses[len(named) :]
    bitmap = [meteora_dlmm.bitmap_extension(pool)] if named["binArrayBitmapExtension"] != meteora_dlmm.PROGRAM else []
    assert rest == [meteora_dlmm.bin_array(pool, index) for index in arrays]
    assert not bitmap


def dlmm_pair(named: dict[str, str], active_bin: int, arrays: tuple[int, ...]) -> bytes:
    return laid_out(
        904,
        (0, discriminator("LbPair", "account")),
        (76, active_bin.to_bytes(4, "little", signed=True)),
        (88, named["tokenXMint"]),
        (120, named["tokenYMint"]),
        (152, named["reserveX"]),
        (184, named["reserveY"]),
        (552, named["oracle"]),
        (584, sum(1 << (index + 512) for index in arrays).to_bytes(128, "little")),
    )


def test_dlmm_swap2(recorded_data: Path):
    recorded = instruction(recorded_data, "meteora-dlmm/swap2")
    named = recorded.labels
    pool = named["lbPair"]
    accounts = {pool: (meteora_dlmm.PROGRAM, dlmm_pair(named, 0, ()))}
    accounts |= {named[mint]: (TOKEN_PROGRAM, bytes(82)) for mint in ("tokenXMint", "tokenYMint")}
    swap = Swap(
        a_to_b=True,
        amount_in=217_206_901,
        min_amount_out=0,
        user=named["user"],
        source=named["userTokenIn"],
        destination=named["userTokenOut"],
    )
    built = meteora_dlmm.swap_instruction(pool, accounts, swap)
    assert built.data == recorded.data
    assert addresses(built) == recorded.addresses
    # The recorded user also pays for the transaction, which makes it writable.
    assert [flag for at, flag in enumerate(flags(built)) if at != 10] == [
        flag for at, flag in enumerate(recorded.flags) if at != 10
    ]


def test_dlmm_bin_arrays_follow_the_bitmap(recorded_data: Path):
    recorded = instruction(recorded_data, "meteora-dlmm/swap")
    named = recorded.labels
    pool = named["lbPair"]
    data = dlmm_pair(named, -7 * 70 + 3, (-40, -7, -6, -5, -4, 100))
    accounts = {pool: (meteora_dlmm.PROGRAM, data)}
    accounts |= {named[mint]: (TOKEN_PROGRAM, bytes(82)) for mint in ("tokenXMint", "tokenYMint")}
    up = Swap(False, 60_165_522, 0, named["user"], named["userTokenIn"], named["userTokenOut"])
    built = meteora_dlmm.swap_instruction(pool, accounts, up)
    assert addresses(built)[16:] == recorded.addresses[15:]  # the recorded swap is the older one, without a memo
    assert flags(built)[16:] == recorded.flags[15:]


def test_a_recorded_dlmm_pair(recorded_data: Path):
    path = recorded_data / "solana/carbon/meteora-dlmm/lb_pair_account.json"
    data = base64.b64decode(json.loads(path.read_text())["data"])
    assert meteora_dlmm.mints(data)[1] == "So11111111111111111111111111111111111111112"
    assert meteora_dlmm.unusable(data, 1_750_000_000, 345_000_000) is None
    pool = "FwwjuDSCZGRqB4ngwZd4zqjvLdbykU7PQaFTzocSAxmt"
    needed = meteora_dlmm.accounts_needed(pool, data, {})
    arrays = {need.address: need.may_be_absent for need in needed if need.role == "bin_array"}
    # The active bin -1054 is in array -16, which holds nothing; liquidity lies in -14 and -13.
    assert arrays == {
        meteora_dlmm.bin_array(pool, -16): True,
        meteora_dlmm.bin_array(pool, -14): False,
        meteora_dlmm.bin_array(pool, -13): False,
    }


# Of these two programs pool accounts were recorded, but no swap. The order of accounts, their flags and the data are
# those of the published sources: raydium-io/raydium-amm, program/src/processor.rs (process_swap_base_in_v2) and
# instruction.rs; raydium-io/raydium-cp-swap, programs/cp-swap/src/instructions/swap_base_input.rs.


def test_amm_v4_swap_of_a_recorded_pool(recorded_data: Path):
    path = next((recorded_data / "solana/accounts/raydium_amm_v4").iterdir())
    document = json.loads(path.read_text())
    pool = document["pubkey"]
    swap = Swap(True, 1_000_000_007, 215_000_003, USER, SOURCE, DESTINATION)
    accounts = {pool: (document["owner"], base64.b64decode(document["data"]))}
    built = raydium_amm_v4.swap_instruction(pool, accounts, swap)
    assert built.program == document["owner"]
    # Tag 16, amount in, least amount out.
    assert built.data.hex() == "10" + "07ca9a3b00000000" + "c3a3d00c00000000"
    assert list(zip(addresses(built), flags(built), strict=True)) == [
        (TOKEN_PROGRAM, (False, False)),
        (pool, (False, True)),
        ("5Q544fKrFoe6tsEbD7S8EmxGTJYAKtTVhAW5Q5pge4j1", (False, False)),
        ("DQyrAcCrDXQ7NeoqGgDCZwBvWDcYmFCjSb9JtteuvPpz", (False, True)),
        ("HLmqeL62xR1QoZ1HKKbXRrdN1p3phKpxRMb2VVopvBBz", (False, True)),
        (SOURCE, (False, True)),
        (DESTINATION, (False, True)),
        (USER, (True, False)),
    ]
    # The program tells the direction by the source account's mint: nothing else differs the other way.
    assert raydium_amm_v4.swap_instruction(pool, accounts, replace(swap, a_to_b=False)) == built


def test_cpmm_swap_of_a_recorded_pool(recorded_data: Path):
    path = next((recorded_data / "solana/accounts/raydium_cpmm").iterdir())
    document = json.loads(path.read_text())
    pool = document["pool"]
    accounts = {key_: (one["owner"], base64.b64decode(one["data"])) for key_, one in document["accounts"].items()}
    state = accounts[pool][1]
    mint_0, mint_1 = raydium_cpmm.mints(state)
    vault_0, vault_1 = raydium_cpmm.vaults(state)
    # The vaults and their owners were recorded too: the token programs are those that own them.
    programs = accounts[vault_0][0], accounts[vault_1][0]
    assert {accounts[vault][1][:32] for vault in (vault_0, vault_1)} == {key(mint_0), key(mint_1)}
    built = raydium_cpmm.swap_instruction(pool, accounts, Swap(True, 10**9, 5, USER, SOURCE, DESTINATION))
    # sha256("global:swap_base_input"), amount in, least amount out.
    assert built.data.hex() == "8fbe5adac41e33de" + "00ca9a3b00000000" + "0500000000000000"
    (config,) = [address for address, (owner, data) in accounts.items() if owner == built.program and len(data) == 236]
    observation = derived(built.program, b"observation", key(pool))
    assert list(zip(addresses(built), flags(built), strict=True)) == [
        (USER, (True, False)),
        ("GpMZbSM2GgvTKHJirzeGfMFoaZ8UR2X7F4v8vHTvxFbL", (False, False)),
        (config, (False, False)),
        (pool, (False, True)),
        (SOURCE, (False, True)),
        (DESTINATION, (False, True)),
        (vault_0, (False, True)),
        (vault_1, (False, True)),
        (programs[0], (False, False)),
        (programs[1], (False, False)),
        (mint_0, (False, False)),
        (mint_1, (False, False)),
        (observation, (False, True)),
    ]
    back = addresses(raydium_cpmm.swap_instruction(pool, accounts, Swap(False, 1, 1, USER, SOURCE, DESTINATION)))
    assert back[6:12] == [vault_1, vault_0, *programs[::-1], mint_1, mint_0]
