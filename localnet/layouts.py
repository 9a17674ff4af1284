"""Account bytes as the real programs lay them out, for accounts that exist in the simulation only."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import base58

from markets.tokens import SOL_MINT

TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
WHIRLPOOL_PROGRAM = "whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc"
AMM_V4_PROGRAM = "675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8"
CPMM_PROGRAM = "CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C"

TICKS_PER_ARRAY = 88
TICK_ARRAY_SIZE = 9988
_WHIRLPOOL = bytes([63, 149, 209, 12, 225, 128, 99, 9])
_TICK_ARRAY = bytes([69, 97, 189, 190, 110, 7, 66, 187])
_CPMM_POOL = bytes([247, 237, 227, 245, 215, 195, 222, 70])
_CPMM_CONFIG = bytes([218, 244, 33, 104, 203, 203, 43, 111])
_ALPHABET = base58.BITCOIN_ALPHABET.decode()
_AMM_V4_SWAP_ONLY = 6
# Bumps of the programs' own authorities, which they sign for the vaults with.
_AMM_V4_NONCE, _CPMM_BUMP = 254, 253
_MINT_SIZE, _TOKEN_SIZE, _OBSERVATION_SIZE = 82, 165, 4_075
_NATIVE_RENT = 2_039_280
_OBSERVATION = bytes([122, 174, 197, 53, 129, 9, 165, 132])

Account = tuple[str, str, bytes]
"""(address, owner, data): one account, as the chain holds it."""


def simulated_address(*parts: str | int) -> str:
    """Return an address that nobody holds: it begins with "Sim", the rest is a hash of a label, the same every time."""
    label = "/".join(map(str, parts))
    number = int.from_bytes(blake2b(label.encode(), digest_size=32).digest())
    digits = []
    # 43 digits that begin with "S" always are 32 bytes.
    for _ in range(40):
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    return "Sim" + "".join(digits)


def key(address: str) -> bytes:
    """Return an address as its 32 bytes."""
    raw: bytes = base58.b58decode(address)
    assert len(raw) == 32, address
    return raw


def token_account(address: str, mint: str, owner: str, amount: int) -> Account:
    """Return an SPL token account, initialized, with no delegate; one of wrapped SOL is a native account."""
    data = bytearray(_TOKEN_SIZE)
    data[0:32] = key(mint)
    data[32:64] = key(owner)
    struct.pack_into("<Q", data, 64, amount)
    data[108] = 1
    if mint == SOL_MINT:
        struct.pack_into("<IQ", data, 109, 1, _NATIVE_RENT)
    return address, TOKEN_PROGRAM, bytes(data)


def token_lamports(data: bytes) -> int | None:
    """Return the lamports that a token account must hold; None where rent alone decides."""
    return _NATIVE_RENT + token_amount(data) if len(data) == _TOKEN_SIZE and data[109] else None


def token_mint(address: str, decimals: int, supply: int, authority: str | None) -> Account:
    """Return an SPL mint that nobody can freeze; without an authority nothing more is minted."""
    data = bytearray(_MINT_SIZE)
    if authority is not None:
        struct.pack_into("<I", data, 0, 1)
        data[4:36] = key(authority)
    struct.pack_into("<QBB", data, 36, supply, decimals, 1)
    return address, TOKEN_PROGRAM, bytes(data)


def token_amount(data: bytes) -> int:
    """Return the balance of an SPL token account."""
    amount: int = struct.unpack_from("<Q", data, 64)[0]
    return amount


def lookup_table(authority: str, extended: int, addresses: Sequence[str]) -> bytes:
    """Return the data of an address lookup table that was last extended, and all at once, in a slot."""
    # State, never deactivated, extended in the slot from position 0 on, the authority, padding: 56 bytes.
    meta = struct.pack("<IQQBB", 1, 2**64 - 1, extended, 0, 1) + key(authority) + bytes(2)
    return meta + b"".join(map(key, addresses))


@dataclass(frozen=True, slots=True)
class WhirlpoolShape:
    """What a simulated Whirlpool is made of."""

    address: str
    config: str
    bump: int
    """Of the address, which the program derives from configuration, mints and tick spacing."""
    mint_a: str
    mint_b: str
    vault_a: str
    vault_b: str
    tick_spacing: int
    fee_rate: int
    """Hundredths of a basis point."""
    protocol_fee_rate: int
    """Share of the fee that goes to the protocol, basis points."""
    sqrt_price: int
    tick: int
    liquidity: int


def whirlpool(shape: WhirlpoolShape) -> Account:
    """Return a Whirlpool account."""
    data = bytearray(653)
    data[0:8] = _WHIRLPOOL
    data[8:40] = key(shape.config)
    data[40] = shape.bump
    struct.pack_into("<HHHH", data, 41, shape.tick_spacing, shape.tick_spacing, shape.fee_rate, shape.protocol_fee_rate)
    data[49:65] = shape.liquidity.to_bytes(16, "little")
    data[65:81] = shape.sqrt_price.to_bytes(16, "little")
    struct.pack_into("<i", data, 81, shape.tick)
    data[101:133] = key(shape.mint_a)
    data[133:165] = key(shape.vault_a)
    data[181:213] = key(shape.mint_b)
    data[213:245] = key(shape.vault_b)
    return shape.address, WHIRLPOOL_PROGRAM, bytes(data)


def tick_array(address: str, pool: str, start: int, spacing: int, ticks: Mapping[int, tuple[int, int]]) -> Account:
    """Return a tick array; `ticks` are those that a position touches: (liquidity net, liquidity gross)."""
    data = bytearray(TICK_ARRAY_SIZE)
    data[0:8] = _TICK_ARRAY
    struct.pack_into("<i", data, 8, start)
    for tick, (net, gross) in ticks.items():
        offset, rest = divmod(tick - start, spacing)
        assert rest == 0, (tick, start, spacing)
        assert 0 <= offset < TICKS_PER_ARRAY, (tick, start, spacing)
        at = 12 + 113 * offset
        data[at] = 1
        data[at + 1 : at + 17] = net.to_bytes(16, "little", signed=True)
        data[at + 17 : at + 33] = gross.to_bytes(16, "little")
    data[9956:9988] = key(pool)
    return address, WHIRLPOOL_PROGRAM, bytes(data)


def amm_v4(
    address: str, mints: Sequence[str], vaults: Sequence[str], decimals: Sequence[int], lp_supply: int
) -> Account:
    """Return a Raydium AMM v4 account that only swaps: no order book, nothing of its reserves owed to anybody."""
    data = bytearray(752)
    struct.pack_into("<QQQQQQ", data, 0, _AMM_V4_SWAP_ONLY, _AMM_V4_NONCE, 7, 3, *decimals)
    struct.pack_into("<Q", data, 120, 1_000_000_000)
    # min separate, trade fee, pnl, swap fee: numerator and denominator each, as the mainnet pools have them.
    struct.pack_into("<QQQQQQQQ", data, 128, 5, 10_000, 25, 10_000, 12, 100, 25, 10_000)
    for at, address_ in (
        (336, vaults[0]),
        (368, vaults[1]),
        (400, mints[0]),
        (432, mints[1]),
        (464, simulated_address(address, "lp")),
        (496, simulated_address(address, "open-orders")),
        (528, simulated_address(address, "market")),
        (560, simulated_address("market-program")),
        (592, simulated_address(address, "target-orders")),
        (688, simulated_address("amm-owner")),
    ):
        data[at : at + 32] = key(address_)
    struct.pack_into("<Q", data, 720, lp_supply)
    return address, AMM_V4_PROGRAM, bytes(data)


def cpmm_config(address: str, trade_fee_rate: int) -> Account:
    """Return a Raydium CPMM configuration; the rates are millionths."""
    data = bytearray(236)
    data[0:8] = _CPMM_CONFIG
    data[8] = 255
    struct.pack_into("<QQQQ", data, 12, trade_fee_rate, 120_000, 40_000, 150_000_000)
    data[44:76] = data[76:108] = key(simulated_address("cpmm-owner"))
    return address, CPMM_PROGRAM, bytes(data)


def cpmm_observation_address(pool: str) -> str:
    """Return where a simulated Raydium CPMM pool keeps its past prices."""
    return simulated_address(pool, "observation")


def cpmm_observation(pool: str) -> Account:
    """Return the past prices of a Raydium CPMM pool: initialized, none yet."""
    data = bytearray(_OBSERVATION_SIZE)
    data[0:8] = _OBSERVATION
    data[8] = 1
    data[11:43] = key(pool)
    return cpmm_observation_address(pool), CPMM_PROGRAM, bytes(data)


def cpmm(
    address: str, mints: Sequence[str], vaults: Sequence[str], decimals: Sequence[int], *, lp_supply: int, config: str
) -> Account:
    """Return a Raydium CPMM pool account with nothing of its vaults owed to anybody."""
    data = bytearray(637)
    data[0:8] = _CPMM_POOL
    for at, address_ in (
        (8, config),
        (40, simulated_address("pool-creator")),
        (72, vaults[0]),
        (104, vaults[1]),
        (136, simulated_address(address, "lp")),
        (168, mints[0]),
        (200, mints[1]),
        (232, TOKEN_PROGRAM),
        (264, TOKEN_PROGRAM),
        (296, cpmm_observation_address(address)),
    ):
        data[at : at + 32] = key(address_)
    data[328:333] = bytes([_CPMM_BUMP, 0, 9, decimals[0], decimals[1]])
    struct.pack_into("<Q", data, 333, lp_supply)
    return address, CPMM_PROGRAM, bytes(data)
