"""The fixture ``jobs`` in real pytest processes: nothing to import, and a broken job fails its test with the cause."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
import redis as redis_sync

from tests.support.ports import free_port
from tests.testing.pytest_runs import BROKEN, ROOT, run_pytest

pytestmark = pytest.mark.timeout(120)

INLINE = """
    import pytest
    from fastapi.testclient import TestClient
    from shop import app, send_welcome

    @pytest.mark.jobs(mode="inline")
    def test_signup(jobs):
        with TestClient(app, raise_server_exceptions={raised}) as client:
            client.post("/signup/42")
"""
DRAIN = """
    import pytest
    from fastapi.testclient import TestClient
    from shop import app, send_welcome

    @pytest.mark.jobs(mode="drain")
    def test_signup(jobs):
        with TestClient(app) as client:
            client.post("/signup/42")
            {run}
"""
COLLECT = """
    from fastapi.testclient import TestClient
    from shop import app, send_welcome

    def test_signup(jobs):
        TestClient(app).post("/signup/{user_id}")
        jobs.assert_enqueued(send_welcome, 42)
"""


def test_the_plugin_is_an_entry_point() -> None:
    """So that no conftest need name it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["entry-points"]["pytest11"] == {"arq_web": "arq_web.testing.plugin"}
    assert not any("pytest" in each for each in project["dependencies"])


@pytest.mark.parametrize("raised", [True, False], ids=["the client raises", "the client answers 500"])
def test_inline_a_broken_job_fails_the_test_with_its_cause(tmp_path: Path, raised: bool) -> None:
    run = run_pytest(tmp_path, INLINE.format(raised=raised), body=BROKEN)

    assert run.outcomes() == {"failed": 1}, run.text
    assert "JobsFailed: A job of this test failed." in run.text
    assert "shop:send_welcome(user_id=42) is dead after 2 attempts (reason failed" in run.text
    assert "ValueError: user 42 has no address" in run.text


def test_inline_an_intact_one_passes(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, INLINE.format(raised=True))

    assert run.outcomes() == {"passed": 1}, run.text


def test_drain_a_broken_job_fails_the_test_with_its_cause(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, DRAIN.format(run="jobs.run_all_sync()"), body=BROKEN)

    assert run.outcomes() == {"failed": 1}, run.text
    assert "shop:send_welcome(user_id=42) is dead after 2 attempts" in run.text
    assert "ValueError: user 42 has no address" in run.text


def test_drain_an_intact_one_passes_and_one_that_was_never_run_does_not(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, DRAIN.format(run="jobs.run_all_sync()"))
    assert run.outcomes() == {"passed": 1}, run.text

    run = run_pytest(tmp_path, DRAIN.format(run="pass"))
    assert run.outcomes() == {"failed": 1}, run.text
    assert "These jobs were enqueued and never run" in run.text
    assert "shop:send_welcome(user_id=42)" in run.text


def test_collect_a_wrong_job_fails_the_test_and_is_shown(tmp_path: Path) -> None:
    """It never runs, so what is broken is what was enqueued."""
    assert run_pytest(tmp_path, COLLECT.format(user_id=42), body=BROKEN).outcomes() == {"passed": 1}

    run = run_pytest(tmp_path, COLLECT.format(user_id=43))
    assert run.outcomes() == {"failed": 1}, run.text
    assert "No job was enqueued as expected: shop:send_welcome(user_id=42)." in run.text
    assert "user_id is 43, not 42" in run.text


def test_a_test_that_fails_for_another_reason_shows_its_jobs(tmp_path: Path) -> None:
    """Often they are why."""
    tests = """
        import pytest
        from fastapi.testclient import TestClient
        from shop import app

        @pytest.mark.jobs(mode="inline")
        def test_signup(jobs):
            response = TestClient(app, raise_server_exceptions=False).post("/signup/42")
            assert response.status_code == 200
    """
    run = run_pytest(tmp_path, tests, body=BROKEN)

    assert run.outcomes() == {"failed": 1}
    assert "assert 500 == 200" in run.text
    assert "jobs of this test" in run.text
    assert "ValueError: user 42 has no address" in run.text


def test_what_is_checked_at_the_end_is_so_for_whoever_asks_for_the_fixture(tmp_path: Path) -> None:
    tests = """
        import pytest
        from fastapi.testclient import TestClient
        from shop import app

        def test_crash(request):
            request.getfixturevalue("jobs").crash_at(1)

        @pytest.mark.jobs(mode="drain")
        def test_drain(request):
            jobs = request.getfixturevalue("jobs")
            TestClient(app).post("/signup/42")
    """
    run = run_pytest(tmp_path, tests)

    assert run.outcomes() == {"failed": 2}, run.text
    assert "crash_at(1) did not happen" in run.text
    assert "were enqueued and never run" in run.text


