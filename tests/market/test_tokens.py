import json
from pathlib import Path
from typing import Any

import pytest

from markets.tokens import SOL_MINT, TOKEN_FILE, USDC_MINT, TokenFileError, load_registry

PAIRS = [
    *("JitoSOL", "JupSOL", "mSOL", "hyloSOL", "bbSOL", "bonkSOL", "dSOL", "sSOL"),
    *("stSOL", "BNSOL", "mpSOL", "BGSOL", "bSOL", "INF", "USDC"),
]


def token(symbol: str = "SOL", **changes: Any) -> dict[str, Any]:
    mint = SOL_MINT if symbol == "SOL" else USDC_MINT
    return {"symbol": symbol, "name": symbol, "mint": mint, "decimals": 9, "kind": "native", "verified": True} | changes


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "tokens.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_the_shipped_file_lists_sixteen_pairs_and_leaves_out_sol_against_itself():
    listed = json.loads(TOKEN_FILE.read_text())["pairs"]
    registry = load_registry()
    assert len(listed) == 16
    assert listed[14] == ["SOL", "SOL"]
    assert registry.left_out == ("SOL/SOL",)
    assert [pair.name for pair in registry.pairs] == [f"SOL/{symbol}" for symbol in PAIRS]


def test_every_shipped_mint_is_an_address_and_none_is_unverified_in_silence():
    for entry in load_registry().tokens:
        assert entry.verified or entry.note, entry.symbol
        assert entry.decimals == (6 if entry.symbol == "USDC" else 9)


def test_a_pair_is_found_whatever_the_order_and_an_unknown_mint_is_its_own_symbol():
    registry = load_registry()
    jito = registry.by_symbol["JitoSOL"].mint
    assert registry.pair(jito, SOL_MINT) is registry.pair(SOL_MINT, jito)
    assert registry.pair_name(USDC_MINT, SOL_MINT) == "SOL/USDC"
    stranger = "58oQChx4yWmvKdwLLZzBi4ChoCc2fqCUWBkwMihLYQo2"
    assert registry.symbol(stranger) == stranger
    assert registry.pair(stranger, SOL_MINT) is None
    assert registry.pair_name(stranger, SOL_MINT) == registry.pair_name(SOL_MINT, stranger) == f"{stranger}/SOL"
    assert registry.mint("USDC") == USDC_MINT
    assert registry.mint(stranger) == stranger
    with pytest.raises(TokenFileError, match="neither a known symbol"):
        registry.mint("DOGE")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not JSON"),
        ([], "must be an object"),
        ({"tokens": []}, "must be an object with the lists"),
        ({"tokens": [3], "pairs": []}, r"tokens\[0\]: must be an object"),
        ({"tokens": [token(extra=1)], "pairs": []}, "unknown key 'extra'"),
        ({"tokens": [token(mint="0OIl")], "pairs": []}, "not base58"),
        ({"tokens": [token(mint="abc")], "pairs": []}, "bytes in base58, not 32"),
        ({"tokens": [token(decimals=-1)], "pairs": []}, "from 0 to 18"),
        ({"tokens": [token(decimals=True)], "pairs": []}, "from 0 to 18"),
        ({"tokens": [token(kind="meme")], "pairs": []}, "'kind' must be one of native"),
        ({"tokens": [token(verified="yes")], "pairs": []}, "must be true or false"),
        ({"tokens": [token(), token()], "pairs": []}, "listed twice"),
        ({"tokens": [token(), token("X", mint=SOL_MINT)], "pairs": []}, "X has the mint of SOL"),
        ({"tokens": [token()], "pairs": [["SOL"]]}, "must be two symbols"),
        ({"tokens": [token()], "pairs": [["SOL", "USDC"]]}, "unknown symbol 'USDC'"),
        ({"tokens": [token(), token("USDC")], "pairs": [["SOL", "USDC"], ["USDC", "SOL"]]}, "listed twice"),
    ],
)
def test_a_wrong_file_is_refused_with_the_entry(tmp_path: Path, document: object, message: str):
    with pytest.raises(TokenFileError, match=message):
        load_registry(written(tmp_path, document))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(TokenFileError, match="no such file"):
        load_registry(tmp_path / "none.json")
