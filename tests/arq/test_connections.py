"""``create_pool``, ``ArqRedis``, ``RedisSettings``: where Redis is, and how jobs get there."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.asyncio as redis_async
import redis.exceptions
from redis.asyncio.sentinel import Sentinel

from arq_web.arq import create_pool
from arq_web.arq.connections import ArqRedis, RedisSettings, log_redis_info
from arq_web.arq.jobs import Job, JobDef, JobStatus, SerializationError
from arq_web.arq.utils import timestamp_ms
from arq_web.store.pool_target import from_pool
from tests.support.ports import free_port


class Unpicklable:
    """Neither an argument nor a result."""

    def __getstate__(self) -> object:
        raise TypeError("not to be pickled")


async def test_an_enqueued_job_is_a_handle_and_its_id_is_taken(pool: ArqRedis) -> None:
    """arq's rule: None where a job of this id exists, whatever its function."""
    job = await pool.enqueue_job("add", 1, b=2, _job_id="one")

    assert isinstance(job, Job)
    assert repr(job) == "<arq job one>"
    assert await pool.enqueue_job("add", 1, b=2, _job_id="one") is None
    assert await pool.enqueue_job("other", _job_id="one") is None


async def test_of_many_enqueues_of_one_id_one_wins(pool: ArqRedis) -> None:
    """At the same time, from one process."""
    jobs = await asyncio.gather(*(pool.enqueue_job("add", n, _job_id="same") for n in range(10)))

    assert sum(job is not None for job in jobs) == 1


async def test_an_id_is_taken_in_its_queue_only(pool: ArqRedis) -> None:
    """In arq it is taken in every queue: a row of the differences."""
    assert await pool.enqueue_job("add", _job_id="one", _queue_name="first")
    assert await pool.enqueue_job("add", _job_id="one", _queue_name="second")


@pytest.mark.parametrize("job_id", ["image/1", "a b", "ünï", "50%", "x" * 300, "a\nb", "%20"])
async def test_an_id_may_be_any_text(pool: ArqRedis, job_id: str) -> None:
    """In the store it is percent-encoded; users get theirs back."""
    job = await pool.enqueue_job("add", _job_id=job_id)

    assert job is not None
    info = await job.info()
    assert info is not None
    assert info.job_id == job_id
    assert [each.job_id for each in await pool.queued_jobs()] == [job_id]


async def test_an_id_that_is_too_long_is_refused(pool: ArqRedis) -> None:
    """Before anything is sent; with the limit."""
    with pytest.raises(ValueError, match="1 to 1024 characters"):
        await pool.enqueue_job("add", _job_id="x" * 1025)


@pytest.mark.parametrize("queue_name", ["my queue", "münchen", "a/b"])
async def test_a_queue_may_have_any_name(pool: ArqRedis, queue_name: str) -> None:
    job = await pool.enqueue_job("add", _queue_name=queue_name)

    assert job is not None
    assert await job.status() == JobStatus.queued


async def test_info_of_a_waiting_job_is_its_definition(pool: ArqRedis) -> None:
    before_ms = timestamp_ms()
    job = await pool.enqueue_job("foobar", 123, a=456)

    assert job is not None
    info = await job.info()
    assert type(info) is JobDef
    known: Any = info.function, info.args, info.kwargs, info.job_try
    assert known == ("foobar", (123,), {"a": 456}, None)
    assert info.enqueue_time.utcoffset() == timedelta(0)
    assert info.score is not None
    assert abs(info.score - before_ms) < 1000
    assert [each.name for each in dataclasses.fields(JobDef)] == [
        *("function", "args", "kwargs", "job_try", "enqueue_time", "score", "job_id")
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"_defer_by": 20},
        {"_defer_by": timedelta(seconds=20)},
        {"defer_by": timedelta(seconds=20)},
        {"_defer_until": "aware"},
        {"_defer_until": "naive"},
        {"run_at": "aware"},
    ],
)
async def test_a_deferred_job_is_due_when_it_was_said(pool: ArqRedis, options: dict[str, Any]) -> None:
    """arq's words and those of the documents about arq; a naive datetime is local time."""
    moment = datetime.now(UTC) + timedelta(seconds=20)
    words = {"aware": moment, "naive": moment.astimezone().replace(tzinfo=None)}
    options = {name: words.get(value, value) if isinstance(value, str) else value for name, value in options.items()}

    job = await pool.enqueue_job("add", **options)

    assert job is not None
    info = await job.info()
    assert await job.status() == JobStatus.deferred
    assert info is not None
    assert info.score is not None
    assert abs(info.score - moment.timestamp() * 1000) < 1500


@pytest.mark.parametrize("moment", [datetime(2001, 1, 1, tzinfo=UTC), datetime(2001, 1, 1)])  # noqa: DTZ001 - users write it
async def test_a_time_that_has_passed_means_at_once(pool: ArqRedis, moment: datetime) -> None:
    job = await pool.enqueue_job("add", run_at=moment)

    assert job is not None
    assert await job.status() == JobStatus.queued


