"""What a user may get wrong, and what is said then: what happened, why, what to do. Nothing is ever written."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis as redis_sync

from arq_web import INJECTED, Config, Hub, Queue, Retry, Snooze, SyncQueue, cron, schedule, task
from arq_web.errors import (
    DuplicateTask,
    InvalidArguments,
    InvalidConfig,
    InvalidJobId,
    InvalidOption,
    InvalidRedisUrl,
    InvalidSchedule,
    InvalidTask,
    JobIdConflict,
    NoRedisUrl,
    NotSerializable,
    PayloadTooLarge,
    StoreRefused,
    StoreUnavailable,
    UnknownTask,
)
from tests.support.ports import free_port
from tests.support.redis_server import running_redis
from tests.support.working import make_hub, queue_of


@task
async def send(user_id: int, body: str = "") -> None:
    """Take typed arguments."""


@task
async def store(thing) -> None:  # type: ignore[no-untyped-def]
    """Take anything."""


@task
async def unregistered() -> None:
    """No app knows it."""


TOMORROW = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
async def queue(redis_url: str, namespace: str) -> AsyncIterator[Queue]:
    """A queue of an app with two tasks."""
    async with queue_of(make_hub(redis_url, namespace, send, store)) as queue:
        yield queue


async def test_an_argument_that_cannot_travel(queue: Queue) -> None:
    """Named, with a remedy, at the enqueue: never a crash in the worker."""
    with pytest.raises(NotSerializable, match=r"Argument 'thing' of '.*:store' cannot travel to a worker: .+\."):
        await queue.enqueue(store, socket.socket)


async def test_a_wrong_argument(queue: Queue) -> None:
    """The message shows the signature."""
    with pytest.raises(InvalidArguments, match=r"argument 'user_id'.*Its signature is .*send\(user_id: int"):
        await queue.enqueue(send, "1")  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments, match="missing a required argument: 'user_id'"):
        await queue.enqueue(send)  # type: ignore[call-arg]
    with pytest.raises(InvalidArguments, match="unexpected keyword argument 'delay'"):
        await queue.enqueue(send, 1, delay=5)  # type: ignore[call-arg]


async def test_a_task_that_the_app_does_not_know(queue: Queue) -> None:
    """The remedy is to register it."""
    with pytest.raises(UnknownTask, match=r"No task named '.*:unregistered' is registered here\..*tasks=\["):
        await queue.enqueue(unregistered)


async def test_a_payload_over_the_limit(redis_url: str, namespace: str) -> None:
    """Size, limit, and where to put large data instead."""
    config = Config(namespace=namespace, max_payload_bytes=1000)
    async with queue_of(make_hub(redis_url, namespace, send, config=config)) as queue:
        with pytest.raises(PayloadTooLarge, match=r"1,0\d\d bytes; the limit is 1,000.*Store large data elsewhere"):
            await queue.enqueue(send, 1, "x" * 1000)


@pytest.mark.parametrize("bad", ["", "with space", "a/b", "x" * 129, "ü"])
def test_an_id_that_cannot_be_one(bad: str) -> None:
    """It is part of a URL and of a Redis key."""
    with pytest.raises(InvalidJobId, match=r"cannot be a job id: use 1 to 128 of the characters"):
        send.options(id=bad)
    with pytest.raises(InvalidJobId, match=r"cannot be a unique key"):
        send.options(unique=bad)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delay": -1}, "options(delay=-1) is not valid: it must be between 0 seconds"),
        ({"delay": 1, "at": datetime(2030, 1, 1).astimezone()}, "a job has one time"),
        ({"at": datetime(2030, 1, 1)}, "an aware datetime"),  # noqa: DTZ001 - the mistake itself
        ({"priority": 11}, "between -10 and 10"),
        ({"max_tries": 0}, "between 1 and 1000"),
        ({"timeout": 0}, "between 0.001 seconds"),
        ({"expires": "soon"}, "seconds or a timedelta"),
        ({"on_finished": "again"}, "'return' or 'replace'"),
        ({"max_tries": "3"}, "between 1 and 1000"),
        ({"delay": 60, "expires": 30}, "options(expires=30) is not valid: it must be later than delay= or at="),
        ({"at": TOMORROW, "expires": TOMORROW - timedelta(hours=1)}, "the job could never start"),
        ({"keep_result": float("inf")}, "a finite number of seconds"),
    ],
)
def test_an_option_outside_its_range(options: dict[str, Any], said: str) -> None:
    """Refused where it is written, before anything is sent."""
    with pytest.raises(InvalidOption, match=re.escape(said)):
        send.options(**options)


async def test_the_same_id_for_another_task(queue: Queue) -> None:
    """Two different purposes must not share an id by accident."""
    first = await queue.enqueue(send.options(id="one"), 1)
    with pytest.raises(JobIdConflict, match=r"Job 'one' exists already and runs '.*:send', not '.*:store'"):
        await queue.enqueue(store.options(id="one"), 1)
    await first.cancel()


async def test_an_undeclared_queue(queue: Queue) -> None:
    """A typing error in a queue's name would park jobs where no worker looks."""
    with pytest.raises(InvalidOption, match=r"one of the declared queues \['default'\]"):
        await queue.enqueue(send.options(queue="emials"), 1)


