"""Pyth's accounts: the recorded ones read as they are, everything else refused with its reason."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.oracle.pyth import (
    DISCRIMINATOR,
    RECEIVER_PROGRAM,
    OracleRefused,
    PriceUpdate,
    feed_name,
    parse_price_update,
)

SOL_FEED = "ef0d8b6fda2ceba41da15d4095d1da392a0d2f8ed0c6c7bc0f4cfac8c280b56d"
USDC_FEED = "eaa020c61cc479712813461ce153894a96a6c00b21ed0cfc2798d1f9a9e9c94a"


def account(
    *,
    feed: str = SOL_FEED,
    price: int = 15_000_000_000,
    confidence: int = 10_000_000,
    exponent: int = -8,
    published_s: int = 1_700_000_000,
    slot: int = 5,
    level: bytes = b"\x01",
) -> bytes:
    message = struct.pack("<32sqQiqqqQ", bytes.fromhex(feed), price, confidence, exponent, published_s, 0, price, 0)
    return DISCRIMINATOR + bytes(32) + level + message + struct.pack("<Q", slot)


def refused(data: bytes, owner: str = RECEIVER_PROGRAM, feed: str = SOL_FEED) -> str:
    with pytest.raises(OracleRefused) as caught:
        parse_price_update(data, owner, feed_id=feed)
    return caught.value.reason


@pytest.mark.recorded
def test_recorded_accounts(recorded_data: Path) -> None:
    folder = recorded_data / "solana" / "accounts" / "pyth"
    sol = parse_price_update((folder / "pyth_push_sol_price.bin").read_bytes(), RECEIVER_PROGRAM, feed_id=SOL_FEED)
    assert sol == PriceUpdate(SOL_FEED, 15_679_769_099, 16_197_271, -8, 1_721_133_402, 277_875_167)
    usdc = parse_price_update((folder / "pyth_push_usdc_price.bin").read_bytes(), RECEIVER_PROGRAM, feed_id=USDC_FEED)
    assert usdc == PriceUpdate(USDC_FEED, 100_004_997, 67_956, -8, 1_747_165_253, 339_807_895)
    assert refused((folder / "legacy_pyth_sol_feed.bin").read_bytes()) == "legacy_account"
    assert refused((folder / "pyth_push_sol_price.bin").read_bytes(), feed=USDC_FEED) == "wrong_feed"


def test_a_made_account_reads_back() -> None:
    update = parse_price_update(account(), RECEIVER_PROGRAM, feed_id="0x" + SOL_FEED.upper())
    assert update == PriceUpdate(SOL_FEED, 15_000_000_000, 10_000_000, -8, 1_700_000_000, 5)


def test_refusals() -> None:
    assert refused(account(), owner="11111111111111111111111111111111") == "wrong_owner"
    assert refused(account(level=b"\x00\x05")) == "partial_verification"
    assert refused(account(level=b"\x02")) == "bad_verification"
    assert refused(b"\x00" * 8 + account()[8:]) == "wrong_discriminator"
    assert refused(account(feed=USDC_FEED)) == "wrong_feed"
    assert refused(account(), feed="ef0d") == "wrong_feed"
    assert refused(account(price=0)) == "bad_price"
    assert refused(account(price=-1)) == "bad_price"
    assert refused(account(exponent=-40)) == "bad_price"
    assert refused(account(exponent=40)) == "bad_price"
    assert refused(account(published_s=0)) == "bad_price"
    assert refused(bytes.fromhex("d4c3b2a1") + bytes(300)) == "legacy_account"
    assert refused(bytes.fromhex("d4c3b2a1")) == "legacy_account"


def test_every_truncation_is_refused() -> None:
    data = account()
    for size in range(len(data)):
        assert refused(data[:size]) in ("wrong_discriminator", "short_data")


@given(st.binary(max_size=200), st.integers(0, 140))
def test_bytes_of_any_kind_are_a_price_or_a_refusal(noise: bytes, at: int) -> None:
    data = account()
    mutated = (data[:at] + noise + data[at + len(noise) :])[: len(data)]
    for candidate in (noise, mutated):
        try:
            update = parse_price_update(candidate, RECEIVER_PROGRAM, feed_id=SOL_FEED)
        except OracleRefused:
            continue
        assert update.price > 0
        assert update.feed_id == SOL_FEED


@pytest.mark.parametrize("name", ["", "zz" * 32, "ab" * 31, "ab" * 33, "0x", "0x" + "ab" * 31])
def test_feed_ids(name: str) -> None:
    with pytest.raises(OracleRefused):
        feed_name(name)