@pytest.mark.parametrize(
    "options",
    [
        {"_defer_by": 1, "_defer_until": datetime.now(UTC)},
        {"_defer_by": 1, "defer_by": 1},
        {"_defer_until": datetime.now(UTC), "run_at": datetime.now(UTC)},
        {"defer_by": 1, "run_at": datetime.now(UTC)},
    ],
)
async def test_two_words_for_one_time_are_an_error(pool: ArqRedis, options: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="not both"):
        await pool.enqueue_job("add", **options)


async def test_a_deferral_of_nothing_is_none(pool: ArqRedis) -> None:
    """arq takes ``_defer_by=0`` for "not given"."""
    job = await pool.enqueue_job("add", _defer_by=0, _defer_until=datetime.now(UTC) + timedelta(hours=1))

    assert job is not None
    assert await job.status() == JobStatus.deferred


async def test_an_argument_that_cannot_be_pickled_is_refused(pool: ArqRedis) -> None:
    with pytest.raises(SerializationError, match='unable to serialize job "add"'):
        await pool.enqueue_job("add", Unpicklable())


async def test_queued_jobs_are_those_that_have_not_ended_by_their_time(pool: ArqRedis) -> None:
    await pool.enqueue_job("third", _job_id="3", _defer_by=60)
    await pool.enqueue_job("first", 1, a=2, _job_id="1", _defer_by=-5)
    await pool.enqueue_job("second", b"x" * 5000, _job_id="2")  # its payload is in a key of its own

    jobs = await pool.queued_jobs()

    assert [(each.job_id, each.function) for each in jobs] == [("1", "first"), ("2", "second"), ("3", "third")]
    assert (jobs[0].args, jobs[0].kwargs, jobs[1].args) == ((1,), {"a": 2}, (b"x" * 5000,))
    assert await pool.queued_jobs(queue_name="another") == []


async def test_the_pool_is_a_redis_client(pool: ArqRedis) -> None:
    """Jobs get it as ``ctx["redis"]``, and people keep things in it."""
    assert isinstance(pool, redis_async.Redis)
    await pool.set("arq-test", b"1", ex=10)
    assert await pool.get("arq-test") == b"1"
    await pool.delete("arq-test")


async def test_a_closed_pool_can_be_closed_again_and_says_nothing(redis_url: str, own_namespace: str) -> None:
    """redis-py warns of ``close``; arq's users write it. (Warnings are errors here.)"""
    client = ArqRedis.from_url(redis_url)
    await client.enqueue_job("add", _job_id="one")

    await client.close()
    await client.close(close_connection_pool=True)
    await client.aclose()

    async with ArqRedis.from_url(redis_url) as other:
        assert await other.enqueue_job("add", _job_id="one") is None


async def test_pools_of_one_redis_share_the_engines_connections(redis_url: str, own_namespace: str) -> None:
    """A pool per request that nobody closes must not cost a socket each."""
    pools = [ArqRedis.from_url(redis_url) for _ in range(3)]

    assert len({id(each.link) for each in pools}) == 1
    for each in pools:
        await each.aclose()


async def test_enqueue_job_is_a_method_with_keyword_options(pool: ArqRedis) -> None:
    """People wrap it, and look at its signature."""
    parameters = inspect.signature(ArqRedis.enqueue_job).parameters
    keywords = {name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY}

    assert {"_job_id", "_queue_name", "_defer_until", "_defer_by", "_expires", "_job_try"} <= keywords


async def test_a_redis_that_is_gone_is_an_error_of_redis_py(own_namespace: str) -> None:
    """Code that was written for arq catches these."""
    async with ArqRedis(host="127.0.0.1", port=free_port()) as client:
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.enqueue_job("add")


# -- settings -----------------------------------------------------------------------------


def test_settings_have_arqs_fields_and_defaults() -> None:
    assert dataclasses.asdict(RedisSettings()) == {
        "host": "localhost",
        "port": 6379,
        "unix_socket_path": None,
        "database": 0,
        "username": None,
        "password": None,
        "ssl": False,
        "ssl_keyfile": None,
        "ssl_certfile": None,
        "ssl_cert_reqs": "required",
        "ssl_ca_certs": None,
        "ssl_ca_data": None,
        "ssl_check_hostname": False,
        "conn_timeout": 1,
        "conn_retries": 5,
        "conn_retry_delay": 1,
        "max_connections": None,
        "sentinel": False,
        "sentinel_master": "mymaster",
        "retry_on_timeout": False,
        "retry_on_error": None,
        "retry": None,
    }


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("redis://", {}),
        ("redis://foobar:123/4", {"host": "foobar", "port": 123, "database": 4}),
        ("redis://foobar?db=2", {"host": "foobar", "database": 2}),
        ("redis://user:pass@foobar", {"host": "foobar", "username": "user", "password": "pass"}),
        ("redis://:p%40ss%2F@foobar", {"host": "foobar", "username": "", "password": "p@ss/"}),
        ("redis://an%20app:s%3Ac@h", {"host": "h", "username": "an app", "password": "s:c"}),
        (
            "rediss://h/1?ssl_ca_certs=/ca.pem&ssl_check_hostname=true",
            {"host": "h", "database": 1, "ssl": True, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": True},
        ),
        ("unix:///run/redis.sock", {"unix_socket_path": "/run/redis.sock"}),
        ("unix:///run/redis.sock?db=6", {"unix_socket_path": "/run/redis.sock", "database": 6}),
    ],
)
def test_a_dsn_names_everything(dsn: str, expected: dict[str, Any]) -> None:
    assert RedisSettings.from_dsn(dsn) == RedisSettings(**expected)