def test_two_tasks_of_one_name() -> None:
    """Both places are named; a queued job carries only the name."""

    @task(name="twice")
    async def first() -> None: ...

    @task(name="twice")
    async def second() -> None: ...

    with pytest.raises(DuplicateTask, match=r"Two tasks are named 'twice': .*test_bad_input.py:\d+ and .*:\d+\."):
        Hub(tasks=[first, second])


def test_what_is_no_task() -> None:
    """A plain function, a generator, an INJECTED parameter that nothing fills."""

    async def plain() -> None: ...

    async def generator() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(InvalidTask, match=r"it is not a task\. Decorate it with @task"):
        Hub(tasks=[plain])  # type: ignore[list-item]
    with pytest.raises(InvalidTask, match="it is a generator"):
        task(generator)
    with pytest.raises(InvalidTask, match=r"option max_tries=0 is out of range\. It must be between 1 and 1000"):
        task(max_tries=0)(plain)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retry": 5}, "its option retry=5 is out of range. It must be a function (failures, error) -> seconds"),
        ({"timeout": float("inf")}, "its option timeout=inf is out of range. It must be a finite number of seconds"),
        ({"timeout": "30"}, "its option timeout='30' is out of range. It must be seconds or a timedelta"),
        ({"max_tries": None}, "its option max_tries=None is out of range. It must be between 1 and 1000"),
        ({"max_tires": 5}, "there is no option 'max_tires'. Did you mean 'max_tries'? There are name, aliases"),
        ({"no_retry_on": [ValueError, "KeyError"]}, "It must be an exception class, or several in a tuple"),
        ({"no_retry_on": "ValueError"}, "It must be an exception class, or several in a tuple"),
        ({"queue": 5}, "It must be a queue name"),
        ({"aliases": "old"}, "its option aliases='old' is one word, not several. Write aliases=['old']."),
    ],
)
def test_a_policy_that_cannot_be(options: dict[str, Any], said: str) -> None:
    """Refused at the definition, by name and range: not with the first failure, and not by Python's own words."""

    async def work() -> None: ...

    with pytest.raises(InvalidTask, match=re.escape(said)):
        task(**options)(work)


def test_exceptions_not_to_retry_may_come_in_a_list() -> None:
    """Nobody remembers that isinstance wants a tuple."""

    @task(no_retry_on=[ValueError, KeyError])
    async def work() -> None: ...

    assert work.policy.no_retry_on == (ValueError, KeyError)


@pytest.mark.parametrize("delay", [float("inf"), float("nan"), "soon", 1e300])
def test_a_delay_that_means_nothing(delay: Any) -> None:
    """Where it is raised: the attempt's traceback then shows the line that is wrong."""
    for word in (Retry, Snooze):
        with pytest.raises(ValueError, match=r"delay=.* is not a delay: give seconds or a timedelta"):
            word("later", delay=delay)


def test_a_def_cannot_await_a_queue() -> None:
    """Its enqueue would make a coroutine that nobody runs: the job would succeed, and enqueue nothing."""

    def work(queue: Queue = INJECTED) -> None: ...

    def fine(queue: SyncQueue = INJECTED) -> None: ...

    with pytest.raises(InvalidTask, match=r"the Queue of parameter 'queue' cannot be awaited\. Annotate it with SyncQ"):
        task(work)
    task(fine)


def test_one_word_where_several_are_meant() -> None:
    """A str is a collection of letters: 'emails' would become six queues."""
    with pytest.raises(InvalidConfig, match=r"queues='emails' is not valid: .*queues=\['emails'\]"):
        Hub(queues="emails")
    with pytest.raises(InvalidConfig, match=r"tasks='shop\.tasks' is not valid: .*tasks=\[\.\.\.\]"):
        Hub(tasks="shop.tasks")
    with pytest.raises(InvalidConfig, match=r"tasks=<Task .*:send> is not valid"):
        Hub(tasks=send)  # type: ignore[arg-type]


