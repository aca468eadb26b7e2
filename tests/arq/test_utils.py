"""arq's helpers, its modules and names, and that importing them costs nothing and warns of nothing."""

from __future__ import annotations

import asyncio
import importlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from arq_web.arq import utils

NAMES = {
    "": "ArqRedis create_pool cron VERSION Retry Worker check_health func job run_worker __version__",
    ".connections": "RedisSettings ArqRedis create_pool log_redis_info logger",
    ".constants": "default_queue_name job_key_prefix in_progress_key_prefix result_key_prefix retry_key_prefix "
    "abort_jobs_ss abort_job_max_age health_check_key_suffix keep_cronjob_progress timezone_env_vars expires_extra_ms",
    ".cron": "cron CronJob next_cron Options",
    ".jobs": "Job JobStatus JobDef JobResult ResultNotFound SerializationError DeserializationError Serializer "
    "Deserializer serialize_job serialize_result deserialize_job deserialize_job_raw deserialize_result",
    ".worker": "Function func Retry RetryJob JobExecutionFailed FailedJobs Worker get_kwargs create_worker run_worker "
    "async_check_health check_health no_result log_redis_info keep_cronjob_progress",
    ".typing": "OptionType WeekdayOptionType WEEKDAYS SecondsTimedelta WorkerCoroutine StartupShutdown "
    "WorkerSettingsType WorkerSettingsBase",
    ".logs": "default_log_config",
    ".cli": "cli watch_reload",
    ".version": "VERSION",
    ".utils": "timestamp_ms to_unix_ms ms_to_datetime to_ms to_seconds poll truncate args_to_string import_string "
    "get_tz as_int",
}


@pytest.fixture
def fresh_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The zone is read once per process."""
    utils.get_tz.cache_clear()
    yield monkeypatch
    utils.get_tz.cache_clear()


@pytest.mark.parametrize("module", NAMES)
def test_every_name_of_arqs_is_where_arq_has_it(module: str) -> None:
    found = importlib.import_module(f"arq_web.arq{module}")

    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


def test_importing_warns_of_nothing_and_loads_no_framework() -> None:
    """Some projects turn warnings into errors."""
    script = (
        "import sys, arq_web.arq, arq_web.arq.cli\n"
        "assert not {'fastapi', 'litestar', 'starlette'} & sys.modules.keys(), sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_the_engine_does_not_load_arqs_api() -> None:
    script = "import sys, arq_web, arq_web.cli\nassert 'arq_web.arq' not in sys.modules"

    assert subprocess.run([sys.executable, "-c", script], timeout=30, check=False).returncode == 0


def test_the_version_can_be_compared() -> None:
    version = importlib.import_module("arq_web.arq").VERSION

    assert tuple(int(part) for part in version.split(".")) >= (0, 28)


@pytest.mark.parametrize(
    ("given", "ms", "seconds"),
    [
        (timedelta(days=1), 86_400_000, 86_400),
        (42, 42_000, 42),
        (42.123, 42_123, 42.123),
        (42.123_987, 42_124, 42.123_987),
        (None, None, None),
    ],
)
def test_times_are_seconds_or_timedeltas(given: float | None, ms: int | None, seconds: float | None) -> None:
    assert (utils.to_ms(given), utils.to_seconds(given)) == (ms, seconds)


def test_texts_are_cut() -> None:
    assert utils.truncate("123456", 4) == "123…"
    assert utils.truncate("1234", 4) == "1234"
    assert utils.args_to_string((1, "a"), {"d": 4, "c": 3}) == "1, 'a', c=3, d=4"
    assert utils.args_to_string((), {"d": 4}) == "d=4"
    assert len(utils.args_to_string(("x" * 200,), {})) == 80


def test_a_moment_is_in_utc_or_the_zone_of_the_environment(fresh_zone: pytest.MonkeyPatch) -> None:
    assert utils.ms_to_datetime(1_647_345_420_000) == datetime(2022, 3, 15, 11, 57, tzinfo=UTC)
    assert utils.to_unix_ms(datetime(2022, 3, 15, 11, 57, tzinfo=UTC)) == 1_647_345_420_000

    utils.get_tz.cache_clear()
    fresh_zone.setenv("ARQ_TIMEZONE", "Asia/Shanghai")
    fresh_zone.setenv("TIMEZONE", "Europe/Berlin")
    assert utils.ms_to_datetime(1_647_345_420_000).isoformat() == "2022-03-15T19:57:00+08:00"


def test_an_unknown_zone_is_said_and_passed_over(
    fresh_zone: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fresh_zone.setenv("ARQ_TIMEZONE", "foobar")
    caplog.set_level(logging.WARNING)

    assert utils.ms_to_datetime(0).isoformat() == "1970-01-01T00:00:00+00:00"
    assert caplog.messages == ["unknown timezone: 'foobar'"]


def test_a_dotted_name_names_something() -> None:
    assert utils.import_string("math.sqrt")(4) == 2
    with pytest.raises(ImportError, match='"foobar" doesn\'t look like a module path'):
        utils.import_string("foobar")
    with pytest.raises(ImportError, match='Module "math" does not define a "foobar" attribute'):
        utils.import_string("math.foobar")


async def test_polling_goes_round_in_its_step() -> None:
    seen = []
    async for passed_s in utils.poll(0.01):
        seen.append(passed_s)
        if len(seen) == 3:
            break

    assert 0 <= seen[0] < seen[1] < seen[2]
    await asyncio.sleep(0)
