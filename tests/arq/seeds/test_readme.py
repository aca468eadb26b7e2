"""README.md's table names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_claim_has_a_test_that_exists() -> None:
    """A table of claims without tests would be a claim itself."""
    text = (HERE / "README.md").read_text(encoding="utf-8").partition("## Claims")[2]
    tests = "\n".join(file.read_text(encoding="utf-8") for file in HERE.glob("test_seed_*.py"))
    named = re.findall(r"::(test_\w+)`", text)

    assert len(named) > 30
    assert [name for name in named if f"def {name}(" not in tests] == []
