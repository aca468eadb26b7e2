"""How-to "Turn a slow route into a job": what is pasted from the page does what the page shows, in both frameworks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.docs.apps import app_on
from tests.docs.examples import slow_before_fastapi, slow_before_litestar, whose_fastapi, whose_litestar
from tests.docs.pages import DOCS, ROOT, code_blocks
from tests.support.ports import free_port
from tests.support.waiting import wait_until

PAGE = DOCS / "how-to" / "turn-a-slow-route-into-a-job.md"
BASE = "http://127.0.0.1:8000"
ANN, BEN = {"X-Key": "key-of-ann"}, {"X-Key": "key-of-ben"}


@dataclass
class Step:
    """One command of the page, and what the page shows under it."""

    command: str
    shown: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        return next((line for line in self.shown if line.startswith("HTTP/")), "")

    @property
    def headers(self) -> dict[str, str]:
        head = "\n".join(self.shown).partition("\n\n")[0] if self.status else ""
        return dict(re.findall(r"^([a-z-]+): (.*)$", head, re.MULTILINE))

    @property
    def names(self) -> set[str]:
        """The names of fields that are shown in a body."""
        return names_in("\n".join(self.shown))

    @property
    def events(self) -> list[str]:
        return re.findall(r"^event: (\w+)$", "\n".join(self.shown), re.MULTILINE)


def steps() -> list[Step]:
    found: list[Step] = []
    for block in code_blocks(PAGE):
        if block.language == "console":
            for line in block.text.splitlines():
                if line.startswith("$ "):
                    found.append(Step(line[2:]))
                else:
                    found[-1].shown.append(line)
    return [step for step in found if step.command.startswith(("curl", "export"))]


@pytest.fixture(params=["fastapi", "litestar"])
def base_url(request: pytest.FixtureRequest, redis_url: str, namespace: str) -> Iterator[str]:
    """The page's app under uvicorn, with the worker that a developer gets."""
    port = free_port()
    environ = {
        **os.environ,
        "REDIS_URL": redis_url,
        "ARQ_WEB_NAMESPACE": namespace,
        "ARQ_WEB_EMBEDDED": "always",
        "ARQ_WEB_DEV": "0",
    }
    command = [sys.executable, "-m", "uvicorn", f"tests.docs.examples.slow_{request.param}:app", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands are curl's")
@pytest.mark.timeout(120)
async def test_the_session_of_the_page(base_url: str) -> None:
    """Command by command, as a newcomer pastes them."""
    await wait_until(lambda: is_up(base_url), timeout_s=30, description="the app answers")
    terminal = Terminal(base_url)
    pasted = [step for step in steps() if not step.command.startswith("export")]  # that is `terminal.job_url`

    for step in pasted:
        assert_as_shown(step, await terminal.paste(step))

    assert len(pasted) >= 9


@dataclass
class Terminal:
    """A shell in which the page's lines are pasted."""

    base_url: str
    job_url: str = ""
    answer: str = ""

    async def paste(self, step: Step) -> str:
        """Run a line; what it prints."""
        if step.command.endswith("/cancel"):
            await wait_until(lambda: state_of(self.job_url) == "running", description="the job runs")
        self.run(step.command)
        if step.command == "curl $JOB":  # a person needs longer than this: there is no progress yet
            shows_all = f"{step.command} shows {step.names}"
            await wait_until(lambda: step.names <= names_in(self.run(step.command)), description=shows_all)
        if found := re.search(r'"id":"([0-9a-f]{32})"', self.answer):
            self.job_url = f"{self.base_url}/jobs/{found[1]}"
        return self.answer

    def run(self, command: str) -> str:
        line = command.replace(BASE, self.base_url).replace("curl", "curl -s", 1)
        environ = {**os.environ, "JOB": self.job_url}
        ran = subprocess.run(["bash", "-c", line], env=environ, capture_output=True, text=True, check=True)
        self.answer = ran.stdout
        return self.answer


def assert_as_shown(step: Step, answer: str) -> None:
    assert answer.startswith(step.status), answer
    assert step.names <= names_in(answer), answer
    said = dict(re.findall(r"^([a-z-]+): (.*?)\r?$", answer.lower(), re.MULTILINE))
    assert step.headers.keys() <= said.keys(), answer
    for name, shown in step.headers.items():
        assert without_id(said[name]) == without_id(shown.lower()), name
    assert set(step.events) <= set(re.findall(r"^event: (\w+)\r?$", answer, re.MULTILINE))
    whole = [line for line in step.shown if line.startswith("{") and "…" not in line and '"id"' not in line]
    assert all(json.loads(line) == json.loads(answer.rstrip().splitlines()[-1]) for line in whole)


@pytest.mark.parametrize("app", [slow_before_fastapi.app, slow_before_litestar.app], ids=["fastapi", "litestar"])
async def test_the_slow_route_answers_what_the_result_is(app: Any) -> None:
    """Before and after are the same to a client that waits."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        refused = await client.post("/reports/2027-01")
        made = await client.post("/reports/2026-11")

    assert (refused.status_code, refused.json()["detail"]) == (404, "nothing was sold yet")
    assert (made.status_code, made.json()) == (200, {"month": "2026-11", "orders": 42})


@pytest.mark.parametrize("app", [whose_fastapi.app, whose_litestar.app], ids=["fastapi", "litestar"])
async def test_a_job_is_its_owners(redis_url: str, namespace: str, app: Any) -> None:
    """Listed for her, unknown to him, and closed to those without a key."""
    async with app_on(app, redis_url, namespace) as (hub, client):
        posted = await client.post("/reports/2026-11", headers=ANN)
        url = posted.headers["location"]
        await hub.worker(burst=True).run()

        looks = [await client.get(url, headers=headers) for headers in (ANN, BEN, {})]
        lists = [(await client.get("/jobs?state=succeeded", headers=headers)).json()["jobs"] for headers in (ANN, BEN)]
        deleted = await client.delete(url, headers=ANN)
        gone = await client.get(url, headers=ANN)

    assert [look.status_code for look in looks] == [200, 404, 401]
    assert looks[0].json()["result"] == "the report of 2026-11 for ann"
    assert [len(each) for each in lists] == [1, 0]
    assert (deleted.status_code, gone.status_code) == (204, 404)


def names_in(answer: str) -> set[str]:
    return set(re.findall(r'"(\w+)":', answer))


def without_id(text: str) -> str:
    return re.sub(r"[0-9a-f]{32}", "ID", text)


def state_of(job_url: str) -> str:
    return str(httpx.get(job_url).json()["state"])


def is_up(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/jobs/none").status_code == 404
    except httpx.TransportError:
        return False
