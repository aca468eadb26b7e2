"""Real pytest processes, as a user starts them: the plugin is found by its entry point."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
SHOP = """
from fastapi import FastAPI

from arq_web import task
from arq_web.fastapi import ArqWeb, Queue


@task(max_tries=2)
async def send_welcome(user_id: int) -> str:
    {body}


app = FastAPI()
ArqWeb(app, tasks=[send_welcome])


@app.post("/signup/{{user_id}}")
async def signup(user_id: int, queue: Queue) -> dict[str, bool]:
    job = await queue.enqueue(send_welcome, user_id)
    return {{"created": job.created}}
"""
FINE = 'return f"welcome {user_id}"'
BROKEN = 'raise ValueError(f"user {user_id} has no address")'


@dataclass(frozen=True)
class Run:
    """What pytest printed."""

    code: int
    text: str

    def outcomes(self) -> dict[str, int]:
        """Of its last line: ``1 failed, 2 passed``."""
        last = self.text.strip().splitlines()[-1]
        return {
            word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|errors?|skipped|warnings?)", last)
        }


def run_pytest(
    folder: Path, tests: str, *options: str, body: str = FINE, ini: str = "arq_web_app = shop:app", **environ: str
) -> Run:
    """Run ``tests`` beside an app whose one task has this ``body``."""
    (folder / "shop.py").write_text(SHOP.format(body=body))
    (folder / "test_shop.py").write_text(dedent(tests))
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = .\nfilterwarnings = error\nanyio_mode = auto\n{ini}\n")
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("ARQ_WEB", "REDIS", "PYTEST"))
    }
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis", *options],
        cwd=folder,
        check=False,
        env={**inherited, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    return Run(ran.returncode, ran.stdout)