def test_a_redis_that_is_away_is_one_clear_line(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, "def test_it(jobs): ...", ARQ_WEB_TEST_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")

    assert run.outcomes() == {"error": 1}, run.text
    assert "StoreUnavailable: Redis at 127.0.0.1:" in run.text
    assert "Traceback" not in run.text
    assert "another exception occurred" not in run.text


def test_sync_and_async_tests_share_nothing(tmp_path: Path) -> None:
    """Each has a namespace of its own; also under xdist, where each process has a server of its own."""
    tests = """
        import httpx
        import pytest
        from fastapi.testclient import TestClient
        from shop import app, send_welcome

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.fixture
        async def client(jobs):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                yield client

        @pytest.mark.parametrize("user_id", range(3))
        def test_sync(jobs, user_id):
            with TestClient(app) as client:
                client.post(f"/signup/{user_id}")
                jobs.assert_enqueued(send_welcome, user_id, count=1)
                jobs.refute_enqueued(send_welcome, user_id + 1)
                assert [job.result for job in jobs.run_all_sync()] == [f"welcome {user_id}"]

        @pytest.mark.parametrize("user_id", range(3))
        async def test_async(client, jobs, user_id):
            await client.post(f"/signup/{user_id}")
            [job] = jobs.assert_enqueued(send_welcome)
            assert job.args == (user_id,)
            assert [job.result for job in await jobs.run_all()] == [f"welcome {user_id}"]
    """
    assert run_pytest(tmp_path, tests).outcomes() == {"passed": 6}
    run = run_pytest(tmp_path, tests, "-n", "2")
    assert run.outcomes() == {"passed": 6}, run.text


def test_the_app_may_be_a_fixture(tmp_path: Path) -> None:
    tests = """
        import pytest
        from arq_web import Hub
        from shop import send_welcome

        @pytest.fixture
        def jobs_app():
            return Hub(tasks=[send_welcome])

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        async def test_hub(jobs, jobs_app):
            await jobs_app.queue().enqueue(send_welcome, 1)
            assert len(await jobs.run_all()) == 1
    """
    run = run_pytest(tmp_path, tests, ini="")

    assert run.outcomes() == {"passed": 1}, run.text


def test_without_an_app_it_says_what_to_do(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, "def test_it(jobs): ...", ini="")

    assert run.outcomes() == {"error": 1}
    assert 'Set arq_web_app = "main:app" in pytest\'s configuration' in run.text


def test_an_app_that_is_not_there_is_named(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, "def test_it(jobs): ...", ini="arq_web_app = shop:ap")

    assert run.outcomes() == {"error": 1}
    assert "did you mean 'app'" in run.text


@pytest.mark.parametrize(
    ("marker", "why"),
    [
        ('mode="inlin"', "mode='inlin' is not valid: it must be one of collect, inline, drain"),
        ('modus="inline"', "@pytest.mark.jobs(modus=...): it takes concurrency, mode, most_attempts"),
        ('"inline"', "@pytest.mark.jobs('inline'): it takes"),
    ],
)
def test_a_marker_that_means_nothing_is_refused(tmp_path: Path, marker: str, why: str) -> None:
    run = run_pytest(tmp_path, f"import pytest\n@pytest.mark.jobs({marker})\ndef test_it(jobs): ...")

    assert run.outcomes() == {"error": 1}, run.text
    assert why in run.text


def test_the_configuration_chooses_the_mode_and_the_nearest_marker_wins(tmp_path: Path) -> None:
    tests = """
        import pytest

        pytestmark = pytest.mark.jobs(most_attempts=7, mode="drain")

        def test_of_the_module(jobs):
            assert jobs.mode == "drain"

        @pytest.mark.jobs(mode="collect")
        def test_of_its_own(jobs):
            assert jobs.mode == "collect"
    """
    assert run_pytest(tmp_path, tests).outcomes() == {"passed": 2}
    tests = "def test_it(jobs): assert jobs.mode == 'inline'"
    assert run_pytest(tmp_path, tests, ini="arq_web_app=shop:app\narq_web_mode=inline").outcomes() == {"passed": 1}


def test_a_real_redis_may_be_named_and_is_left_clean(tmp_path: Path, redis_url: str) -> None:
    tests = """
        from fastapi.testclient import TestClient
        from shop import app, send_welcome

        def test_signup(jobs):
            TestClient(app).post("/signup/42")
            assert jobs.hub.queues.connections.target.address == {address!r}
            assert len(jobs.run_all_sync()) == 1
            TestClient(app).post("/signup/43")
    """
    address = redis_url.removeprefix("redis://")
    with closing(redis_sync.Redis.from_url(redis_url)) as client:
        run = run_pytest(tmp_path, tests.format(address=address), ARQ_WEB_TEST_REDIS_URL=redis_url)
        left = list(client.scan_iter(match="test-*"))

    assert run.outcomes() == {"passed": 1}, run.text
    assert left == []


def test_the_kit_needs_no_pytest() -> None:
    """It is part of the library, which does not depend on it."""

    code = "import sys; sys.modules['pytest'] = None; import arq_web.testing; print('fakeredis' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "False"
