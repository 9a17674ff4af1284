"""Stand-in programs: our own C sources for the offline chain, and what they compile to.

They have the instruction and account layouts of the programs they stand in for, so that a transaction for mainnet runs
here byte for byte. They are not those programs: see docs/stand-in-programs.md for what they leave out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from markets.solana.venues import marinade, raydium_amm_v4, raydium_cpmm, spl_stake_pool, whirlpool

FOLDER = Path(__file__).parent
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "spl_stake_pool": spl_stake_pool.PROGRAMS,
    "marinade": marinade.PROGRAMS,
    "whirlpool": whirlpool.PROGRAMS,
    "raydium_amm_v4": raydium_amm_v4.PROGRAMS,
    "raydium_cpmm": raydium_cpmm.PROGRAMS,
}
"""Names of the sources, and the addresses under which each is loaded."""


def program_files() -> Mapping[str, bytes]:
    """Return the committed programs by the address of the program each stands in for.

    Raises:
        FileNotFoundError: if one was never built: `python -m localnet.programs.build`.
    """
    elves = {name: (FOLDER / f"{name}.so").read_bytes() for name in PROGRAMS}
    return {address: elves[name] for name, addresses in PROGRAMS.items() for address in addresses}
