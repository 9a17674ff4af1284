"""What the pages promise about wallets and live mode."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from markets.solana.wallets.lanes import NoLaneReason
from markets.solana.wallets.sealing import STANDARD
from pipeline.config import load_config
from pipeline.live import MAINNET, check_live

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_configuration_on_the_page_is_enough_with_its_secrets(tmp_path: Path) -> None:
    page = (DOCS / "live.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert tomllib.loads(block)["executor"]["mode"] == "live"
    path = tmp_path / "config.toml"
    path.write_text(block)
    (tmp_path / "endpoints").write_text("https://one.example")
    config = load_config(
        user_file=path,
        environment={
            "PIPELINE_RPC__ENDPOINTS_FILE": str(tmp_path / "endpoints"),
            "PIPELINE_BLOCK_ENGINE__URL": "https://engine.example",
        },
    )
    check_live(config, live=True, workers=config.supervisor.workers)
    assert MAINNET in page


def test_every_refusal_of_a_lane_is_explained() -> None:
    page = (DOCS / "wallets.md").read_text(encoding="utf-8")
    names = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    # Nobody gets as far as a plan without a wallet.
    assert {str(reason) for reason in NoLaneReason} - names == {"no_wallet"}


def test_the_derivation_is_the_one_on_the_page() -> None:
    page = (DOCS / "wallets.md").read_text(encoding="utf-8")
    assert f"({STANDARD.memory_kib >> 10} MiB, {STANDARD.passes} passes, {STANDARD.lanes} lanes" in page
