"""The pytest plugin: found by its entry point, so a test only asks for ``jobs``."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any, Final

import pytest

from arq_web.errors import ArqWebError
from arq_web.testing.failures import JobsFailed
from arq_web.testing.server import URL_ENV
from arq_web.testing.tester import MODES, JobTester

_OPTIONS: Final = frozenset({"mode", "redis_url", "raise_failures", "concurrency", "most_attempts"})
_TESTER: Final = pytest.StashKey[JobTester]()
_NO_APP: Final = (
    'The fixture `jobs` does not know your app. Set arq_web_app = "main:app" in pytest\'s configuration, or define a '
    "fixture `jobs_app` that returns it (an app with ArqWeb, or a Hub)."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The settings in pytest's configuration file."""
    parser.addini("arq_web_app", "the app of the fixture `jobs`: module:name")
    parser.addini("arq_web_mode", f"what becomes of its jobs: {', '.join(MODES)} (default collect)", default="collect")
    parser.addini("arq_web_redis_url", f"a real Redis for the fixture `jobs` (or {URL_ENV}); default one in memory")


def pytest_configure(config: pytest.Config) -> None:
    """The marker of one test."""
    config.addinivalue_line(
        "markers",
        "jobs(mode=..., redis_url=..., raise_failures=..., concurrency=..., most_attempts=...): how the fixture `jobs` "
        "treats the jobs of this test; see arq_web.testing.JobTester",
    )


@pytest.fixture
def jobs_app(pytestconfig: pytest.Config) -> object:
    """The app whose jobs are tested: by default the one that ``arq_web_app`` names. Override it with your own."""
    target: str = pytestconfig.getini("arq_web_app")
    if not target:
        pytest.fail(_NO_APP, pytrace=False)
    return target


@pytest.fixture
def jobs_redis_url(pytestconfig: pytest.Config) -> str | None:
    """A real Redis for the fixture ``jobs``; None for the one in memory. Override it with your own."""
    return os.environ.get(URL_ENV) or pytestconfig.getini("arq_web_redis_url") or None


@pytest.fixture
def jobs(request: pytest.FixtureRequest, jobs_app: object, jobs_redis_url: str | None) -> Iterator[JobTester]:
    """The jobs of this test; see ``arq_web.testing.JobTester``. A client's fixture asks for it, too."""
    options = {"mode": request.config.getini("arq_web_mode"), "redis_url": jobs_redis_url, **_marked(request)}
    tester, why = _opened(jobs_app, options)
    if tester is None:
        pytest.fail(why, pytrace=False)  # not where the error is handled, whose traceback would be shown
    request.node.stash[_TESTER] = tester
    try:
        yield tester
    finally:
        tester.close()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test that went well all the same fails for what became of its jobs: as a failure, not an error of a fixture."""
    result = yield
    tester = _tester_of(pyfuncitem)
    if tester is not None:
        tester.check()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows its jobs: often they are why."""
    report = yield
    tester = _tester_of(item)
    if call.when == "call" and report.failed and tester is not None:
        try:
            is_told = call.excinfo is not None and isinstance(call.excinfo.value, JobsFailed)
            text = tester.describe(with_failures=not is_told)
        except Exception as error:  # noqa: BLE001 - a Redis that is gone must not hide why the test failed
            text = f"They cannot be read: {type(error).__name__}: {error}"
        if text:
            report.sections.append(("jobs of this test", text))
    return report


def _tester_of(item: pytest.Item) -> JobTester | None:
    if _TESTER in item.stash:
        return item.stash[_TESTER]
    tester = getattr(item, "funcargs", {}).get("jobs")  # of a fixture that somebody has put in the place of ours
    return tester if isinstance(tester, JobTester) else None


def _opened(app: object, options: dict[str, Any]) -> tuple[JobTester | None, str]:
    """Or why not."""
    try:
        tester = JobTester(app, **options)
        tester.open()
    except ArqWebError as error:
        return None, f"{type(error).__name__}: {error}"
    return tester, ""


def _marked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the markers of a test say; the nearest one has the last word."""
    options: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("jobs"))):
        unknown = sorted(marker.kwargs.keys() - _OPTIONS)
        if marker.args or unknown:
            given = ", ".join([*map(repr, marker.args), *(f"{name}=..." for name in unknown)])
            pytest.fail(f"@pytest.mark.jobs({given}): it takes {', '.join(sorted(_OPTIONS))}, by name", pytrace=False)
        options.update(marker.kwargs)
    return options
