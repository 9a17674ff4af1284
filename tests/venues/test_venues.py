"""Venue modules on accounts that are laid out here: addresses, reasons, arrays, instructions no recording shows."""

import pytest

from markets.solana.venues import (
    VENUES,
    BadAccount,
    Needed,
    Venue,
    marinade,
    meteora_damm_v2,
    meteora_dlmm,
    raydium_amm_v4,
    raydium_clmm,
    raydium_cpmm,
    spl_stake_pool,
    whirlpool,
)
from markets.solana.venues.bits import mirrored, neighbours
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM, derived, discriminator, key
from markets.tokens import SOL_MINT, USDC_MINT
from tests.venues.recordings import addresses, flags
from tests.venues.samples import (
    CONFIG,
    DESTINATION,
    NOW,
    POOL,
    SLOT,
    SOURCE,
    USER,
    VAULTS,
    WHOLE,
    amm_v4,
    clmm,
    cpmm,
    damm,
    dlmm,
    known,
    marinade_state,
    stake,
    swap,
    u64,
    whirl,
)


def test_the_samples_are_of_all_venues():
    assert [venue for venue, _ in WHOLE] == list(VENUES.values())


MARINADE = "8szGkuLTAux9XMgZ2vtY39jVSowEcpBfFfD8hXSEqdGC"


# Addresses that block explorers name.
@pytest.mark.parametrize(
    ("address", "made"),
    [
        ("5Q544fKrFoe6tsEbD7S8EmxGTJYAKtTVhAW5Q5pge4j1", raydium_amm_v4.authority()),
        ("GpMZbSM2GgvTKHJirzeGfMFoaZ8UR2X7F4v8vHTvxFbL", raydium_cpmm.authority()),
        ("HLnpSz9h2S4hiLQ43rnSD9XkcUThA7B8hQMKmDaiTLcC", meteora_damm_v2.authority()),
        ("UefNb6z6yvArqe4cJHTXCqStRsKmWhGxnZzuHbikP5Q", marinade.sol_leg(MARINADE)),
        ("Du3Ysj1wKbxPKkuPPnvzQLQh8oMSVifs3jGZjJWXFmHN", marinade.reserve(MARINADE)),
    ],
)
def test_addresses_that_are_known(address: str, made: str):
    assert made == address


@pytest.mark.parametrize(("venue", "data"), WHOLE)
def test_a_pool_is_found_by_its_mints_in_either_order_and_by_no_others(venue: Venue, data: bytes):
    mints = venue.mints(data)
    for pair in (mints, mints[::-1]):
        assert sum(filters.matches(data) for filters in venue.discovery_filters(*pair)) == 1
    other = venue.discovery_filters(SOL_MINT, CONFIG)
    assert not any(filters.matches(data) for filters in other)
    for filters in venue.discovery_filters(*mints):
        for one in filters.rpc():
            assert set(one) in ({"dataSize"}, {"memcmp"})


@pytest.mark.parametrize(("venue", "data"), WHOLE)
def test_usable_pools_are_and_what_they_need_has_a_role_and_an_owner(venue: Venue, data: bytes):
    assert venue.unusable(data, NOW, SLOT) is None
    needed = venue.accounts_needed(POOL, data, {})
    assert needed
    assert len({need.address for need in needed}) == len(needed)
    assert all(need.owners and need.address != POOL for need in needed)
    assert {vault for vault in venue.vaults(data) if vault} <= {need.address for need in needed}


@pytest.mark.parametrize(("venue", "data"), WHOLE)
def test_every_swap_names_its_user_once_as_the_only_signer(venue: Venue, data: bytes):
    for a_to_b in (True, False):
        built = venue.swap_instruction(POOL, known(venue, data), swap(a_to_b, 0))
        assert built.program in venue.PROGRAMS
        assert {meta.address for meta in built.metas if meta.signer} == {USER}
        assert POOL in [meta.address for meta in built.metas if meta.writable]
        assert u64(1_000) in built.data


