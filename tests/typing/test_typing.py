"""The public API's types, held against both checkers: right calls pass, wrong calls do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.timeout(180)
def test_mypy_accepts_the_right_calls_and_refuses_each_wrong_one() -> None:
    """An ignore that suppresses nothing is an error under --strict: so each wrong call must be one."""
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(HERE / "enqueue_calls.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.timeout(180)
def test_pyright_accepts_the_right_calls_and_refuses_each_wrong_one() -> None:
    """The same with pyright, which does not look at mypy's comments here (pyrightconfig.json)."""
    checked = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", str(HERE / "pyrightconfig.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
