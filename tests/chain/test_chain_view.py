"""Views: what is told at a commitment, before and after forks."""

from __future__ import annotations

import pytest

from localnet.chain_view import ChainView, account_of

OWNER = "11111111111111111111111111111111"


def views(slots: int) -> ChainView:
    chain = ChainView("views", {"fixed": account_of(OWNER, b"")}, slot=100, block_height=50, blockhash="first")
    for n in range(1, slots + 1):
        written = [("moving", account_of(OWNER, bytes([n])))]
        chain.advance(100 + n, n, written, block_height=50 + n, blockhash=f"hash {n}")
    return chain


def test_commitments_are_slots_back() -> None:
    chain = views(40)
    told = {level: chain.by(level).slot for level in ("processed", "confirmed", "finalized")}
    assert told == {"processed": 140, "confirmed": 139, "finalized": 108}
    assert chain.by("finalized").blockhash == "hash 8"
    assert chain.by("confirmed", behind=10).slot == 129
    assert views(5).by("finalized").slot == 100
    assert views(0).by("confirmed").slot == 100


def test_what_was_final_stays_final_when_blocks_are_taken_back() -> None:
    chain = views(40)
    final = chain.by("finalized")
    assert chain.take_back(30).slot == 110
    assert chain.by("finalized") is final
    assert chain.by("processed").slot == chain.by("confirmed").slot == 110
    with pytest.raises(ValueError, match="final"):
        chain.take_back(3)
    with pytest.raises(ValueError, match="does not come after 140"):
        chain.advance(140, 0, [])
    assert chain.advance(141, 0, [], block_height=61).block_height == 61
    assert chain.by("finalized").slot == 109
    assert chain.newest.accounts["moving"].data == bytes([10])


def test_put_is_as_if_it_had_always_been() -> None:
    chain = views(3)
    before = chain.newest
    chain.put("added", account_of(OWNER, b"x"))
    chain.put("fixed", None)
    assert all("added" in chain.at(n).accounts and "fixed" not in chain.at(n).accounts for n in range(4))
    assert "added" not in before.accounts
    assert chain.newest.blockhash == before.blockhash
