"""Recorded pools: what a venue says they need is what `Pool.parse` wants, and it finds them again by their mints."""

import base64
import json
from pathlib import Path

import pytest

from markets.solana.pools import Pool, PoolRefused
from markets.solana.snapshot import load_snapshot
from markets.solana.venues import VENUES, Accounts, BadAccount, Venue, raydium_amm_v4, raydium_cpmm, whirlpool
from pipeline.messages import Protocol
from tests.venues.recordings import router_accounts

pytestmark = pytest.mark.recorded


def parse(venue: Venue, address: str, known: dict[str, tuple[str, bytes, int]], slot: int, unix_time: int) -> Pool:
    """Parse from the pool and what the venue says it needs, and from nothing else that is known."""
    plain: Accounts = {key: (owner, data) for key, (owner, data, _) in known.items()}
    needed = venue.accounts_needed(address, plain[address][1], plain)
    assert len({need.address for need in needed}) == len(needed)
    for need in needed:
        assert need.address not in known or known[need.address][0] in need.owners, need
    given = [address, *(need.address for need in needed)]
    accounts = [(key, *known[key]) for key in given if key in known]
    return Pool.parse(int(venue.PROTOCOL), address, accounts, slot, 0, unix_time)


def is_found(venue: Venue, data: bytes) -> bool:
    """Tell whether exactly one of the questions for its mints finds a pool, whatever their order."""
    a, b = venue.mints(data)
    return all(
        sum(filters.matches(data) for filters in venue.discovery_filters(*mints)) == 1 for mints in ((a, b), (b, a))
    )


def test_every_venue_is_in_the_registry_by_its_number():
    assert all(venue.PROTOCOL is protocol for protocol, venue in VENUES.items())
    assert set(VENUES) == set(Protocol) - {Protocol.UNKNOWN}


def test_whirlpools(recorded_data: Path):
    path = recorded_data / "solana/whirlpool_snapshots/whirlpool-snapshot-152927999.csv.gz"
    quoted = 0
    for recorded in load_snapshot(path):
        known = {key: (owner, data, 0) for key, owner, data in recorded.accounts}
        data = known[recorded.address][1]
        assert is_found(whirlpool, data)
        assert whirlpool.unusable(data, 1_664_000_000, recorded.slot) is None
        try:
            whole = Pool.parse(int(Protocol.WHIRLPOOL), recorded.address, recorded.accounts, 1, 0, 0)
        except PoolRefused:
            continue
        pool = parse(whirlpool, recorded.address, known, 1, 0)
        for a_to_b in (True, False):
            for amount in (10**6, 10**9, 10**12):
                assert outcome(pool, a_to_b, amount) == outcome(whole, a_to_b, amount)
                quoted += not isinstance(outcome(pool, a_to_b, amount), str)
    assert quoted > 100


def outcome(pool: Pool, a_to_b: bool, amount: int) -> int | str:
    try:
        return pool.quote_in(a_to_b, amount).amount_out
    except ValueError as error:
        return str(error.reason)


def test_raydium_amm_v4(recorded_data: Path):
    path = next((recorded_data / "solana/accounts/raydium_amm_v4").iterdir())
    document = json.loads(path.read_text())
    address, data = document["pubkey"], base64.b64decode(document["data"])
    assert is_found(raydium_amm_v4, data)
    assert raydium_amm_v4.unusable(data, 1_790_000_000) is None
    needed = raydium_amm_v4.accounts_needed(address, data, {})
    # Both vaults, as they are known of this pool: https://solscan.io names them.
    assert [need.address for need in needed] == [
        "DQyrAcCrDXQ7NeoqGgDCZwBvWDcYmFCjSb9JtteuvPpz",
        "HLmqeL62xR1QoZ1HKKbXRrdN1p3phKpxRMb2VVopvBBz",
    ]
    with pytest.raises(PoolRefused, match="vault"):
        Pool.parse(2, address, [(address, document["owner"], data)], 1, 0, 1_790_000_000)


def test_raydium_cpmm(recorded_data: Path):
    path = next((recorded_data / "solana/accounts/raydium_cpmm").iterdir())
    document = json.loads(path.read_text())
    known = {
        key: (one["owner"], base64.b64decode(one["data"]), one["lamports"]) for key, one in document["accounts"].items()
    }
    data = known[document["pool"]][1]
    assert is_found(raydium_cpmm, data)
    assert raydium_cpmm.unusable(data, 1_790_000_000) is None
    pool = parse(raydium_cpmm, document["pool"], known, document["slot"], 1_790_000_000)
    assert pool.quote_in(True, 10**9).amount_out > 0


@pytest.mark.parametrize(
    ("state", "protocol"),
    [
        ("bsol-stake-pool", Protocol.SPL_STAKE_POOL),
        ("picosol-stake-pool", Protocol.SPL_STAKE_POOL),
        ("marinade-state", Protocol.MARINADE),
    ],
)
def test_stake_pools(recorded_data: Path, state: str, protocol: Protocol):
    venue = VENUES[protocol]
    names, known = router_accounts(recorded_data)
    address = names[state]
    owner, data, _ = known[address]
    assert owner in venue.PROGRAMS
    assert is_found(venue, data)
    assert venue.unusable(data, 1_750_000_000, 802 * 432_000) in (None, "expired")
    assert venue.mints(data)[1] == "So11111111111111111111111111111111111111112"
    needed = venue.accounts_needed(address, data, {})
    named = {names[name] for name in names}
    # The liquidity pool's SOL and the token accounts of managers are not all among the recorded accounts.
    present = [need for need in needed if need.address in named]
    assert {need.role for need in present} >= {"mint"}
    assert all(known[need.address][0] in need.owners for need in present)


def test_accounts_that_are_no_pools_are_refused():
    for venue in VENUES.values():
        for data in (b"", bytes(8), bytes(2000)):
            with pytest.raises(BadAccount) as caught:
                venue.mints(data)
            assert caught.value.reason in ("wrong_discriminator", "short_data"), venue
