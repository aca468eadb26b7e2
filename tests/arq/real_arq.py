"""arq 0.28 as it is, in an environment of its own, for it needs another redis-py: ``make real-arq`` makes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENV = "ARQ_WEB_TEST_ARQ"
"""Names the Python of that environment, where it is not beside the one of the tests."""


def find_real_arq() -> Path | None:
    """The Python that has it, or None."""
    named = os.environ.get(ENV)
    places = (
        [Path(named)] if named else [Path(f"{sys.prefix}-arq028/bin/python"), *ROOT.glob(".venv*-arq028/bin/python")]
    )
    return next((place for place in places if place.exists()), None)


def real_arq() -> Path:
    """The Python that has it; skips the test where there is none."""
    found = find_real_arq()
    if found is None:
        pytest.skip(f"no environment with arq 0.28 here: make real-arq, or set {ENV} to its Python")
    return found


def run_real_arq(script: str, folder: Path, *arguments: str) -> str:
    """Run a script with arq's Python, in a project's folder; returns its output."""
    command = [str(real_arq()), "-c", script, *arguments]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
