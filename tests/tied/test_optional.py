"""SQLAlchemy is an extra: nobody pays for it who does not use it, and who lacks it is told its name."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_it_is_not_imported_unless_it_is_used() -> None:
    code = "import sys, arq_web.fastapi, arq_web.litestar, arq_web.cli; print('sqlalchemy.orm' in sys.modules)"

    assert run(code).strip() == "False"


@pytest.mark.parametrize(
    "use",
    [
        "import arq_web.outbox",
        "SyncQueue(Hub(url='redis://127.0.0.1:1').queue(), None).after_commit(None)",
    ],
    ids=["outbox", "after_commit"],
)
def test_without_it_the_error_names_the_extra(use: str) -> None:
    code = f"import sys; sys.modules['sqlalchemy'] = None; from arq_web import Hub, SyncQueue; {use}"

    assert "pip install 'arq-web[sqlalchemy]'" in run(code)