async def test_a_module_that_was_imported_twice(redis_url: str, namespace: str, tmp_path: Path) -> None:
    """A script imports itself by name, or is run by path: two functions of one name, of which an app knows one."""
    (tmp_path / "twice.py").write_text("from arq_web import task\n\n@task(name='twice:run')\nasync def run(): ...\n")
    first, second = (_loaded(tmp_path / "twice.py") for _ in range(2))

    async with queue_of(make_hub(redis_url, namespace, first.run)) as queue:
        with pytest.raises(UnknownTask, match=r"This 'twice:run' is not the task .*twice\.py:\d+.*imported twice"):
            await queue.enqueue(second.run)
    with pytest.raises(DuplicateTask, match=r"twice\.py:\d+ made 'twice:run' twice: its module was imported twice"):
        Hub(tasks=[first.run, second.run])


def test_a_schedule_whose_call_cannot_be() -> None:
    """At start, and not at each tick in the worker's log."""
    with pytest.raises(InvalidArguments, match="argument 'user_id'"):
        schedule(send.call("x"), cron("@daily"))  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments, match="missing a required argument: 'user_id'"):
        schedule(send, cron("@daily"))  # type: ignore[arg-type]
    with pytest.raises(NotSerializable, match="Argument 'thing'"):
        schedule(store.call(socket.socket), cron("@daily"))


def test_a_sync_queue_without_its_loop(redis_url: str, namespace: str) -> None:
    """The loop was stopped, but not closed: nobody would ever answer."""
    loop = asyncio.new_event_loop()
    queue = SyncQueue(make_hub(redis_url, namespace, send).queue(), loop)
    try:
        with pytest.raises(RuntimeError, match="the event loop that does its work does not run"):
            queue.enqueue(send, 1)
    finally:
        loop.close()


@pytest.mark.parametrize("expression", ["* * *", "61 * * * *", "0 0 31 2 *", "@dayly"])
def test_a_bad_cron_expression(expression: str) -> None:
    """Refused where it is written, with the form that is expected."""
    with pytest.raises(InvalidSchedule, match=re.escape(expression) + ".*is not a schedule.*five cron fields"):
        cron(expression)


async def test_no_redis(namespace: str) -> None:
    """A port where nobody listens: said within the deadline, and that sending again is safe."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    config = Config(namespace=namespace, command_deadline_s=0.3)
    async with Queue.connect(url, config=config) as queue:
        with pytest.raises(StoreUnavailable, match=r"Redis at 127\.0\.0\.1:\d+/0 did not answer: .*Check that it runs"):
            await queue.enqueue(send, 1)


async def test_a_wrong_password_is_said_and_never_shown() -> None:
    """Neither the wrong password nor the URL appears in the message."""
    with running_redis() as server:
        with closing(redis_sync.Redis.from_url(server.url)) as admin:
            admin.config_set("requirepass", "right")
        url = f"redis://:wr%40ng@127.0.0.1:{server.port}/0"
        async with Queue.connect(url) as queue:
            with pytest.raises(StoreRefused, match=r"refused us: .*percent-encode") as refused:
                await queue.enqueue(send, 1)

    assert "wr@ng" not in str(refused.value)
    assert "wr%40ng" not in str(refused.value)


def test_a_url_that_is_none_is_said_without_its_password() -> None:
    """The scheme is wrong here; the password is masked all the same."""
    with pytest.raises(InvalidRedisUrl, match=r"is not a Redis URL: .*redis://host:6379/0") as refused:
        Hub(url="http://me:secret@host:6379").queue()

    assert "secret" not in str(refused.value)


def test_no_url_outside_development(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In CI, say: no private Redis may be started, and the message has the remedy."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.delenv("ARQ_WEB_DEV", raising=False)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(NoRedisUrl, match=r"this looks like CI.*Set REDIS_URL .*or pass url= to ArqWeb"):
        Hub(app_directory=tmp_path).queue()


def test_a_setting_outside_its_range() -> None:
    """Names the field, the value, the range and the environment variable."""
    said = r"concurrency=0 \(environment variable ARQ_WEB_CONCURRENCY\).*between 1 and 1000"
    with pytest.raises(InvalidConfig, match=said):
        Config.from_env({"ARQ_WEB_CONCURRENCY": "0"})
    with pytest.raises(InvalidConfig, match=r"'many'.*a whole number"):
        Config.from_env({"ARQ_WEB_CONCURRENCY": "many"})


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
