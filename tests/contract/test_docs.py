"""The contract's page: its code runs, its figures are the code's."""

import re
from pathlib import Path

from pipeline.messages import MAX_MESSAGE_BYTES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "contract.md").read_text()


def test_its_code_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/contract.md", "exec"), {})


def test_its_limits_are_the_codecs() -> None:
    verify = (Path(__file__).resolve().parents[2] / "core" / "src" / "codec" / "verify.rs").read_text()
    assert f"{MAX_MESSAGE_BYTES >> 20} MiB per message, 16,384 tables, 16 levels" in PAGE
    assert "MAX_TABLES: u32 = 16_384" in verify
    assert "MAX_DEPTH: u32 = 16;" in verify
    assert "SHARED_BYTES: usize = 64 << 10" in verify
    assert "pass the buffer's length by 64 KiB" in PAGE
