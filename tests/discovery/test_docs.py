"""The page about discovery names what the code does: every reason, every venue, every instruction's standing."""

import re
from pathlib import Path

from markets.solana.discovery import Limits, questions
from markets.solana.venues import VENUES
from markets.tokens import load_registry

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/discovery.md").read_text(encoding="utf-8")


def test_every_reason_is_on_the_page():
    sources = [ROOT / "markets/solana/discovery.py", *(ROOT / "markets/solana/venues").glob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    found = set(re.findall(r'return "([a-z_]+)"', text)) | set(re.findall(r'"([a-z_]+)" if .*else None', text))
    found |= set(re.findall(r'None if .* else "([a-z_]+)"', text)) | set(re.findall(r'BadAccount\("([a-z_]+)"', text))
    found |= set(re.findall(r'(?:leave_out\(pool, |reason(?:: [^=]*)? = |problem = )"([a-z_]+)"', text))
    # Of instructions, not of pools that are left out.
    found -= {"missing_account", "bad_address"}
    assert found >= {"swap_disabled", "not_open", "expired", "no_liquidity", "too_small", "over_limit", "unknown_pair"}
    assert {reason for reason in found if f"`{reason}`" not in PAGE} == set()


def test_every_venue_is_on_the_page_with_its_programs():
    for venue in VENUES.values():
        for program in venue.PROGRAMS:
            assert program[:6] in PAGE, program
    assert f"{len(questions(load_registry(), Limits()))} calls for the 15 pairs" in PAGE