def test_another_scheme_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="invalid DSN scheme"):
        RedisSettings.from_dsn("http://foobar")


def test_a_password_is_never_shown() -> None:
    """arq shows it."""
    assert "password=None" in repr(RedisSettings())
    assert "secret" not in repr(RedisSettings(password="secret"))
    assert repr(RedisSettings(port=1)).startswith("RedisSettings(host='localhost', port=1, unix_socket_path=None,")


@pytest.mark.parametrize("kind", ["settings", "url", "client", "none"])
async def test_a_pool_is_made_of_settings_a_url_or_a_client(
    settings: RedisSettings, redis_url: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Documents about arq write ``redis_settings = Redis.from_url(...)``: its address is taken, not the client."""
    client = redis_async.Redis.from_url(redis_url)
    given: Any = {"settings": settings, "url": redis_url, "client": client, "none": None}[kind]
    if kind == "none":
        monkeypatch.setattr("arq_web.arq.connections.as_settings", lambda _: settings)

    pool = await create_pool(given, default_queue_name="mine", expires_extra_ms=5)

    assert (pool.default_queue_name, pool.expires_extra_ms) == ("mine", 5)
    assert await pool.enqueue_job("add") is not None
    await pool.close()
    await client.aclose()


async def test_a_pool_is_connected_after_some_tries(settings: RedisSettings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    pool = await create_pool(settings, retry=1)

    assert "redis connection successful" in caplog.messages
    await pool.close()


async def test_a_redis_that_does_not_answer_is_tried_as_often_as_said(caplog: pytest.LogCaptureFixture) -> None:
    """And the last error is the caller's."""
    settings = RedisSettings(host="127.0.0.1", port=1, conn_retries=2, conn_retry_delay=0, password="secret")

    with pytest.raises(redis.exceptions.ConnectionError):
        _ = await create_pool(settings)

    assert [text.rpartition(", ")[2] for text in caplog.messages] == [
        "2 retries remaining...",
        "1 retries remaining...",
    ]
    assert "secret" not in caplog.text


async def test_sentinels_must_be_a_list() -> None:
    with pytest.raises(RuntimeError, match="list of sentinels expected"):
        _ = await create_pool(RedisSettings(sentinel=True))


async def test_the_server_is_told_in_one_line(pool: ArqRedis) -> None:
    lines: list[str] = []

    await log_redis_info(pool, lines.append)

    [line] = lines
    assert [word.partition("=")[0] for word in line.split()] == [
        *("redis_version", "mem_usage", "clients_connected", "db_keys")
    ]


@pytest.mark.parametrize(
    ("settings", "address", "masked"),
    [
        (RedisSettings(host="h", database=2), "h:6379/2", "redis://h:6379/2"),
        (RedisSettings(host="h", username="u", password="secret"), "h:6379/0", "redis://u:***@h:6379/0"),
        (RedisSettings(unix_socket_path="/run/r.sock"), "/run/r.sock", "unix:///run/r.sock?db=0"),
    ],
)
def test_the_engine_connects_where_the_pool_does(settings: RedisSettings, address: str, masked: str) -> None:
    """With the same login; and without showing it."""
    from arq_web.arq._settings import make_client  # noqa: PLC0415

    target = from_pool(make_client(ArqRedis, settings).connection_pool)

    assert (target.address, target.masked) == (address, masked)
    assert "secret" not in repr(target)


def test_the_engine_asks_the_sentinels_that_the_pool_asks() -> None:
    sentinel: Any = Sentinel([("a", 1), ("b", 2)], sentinel_kwargs={"password": "s"})  # type: ignore[no-untyped-call]
    client = sentinel.master_for("mymaster", redis_class=ArqRedis, password="secret", ssl=True)

    target = from_pool(client.connection_pool)

    assert (target.kind, target.nodes, target.master) == ("sentinel", (("a", 1), ("b", 2)), "mymaster")
    assert (target.sentinel_login.password, target.login.password) == ("s", "secret")
    assert target.connection_class is redis_async.SSLConnection