@pytest.mark.parametrize(
    ("venue", "data", "reason"),
    [
        (raydium_amm_v4, amm_v4(status=1), "swap_disabled"),
        (raydium_amm_v4, amm_v4(status=7, open_time=NOW + 1), "not_open"),
        (raydium_amm_v4, amm_v4(status=7, open_time=NOW), None),
        (raydium_amm_v4, amm_v4(supply=0), "no_liquidity"),
        (raydium_cpmm, cpmm(status=4), "swap_disabled"),
        (raydium_cpmm, cpmm(status=3), None),
        (raydium_cpmm, cpmm(open_time=NOW + 1), "not_open"),
        (raydium_cpmm, cpmm(supply=0), "no_liquidity"),
        (raydium_clmm, clmm(status=16), "swap_disabled"),
        (raydium_clmm, clmm(status=15), None),
        (raydium_clmm, clmm(open_time=NOW), "not_open"),
        (raydium_clmm, clmm(open_time=NOW - 1), None),
        (meteora_dlmm, dlmm(status=1), "swap_disabled"),
        (meteora_dlmm, dlmm(kind=1, point=SLOT + 1), "not_open"),
        (meteora_dlmm, dlmm(kind=2, by_time=1, point=NOW + 1), "not_open"),
        (meteora_dlmm, dlmm(kind=0, point=SLOT + 1), None),
        (meteora_damm_v2, damm(status=1), "swap_disabled"),
        (meteora_damm_v2, damm(point=SLOT + 1), "not_open"),
        (meteora_damm_v2, damm(by_time=1, point=NOW + 1), "not_open"),
        (meteora_damm_v2, damm(liquidity=0), "no_liquidity"),
        (spl_stake_pool, stake(lamports=0), "no_liquidity"),
        (spl_stake_pool, stake(epoch=SLOT // 432_000 - 1), None),
        (spl_stake_pool, stake(epoch=SLOT // 432_000 - 3), "expired"),
        (marinade, marinade_state(paused=1), "paused"),
        (marinade, marinade_state(supply=0), "no_liquidity"),
    ],
)
def test_pools_that_cannot_be_used_say_why(venue: Venue, data: bytes, reason: str | None):
    assert venue.unusable(data, NOW, SLOT) == reason


def starts_needed(venue: object, data: bytes, candidates: dict[str, int]) -> list[int]:
    needed: tuple[Needed, ...] = venue.accounts_needed(POOL, data, {})
    return [candidates[need.address] for need in needed if need.role in ("tick_array", "bin_array")]


def test_whirlpool_arrays_follow_the_price_and_end_at_the_last_tick():
    span = 88 * 64
    candidates = {whirlpool.tick_array(POOL, number * span): number for number in range(-80, 80)}
    assert starts_needed(whirlpool, whirl(tick=-1), candidates) == [-4, -3, -2, -1, 0, 1, 2]
    assert starts_needed(whirlpool, whirl(tick=443_636), candidates) == [75, 76, 77, 78]
    assert starts_needed(whirlpool, whirl(tick=-443_636), candidates) == [-79, -78, -77, -76]

    def passed(tick: int, a_to_b: bool) -> list[int]:
        built = whirlpool.swap_instruction(POOL, known(whirlpool, whirl(tick=tick)), swap(a_to_b))
        return [candidates[address] for address in addresses(built)[11:14]]

    assert passed(0, True) == [0, -1, -2]
    assert passed(0, False) == [0, 1, 2]
    # Up from the last slot of an array, the search begins in the next one.
    assert passed(span - 64, False) == [1, 2, 3]
    assert passed(span - 65, False) == [0, 1, 2]
    assert passed(443_600, False) == [78, 78, 78]
    assert passed(-443_600, True) == [-79, -79, -79]


def test_whirlpools_whose_fee_moves_need_their_oracle():
    def oracles(data: bytes) -> list[Needed]:
        return [need for need in whirlpool.accounts_needed(POOL, data, {}) if need.role == "oracle"]

    assert oracles(whirl()) == []
    (oracle,) = oracles(whirl(tier=1024))
    assert oracle.address == whirlpool.oracle(POOL)
    assert not oracle.may_be_absent


def test_clmm_arrays_are_the_initialized_ones_next_to_the_price():
    span = 600
    candidates = {raydium_clmm.tick_array(POOL, number * span): number for number in range(-740, 741)}
    data = clmm(tick=-1, arrays=(-400, -9, -5, -3, -1, 2, 3, 90, 300))
    assert starts_needed(raydium_clmm, data, candidates) == [-5, -3, -1, 2, 3]
    built = raydium_clmm.swap_instruction(POOL, known(raydium_clmm, data), swap(False))
    # Upwards it begins with the current array; without an extension none is passed.
    assert [candidates[address] for address in addresses(built)[13:]] == [-1, 2, 3]


@pytest.mark.parametrize(
    ("number", "group", "bit"),
    [(512, 0, 0), (1023, 0, 511), (-513, 0, 511), (-1024, 0, 0), (-1025, 1, 511), (7393, 13, 225)],
)
def test_clmm_arrays_far_from_price_one_stand_in_the_extension(number: int, group: int, bit: int):
    # Places as in the program's own tests of TickArrayBitmapExtension.
    words = bytearray(1832)
    words[:8] = discriminator("TickArrayBitmapExtension", "account")
    words[(40 if number > 0 else 936) + 64 * group + bit // 8] |= 1 << bit % 8
    data = clmm(tick=number * 60 + 5, spacing=1)
    extension = {raydium_clmm.bitmap_extension(POOL): (raydium_clmm.PROGRAM, bytes(words))}
    needed = raydium_clmm.accounts_needed(POOL, data, extension)
    arrays = [need.address for need in needed if need.role == "tick_array"]
    assert arrays == [raydium_clmm.tick_array(POOL, number * 60)]
    assert not any(need.role == "tick_array" for need in raydium_clmm.accounts_needed(POOL, data, {}))


@pytest.mark.parametrize(
    ("index", "above", "group", "bit"),
    [(512, True, 0, 0), (1030, True, 1, 6), (-513, False, 0, 0), (-1024, False, 0, 511), (-1025, False, 1, 0)],
)
def test_dlmm_arrays_far_from_bin_0_stand_in_the_extension(index: int, above: bool, group: int, bit: int):
    words = bytearray(1576)
    words[:8] = discriminator("BinArrayBitmapExtension", "account")
    words[(40 if above else 808) + 64 * group + bit // 8] |= 1 << bit % 8
    extension = {meteora_dlmm.bitmap_extension(POOL): (meteora_dlmm.PROGRAM, bytes(words))}
    data = dlmm(active=index * 70 + 69)
    built = meteora_dlmm.swap_instruction(POOL, known(meteora_dlmm, data) | extension, swap(True))
    assert addresses(built)[1] == meteora_dlmm.bitmap_extension(POOL)
    assert addresses(built)[16:] == [meteora_dlmm.bin_array(POOL, index)]
    (present,) = [need for need in meteora_dlmm.accounts_needed(POOL, data, extension) if need.role == "bin_array"]
    assert not present.may_be_absent


def test_neighbours_are_the_nearest_set_bits():
    bits = 0b1011_0100
    assert neighbours(bits, 4, 2, downwards=True) == [4, 2]
    assert neighbours(bits, 3, 9, downwards=False) == [4, 5, 7]
    assert neighbours(bits, 8, 9, downwards=False) == []
    assert neighbours(bits, -1, 9, downwards=True) == []
    assert neighbours(bits, -5, 1, downwards=False) == [2]
    assert mirrored(0b0001_0010, 8) == 0b0100_1000


def test_amm_v4_swaps_without_an_order_book():
    built = raydium_amm_v4.swap_instruction(POOL, known(raydium_amm_v4, amm_v4()), swap(True))
    assert built.data == b"\x10" + u64(1_000) + u64(7)
    assert addresses(built) == [TOKEN_PROGRAM, POOL, raydium_amm_v4.authority(), *VAULTS, SOURCE, DESTINATION, USER]
    r, w, s = (False, False), (False, True), (True, False)
    assert flags(built) == [r, w, r, w, w, w, w, s]


def test_cpmm_swaps_name_the_side_given_first():
    built = raydium_cpmm.swap_instruction(POOL, known(raydium_cpmm, cpmm()), swap(False))
    assert built.data == bytes.fromhex("8fbe5adac41e33de") + u64(1_000) + u64(7)
    assert addresses(built) == [
        USER,
        raydium_cpmm.authority(),
        CONFIG,
        POOL,
        SOURCE,
        DESTINATION,
        *VAULTS[::-1],
        TOKEN_2022_PROGRAM,
        TOKEN_PROGRAM,
        USDC_MINT,
        SOL_MINT,
        POOL,
    ]


def test_damm_v2_swaps_without_a_referral():
    built = meteora_damm_v2.swap_instruction(POOL, known(meteora_damm_v2, damm()), swap(True))
    program = meteora_damm_v2.PROGRAM
    assert built.data == bytes.fromhex("f8c69e91e17587c8") + u64(1_000) + u64(7)
    assert addresses(built)[2:9] == [SOURCE, DESTINATION, *VAULTS, SOL_MINT, USDC_MINT, USER]
    assert addresses(built)[11:] == [program, derived(program, b"__event_authority"), program]


def test_stake_pools_enforce_a_minimum_only_where_one_is_asked_for():
    accounts = known(spl_stake_pool, stake())

    def data_of(a_to_b: bool, minimum: int) -> bytes:
        return spl_stake_pool.swap_instruction(POOL, accounts, swap(a_to_b, minimum)).data

    assert data_of(True, 0) == b"\x10" + u64(1_000)
    assert data_of(True, 7) == b"\x1a" + u64(1_000) + u64(7)
    assert data_of(False, 0) == b"\x0e" + u64(1_000)
    assert data_of(False, 7) == b"\x19" + u64(1_000) + u64(7)
    withdrawal = spl_stake_pool.swap_instruction(POOL, accounts, swap(True))
    authority = derived(spl_stake_pool.PROGRAMS[0], key(POOL), b"withdraw")
    assert addresses(withdrawal)[:8] == [POOL, authority, USER, SOURCE, VAULTS[0], USER, VAULTS[1], USDC_MINT]
    deposit = spl_stake_pool.swap_instruction(POOL, accounts, swap(False))
    assert addresses(deposit)[:8] == [POOL, authority, VAULTS[0], USER, DESTINATION, VAULTS[1], VAULTS[1], USDC_MINT]
    assert addresses(deposit)[8:] == [SYSTEM_PROGRAM, TOKEN_PROGRAM]


def test_a_stake_pool_of_another_deployment_is_used_through_its_own_program():
    other = spl_stake_pool.PROGRAMS[1]
    built = spl_stake_pool.swap_instruction(POOL, {POOL: (other, stake())}, swap(True))
    assert built.program == other
    assert addresses(built)[1] == derived(other, key(POOL), b"withdraw")


def test_marinade_cannot_guard_a_cycle():
    accounts = known(marinade, marinade_state())
    with pytest.raises(BadAccount) as caught:
        marinade.swap_instruction(POOL, accounts, swap(True))
    assert caught.value.reason == "minimum_not_enforced"
    unstake = marinade.swap_instruction(POOL, accounts, swap(True, 0))
    assert unstake.data == bytes.fromhex("1e1e77f0bfe30c10") + u64(1_000)
    assert addresses(unstake)[:8] == [POOL, USDC_MINT, marinade.sol_leg(POOL), VAULTS[0], VAULTS[1], SOURCE, USER, USER]
    deposit = marinade.swap_instruction(POOL, accounts, swap(False, 0))
    assert deposit.data == bytes.fromhex("f223c68952e1f2b6") + u64(1_000)
    assert addresses(deposit)[5:8] == [marinade.reserve(POOL), USER, DESTINATION]


def test_an_instruction_is_not_made_from_what_is_not_known():
    for venue, _ in WHOLE:
        with pytest.raises(BadAccount) as caught:
            venue.swap_instruction(POOL, {}, swap(True, 0))
        assert caught.value.reason == "missing_account"
    foreign = known(whirlpool, whirl()) | {SOL_MINT: (SYSTEM_PROGRAM, b"")}
    with pytest.raises(BadAccount, match="not by a token program"):
        whirlpool.swap_instruction(POOL, foreign, swap(True))
