"""README's apps run as they are printed: enqueue over HTTP, work, see the result."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from arq_web import Hub
from tests.docs.pages import ROOT, code_blocks

APPS = {
    block.text.splitlines()[0]: block.text for block in code_blocks(ROOT / "README.md") if block.language == "python"
}


@pytest.fixture(params=["# main.py, FastAPI", "# main.py, Litestar"])
def app(
    request: pytest.FixtureRequest, redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The app of README, in a file of its own, on this test's Redis."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("ARQ_WEB_NAMESPACE", namespace)
    file = tmp_path / "main.py"
    file.write_text(APPS[request.param], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("readme_main", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "readme_main", module)
    spec.loader.exec_module(module)
    return module.app


def test_there_is_an_app_for_each_framework() -> None:
    """And nothing else that is Python."""
    assert sorted(APPS) == ["# main.py, FastAPI", "# main.py, Litestar"]


async def test_the_apps_of_the_readme_run(app: Any) -> None:
    """What a visitor pastes first."""
    hub: Hub = app.state.arq_web
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        signup = await client.post("/signup/42")
        report = await client.post("/reports/2026-11")
        await hub.worker(burst=True).run()
        status = (await client.get(report.headers["location"])).json()

    assert report.status_code == 202
    [task] = [each for each in hub.registry if each.name.endswith("send_welcome")]
    assert await hub.queue().job(signup.json()["job"], task).result(timeout=5) == "sent a welcome to user 42"
    assert (status["state"], status["result"]) == ("succeeded", "the report of 2026-11")
    await hub.aclose()
