"""The page of promises and the tests that prove them: each names the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, read, section

PAGE = read("explanation/delivery-guarantees.md")
PROMISES = [f"P{number}" for number in range(1, 10)]


def proofs_of(promise: str) -> list[Path]:
    """The test files that the page names for one promise."""
    [heading] = re.findall(rf"^### ({promise} .*)$", PAGE, re.MULTILINE)
    _, _, proven = section(PAGE, heading).partition("**Proven by**")
    return [ROOT / path for path in re.findall(r"`(tests/[^`]+\.py)`", proven)]


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_names_tests_that_exist(promise: str) -> None:
    proofs = proofs_of(promise)

    assert proofs
    assert [path for path in proofs if not path.is_file()] == []


def test_every_chaos_test_of_a_promise_is_in_a_file_that_the_page_names_for_it() -> None:
    """A new kind of fault belongs on the page; P5 and P6 are checked by nearly all of them."""
    missing = set[str]()
    for path in sorted((ROOT / "tests/chaos").glob("test_*.py")):
        for prefix in re.findall(r"def test_((?:p\d_)+)", path.read_text(encoding="utf-8")):
            for promise in re.findall(r"p\d", prefix):
                if path not in proofs_of(promise.upper()):
                    missing.add(f"{promise.upper()}: {path.name}")

    assert not missing
