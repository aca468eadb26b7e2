"""What every web framework's ``ArqWeb`` and ``@background_job`` do: one suite, each framework passes it whole.

A framework's test module derives a test class from :class:`FrontContract` and gives it a fixture ``build`` (a
:class:`BuildFront`). What it builds is a fresh app, with ``ArqWeb(app, url=url, tasks=[send_welcome], config=config,
queues=("default", "emails"), **options)`` and these routes, some of whose tasks are attributes of the :class:`Front`:

``POST /api/images/{id}/resize``
    job ``resize(image_id: UUID, data: list[Op], owner, db, repo, ctx, progress, day, trace) -> Resized``,
    ``max_tries=2, result_status=201``, under a router with the prefix ``/api``. ``day: date`` is a query parameter
    (default 2026-01-01), ``trace: str`` the header ``X-Trace`` (default ""), ``owner: int`` is ``RequestTime`` and
    reads the header ``X-User`` (401 without it). ``db`` is a worker-side dependency with clean-up (``opened(seen)``),
    ``repo`` a ``Repo`` made from that ``db``. Reports ``progress(0.5, "half")``, notes "ran", and returns
    ``Resized(image_id, data, owner, day, trace, repo.db is db, ctx.attempt)``
``POST /double/{number}``
    job ``double(number: int) -> int``, a plain ``def``
``POST /refuse/{status}``
    job ``refuse(status: int)``, ``max_tries=3``: raises the framework's HTTPException with that status, the detail
    "no such image" and the header ``X-Why: gone``
``POST /crash``
    job ``crash(db)``, raises ``ValueError("broken pixel")``
``POST /hang``
    job ``hang(db)``, notes "ran" and waits for ever
``POST /note``
    job ``note(data: Note) -> str``, ``queue="emails"``, returns the text
``POST /signup/{user_id}``
    no job: asks for ``queue: Queue``, enqueues ``send_welcome``, answers ``{"job": id}``
``POST /signup-sync/{user_id}``
    the same as a ``def`` route with ``SyncQueue``
``POST /mail/{user_id}``
    the same on the queue named "emails"
``POST /by-hand/{number}``
    no job: ``queue.enqueue(double, number)``

``refused`` maps each word of ``REFUSED`` to a function that decorates a job whose parameter ``bad`` must not cross, and
``refused_at_start`` each word of ``REFUSED_AT_START`` to one that makes an app that must not start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import httpx
import pytest

from arq_web import Config, Hub, Job, JobFailed, JobState, task
from arq_web.errors import InvalidRoute
from arq_web.http import answers, problems
from arq_web.http.paths import JobPaths
from arq_web.hub import ROLE_ENV
from arq_web.task import AsyncTask, SyncTask
from tests.support.ports import free_port
from tests.support.waiting import wait_until

Message = MutableMapping[str, Any]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

REFUSED = ("upload", "request", "secret", "orm", "callable")
REFUSED_AT_START = ("wrong order", "async queue in a def route", "a GET route")
IMAGE = UUID("7a9c1f0e-2a36-4d8f-9d0c-5f6a1b2c3d4e")
OPS = [{"name": "crop", "amount": "0.1"}, {"name": "blur", "amount": "2"}]


@dataclass
class Op:
    name: str
    amount: Decimal


@dataclass
class Note:
    text: str


@dataclass
class Resized:
    image_id: UUID
    ops: list[Op]
    owner: int
    day: date
    trace: str
    is_shared: bool
    attempt: int


class Database:
    """What a worker-side dependency gives; it never travels."""

    is_open = True


@dataclass(eq=False)
class Repo:
    db: Database


def opened(seen: list[str]) -> Iterator[Database]:
    """The life of a database, noted. For the framework's own generator dependency: ``yield from``, or a loop."""
    db = Database()
    seen.append("opened")
    try:
        yield db
    finally:
        db.is_open = False
        seen.append("closed")


@task(name="contract.send_welcome")
async def send_welcome(user_id: int) -> str:
    return f"welcome {user_id}"


@dataclass(frozen=True)
class Front:
    """One framework's app, and what the contract needs to know of it."""

    app: ASGIApp
    hub: Hub
    seen: list[str]
    """What dependencies and jobs noted, in order: "opened", "ran", "closed"."""
    invalid_status: int
    """The framework's own answer to parameters that do not fit."""
    openapi_path: str
    resize: AsyncTask[..., Resized]
    double: SyncTask[..., int]
    note: AsyncTask[..., str]
    refused: dict[str, Callable[[], object]]
    refused_at_start: dict[str, Callable[[], ASGIApp]]


class BuildFront(Protocol):
    def __call__(self, *, url: str, config: Config, **options: Any) -> Front:
        """Make a fresh app; ``options`` go to ``ArqWeb``."""
        ...


def client_of(front: Front) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=front.app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://web")


@asynccontextmanager
async def started(app: ASGIApp) -> AsyncIterator[None]:
    """Run the app's lifespan by the ASGI protocol, as a server does. What its start-up raises is raised here."""
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    running = asyncio.ensure_future(app(scope, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    if (answer := await outbox.get())["type"] != "lifespan.startup.complete":
        await running
        raise RuntimeError(answer.get("message"))
    try:
        yield
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        await running


@asynccontextmanager
async def working(front: Front) -> AsyncIterator[None]:
    """An external worker of this app, on this loop."""
    worker = front.hub.worker(drain_s=1)
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await running


async def run_all(front: Front) -> None:
    """Run what is queued, to its end."""
    await front.hub.worker(burst=True).run()


async def post_resize(client: httpx.AsyncClient, **overrides: Any) -> httpx.Response:
    given: dict[str, Any] = {"json": OPS, "headers": {"X-User": "7"}} | overrides
    return await client.post(f"/api/images/{IMAGE}/resize", **given)


def job_of(front: Front, response: httpx.Response) -> Job[Any]:
    assert response.status_code == 202, response.text
    body = response.json()
    return front.hub.queue(body["queue"]).job(body["id"])


class FrontFixtures:
    """What the tests ask for; ``build`` is the framework's."""

    @pytest.fixture
    def config(self, namespace: str) -> Config:
        return Config(namespace=namespace, embedded="never")

    @pytest.fixture
    async def front(self, build: BuildFront, redis_url: str, config: Config) -> AsyncIterator[Front]:
        """The app without its lifespan: what is asked of it must work all the same."""
        front = build(url=redis_url, config=config)
        yield front
        await front.hub.aclose()

    @pytest.fixture
    async def client(self, front: Front) -> AsyncIterator[httpx.AsyncClient]:
        async with client_of(front) as client:
            yield client


class AcceptContract(FrontFixtures):
    """From the request to the 202."""

    async def test_a_request_is_answered_202_with_the_jobs_status_url(
        self, front: Front, client: httpx.AsyncClient
    ) -> None:
        """The caller knows at once where to watch; the bytes are the same in every framework."""
        response = await post_resize(client)

        job_id = response.json()["id"]
        expected = answers.accepted(job_id, "default", front.resize.name, JobPaths("/jobs"))
        assert response.status_code == 202
        assert response.content == expected.body
        assert response.headers["content-type"] == "application/json"
        assert expected.headers.items() <= dict(response.headers).items()
        assert await job_of(front, response).status() is JobState.QUEUED

    async def test_a_worker_side_dependency_is_not_opened_in_the_request(
        self, front: Front, client: httpx.AsyncClient
    ) -> None:
        """It costs a connection, and belongs to the process that does the work."""
        await post_resize(client)

        assert front.seen == []

    async def test_a_request_that_fails_validation_leaves_no_job(self, front: Front, client: httpx.AsyncClient) -> None:
        responses = [
            await post_resize(client, json=[{"name": "crop", "amount": "much"}]),
            await post_resize(client, params={"day": "yesterday"}),
            await client.post("/api/images/no-uuid/resize", json=OPS, headers={"X-User": "7"}),
            await client.post("/double/two"),
        ]

        # A path that is no UUID may be an unknown path to the framework.
        assert {response.status_code for response in responses} <= {front.invalid_status, 404}
        assert responses[0].status_code == responses[1].status_code == front.invalid_status
        assert await queued_count(front) == 0

    async def test_a_request_that_fails_authentication_leaves_no_job(
        self, front: Front, client: httpx.AsyncClient
    ) -> None:
        """RequestTime dependencies run before anything is enqueued."""
        response = await post_resize(client, headers={})

        assert response.status_code == 401
        assert await queued_count(front) == 0

    async def test_a_job_of_another_queue_says_so_in_its_url(self, front: Front, client: httpx.AsyncClient) -> None:
        """Ids are unique per queue, so the URL must name it."""
        response = await client.post("/note", json={"text": "hi"})

        assert response.headers["location"] == f"/jobs/{response.json()['id']}?queue=emails"
        assert response.json()["queue"] == "emails"

    async def test_a_redis_that_does_not_answer_is_a_503_problem(self, build: BuildFront, config: Config) -> None:
        """Nothing was enqueued, or nobody knows: the caller may try again. The answer does not say where Redis is."""
        port = free_port()
        front = build(url=f"redis://127.0.0.1:{port}/0", config=replace(config, command_deadline_s=0.05))

        async with client_of(front) as client:
            response = await client.post("/double/2")

        assert response.status_code == 503
        assert response.content == problems.unavailable().body
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["retry-after"] == "1"
        assert str(port) not in response.text
        await front.hub.aclose()

    async def test_arguments_over_the_limit_are_a_413_problem(
        self, build: BuildFront, redis_url: str, config: Config
    ) -> None:
        """It is the caller's body that is too large, not our fault."""
        front = build(url=redis_url, config=replace(config, max_payload_bytes=100))

        async with client_of(front) as client:
            response = await client.post("/note", json={"text": "x" * 200})

        assert response.status_code == 413
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["type"] == problems.PROBLEM_BASE + "payload-too-large"
        assert set(response.json()) == {"type", "title", "status", "detail"}
        await front.hub.aclose()

    async def test_a_decorated_function_is_still_the_plain_function(self, front: Front) -> None:
        """It is unit-tested without web framework, worker and Redis."""
        assert front.double(21) == 42
        assert await front.note(Note("hi")) == "hi"

    async def test_a_decorated_function_can_be_enqueued_by_hand(self, front: Front, client: httpx.AsyncClient) -> None:
        """The route and other code share one task."""
        response = await client.post("/by-hand/4")
        assert response.is_success, response.text
        await run_all(front)

        assert await front.hub.queue().job(response.json()["job"]).result(timeout=5) == 8

    async def test_openapi_shows_the_202_and_its_problems_and_hides_the_worker_side(
        self, front: Front, client: httpx.AsyncClient
    ) -> None:
        """The generated client must know what it gets; it must not be asked for a database."""
        document = (await client.get(front.openapi_path)).json()
        [path] = [path for path in document["paths"] if path.startswith("/api/images/")]
        operation = document["paths"][path]["post"]

        assert {"200", "201"}.isdisjoint(operation["responses"])
        assert {"202", "413", "503"} <= operation["responses"].keys()
        accepted = operation["responses"]["202"]
        assert "Location" in accepted["headers"]
        schema = resolved(document, accepted["content"]["application/json"]["schema"])
        assert schema["properties"].keys() == {"id", "state", "done", "queue", "task", "created", "links"}
        assert {each["name"].lower() for each in operation["parameters"]} >= {"image_id", "day", "x-trace", "x-user"}
        assert {"db", "repo", "ctx", "progress", "queue"}.isdisjoint(each["name"] for each in operation["parameters"])
        assert "requestBody" in operation

    async def test_openapi_shows_the_jobs_result_and_the_way_to_its_status(
        self, front: Front, client: httpx.AsyncClient
    ) -> None:
        """The 202 is not what the caller wants: a generated client must find from it what it does."""
        document = (await client.get(front.openapi_path)).json()
        [path] = [path for path in document["paths"] if path.startswith("/api/images/")]
        accepted = document["paths"][path]["post"]["responses"]["202"]
        link, result = accepted["links"]["status"], accepted["x-result"]
        schema = resolved(document, result["content"]["application/json"]["schema"])
        linked = resolved(document, {"$ref": link["operationRef"]})

        assert result["status"] == 201
        assert schema["properties"].keys() == {"image_id", "ops", "owner", "day", "trace", "is_shared", "attempt"}
        assert resolved(document, schema["properties"]["ops"]["items"])["properties"].keys() == {"name", "amount"}
        assert linked == document["paths"]["/jobs/{job_id}"]["get"]
        assert link["parameters"] == {"job_id": "$response.body#/id", "queue": "$response.body#/queue"}
        assert link["parameters"].keys() <= {each["name"] for each in linked["parameters"]}

    async def test_each_parameters_side_can_be_told(self, front: Front, client: httpx.AsyncClient) -> None:
        """``app-worker routes`` prints it, so that nothing crosses unseen."""
        front.hub.collect()

        assert shown(front.resize, "sides") == {
            "image_id": "request",
            "data": "request",
            "day": "request",
            "trace": "request",
            "owner": "request (dependency)",
            "db": "worker (dependency)",
            "repo": "worker (dependency)",
            "ctx": "worker (context)",
            "progress": "worker (context)",
        }
        assert shown(front.resize, "route").startswith("POST /api/images/{image_id")
        assert shown(front.resize, "route").endswith("/resize")

    @pytest.mark.parametrize("word", REFUSED)
    async def test_what_must_not_cross_is_refused_at_its_definition(self, front: Front, word: str) -> None:
        """An error at import is seen by whoever wrote it; one in the worker, by the users."""
        with pytest.raises(InvalidRoute) as caught:
            front.refused[word]()

        assert caught.value.parameter == "bad"
        assert caught.value.remedy

    @pytest.mark.parametrize("word", REFUSED_AT_START)
    async def test_what_cannot_work_does_not_start(self, front: Front, word: str) -> None:
        """These show only once the routes are known."""
        with pytest.raises(InvalidRoute) as caught:
            async with started(front.refused_at_start[word]()):
                pass

        assert caught.value.remedy


class QueueContract(FrontFixtures):
    """The queue in ordinary routes, and the status of a job."""

    @pytest.mark.parametrize(
        ("path", "queue"), [("/signup/3", "default"), ("/signup-sync/3", "default"), ("/mail/3", "emails")]
    )
    async def test_a_route_that_asks_for_a_queue_gets_it(
        self, front: Front, client: httpx.AsyncClient, path: str, queue: str
    ) -> None:
        response = await client.post(path)
        assert response.is_success, response.text
        await run_all(front)

        job = front.hub.queue(queue).job(response.json()["job"], send_welcome)
        assert await job.result(timeout=5) == "welcome 3"

    async def test_the_status_of_a_job_is_at_its_location(self, front: Front, client: httpx.AsyncClient) -> None:
        """Also for a queue other than the default one."""
        posted = await client.post("/note", json={"text": "hi"})
        before = await client.get(posted.headers["location"])
        await run_all(front)
        after = await client.get(posted.headers["location"])

        assert (before.status_code, before.json()["state"], before.json()["done"]) == (200, "queued", False)
        assert (after.status_code, after.json()["state"], after.json()["result"]) == (200, "succeeded", "hi")
        assert after.headers["content-type"] == "application/json"
        assert after.headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("path", ["/jobs/unknown", "/jobs/unknown?queue=undeclared", "/jobs/no%20id"])
    async def test_an_unknown_job_is_a_404_problem(self, client: httpx.AsyncClient, path: str) -> None:
        """An undeclared queue is not told apart from an unknown job."""
        response = await client.get(path)

        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["type"] == problems.PROBLEM_BASE + "job-not-found"

    async def test_a_job_whose_id_was_chosen_is_not_shown(self, front: Front, client: httpx.AsyncClient) -> None:
        """Such an id can be guessed: order:1, order:2, ... Only a random one is a key to the job."""
        job = await front.hub.queue().enqueue(send_welcome.options(id="welcome:3"), 3)

        assert (await client.get(f"/jobs/{job.id}")).status_code == 404

    async def test_the_status_route_can_be_elsewhere(self, build: BuildFront, redis_url: str, config: Config) -> None:
        """Locations follow it."""
        front = build(url=redis_url, config=config, jobs_path="/api/work")

        async with client_of(front) as client:
            posted = await client.post("/double/2")
            found = await client.get(posted.headers["location"])

        assert posted.headers["location"].startswith("/api/work/")
        assert found.json()["id"] == posted.json()["id"]
        await front.hub.aclose()

    async def test_the_status_route_can_be_left_out(self, build: BuildFront, redis_url: str, config: Config) -> None:
        """And no link leads there."""
        front = build(url=redis_url, config=config, jobs_path=None)

        async with client_of(front) as client:
            assert (await client.get("/jobs/unknown")).headers["content-type"] != "application/problem+json"
            assert "operationRef" not in (await client.get(front.openapi_path)).text


class WorkerContract(FrontFixtures):
    """From the queue to the result."""

    async def test_the_handlers_arguments_arrive_with_their_types(
        self, front: Front, client: httpx.AsyncClient
    ) -> None:
        """What was validated at the request is what the job gets."""
        response = await post_resize(client, params={"day": "2026-11-20"}, headers={"X-User": "7", "X-Trace": "t1"})
        await run_all(front)

        job = front.hub.queue().job(response.json()["id"], front.resize)
        ops = [Op("crop", Decimal("0.1")), Op("blur", Decimal(2))]
        assert await job.result(timeout=5) == Resized(IMAGE, ops, 7, date(2026, 11, 20), "t1", True, 1)

    async def test_parameters_left_out_have_their_defaults(self, front: Front, client: httpx.AsyncClient) -> None:
        response = await post_resize(client)
        await run_all(front)

        result = await front.hub.queue().job(response.json()["id"], front.resize).result(timeout=5)
        assert (result.day, result.trace) == (date(2026, 1, 1), "")

    async def test_dependencies_are_opened_once_per_job_and_closed_after_it(
        self, front: Front, client: httpx.AsyncClient
    ) -> None:
        """Two parameters share one database within a job; two jobs share none."""
        responses = [await post_resize(client) for _ in range(2)]
        for response in responses:
            await front.hub.queue().job(response.json()["id"]).status()
        await front.hub.worker(burst=True, concurrency=1).run()

        assert front.seen == ["opened", "ran", "closed"] * 2

    async def test_dependencies_are_closed_when_the_job_fails(self, front: Front, client: httpx.AsyncClient) -> None:
        """One try is the default of a route: it may not be safe to run twice."""
        job = job_of(front, await client.post("/crash"))
        await run_all(front)

        with pytest.raises(JobFailed, match="broken pixel") as caught:
            await job.result(timeout=5)
        assert caught.value.error_type == "ValueError"
        assert front.seen == ["opened", "closed"]

    async def test_dependencies_are_closed_when_the_job_is_cancelled(
        self, front: Front, client: httpx.AsyncClient
    ) -> None:
        async with working(front):
            job = job_of(front, await client.post("/hang"))
            await wait_until(lambda: "ran" in front.seen, description="the job runs")

            assert await job.cancel() == "requested"
            await wait_until(lambda: has_state(job, JobState.CANCELLED), description="the job is cancelled")

        assert front.seen == ["opened", "ran", "closed"]

    async def test_a_plain_def_runs_in_the_worker_too(self, front: Front, client: httpx.AsyncClient) -> None:
        job = job_of(front, await client.post("/double/21"))
        await run_all(front)

        assert await job.result(timeout=5) == 42

    async def test_an_http_exception_ends_the_job_at_once_and_is_kept(
        self, front: Front, client: httpx.AsyncClient
    ) -> None:
        """It is an answer, not an accident: trying again would give it again."""
        job = job_of(front, await client.post("/refuse/404"))
        await run_all(front)

        info = await job.info()
        assert (info.state, info.attempt) == (JobState.DEAD, 1)
        assert info.error is not None
        assert info.error.data is not None
        data = dict(info.error.data)
        headers = {name.lower(): value for name, value in data.pop("headers").items()}  # type: ignore[attr-defined]
        assert data == {"status_code": 404, "detail": "no such image"}
        assert headers == {"x-why": "gone"}

    async def test_an_embedded_worker_runs_jobs_while_the_app_lives(
        self, build: BuildFront, redis_url: str, config: Config
    ) -> None:
        """The same functions, in the web process; it is gone when the app is."""
        front = build(url=redis_url, config=config, embedded="always")

        async with started(front.app), client_of(front) as client:
            job = job_of(front, await client.post("/double/21"))
            assert await job.result(timeout=10) == 42
            assert front.hub.embedded is not None

        assert front.hub.embedded is None

    async def test_a_worker_process_starts_no_embedded_worker(
        self, build: BuildFront, redis_url: str, config: Config, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It runs the app's lifespan too, for the app's own resources."""
        monkeypatch.setenv(ROLE_ENV, "worker")
        front = build(url=redis_url, config=config, embedded="always")

        async with started(front.app):
            assert front.hub.embedded is None

    async def test_two_apps_in_one_process_do_not_meet(self, build: BuildFront, redis_url: str, config: Config) -> None:
        """Nothing is global."""
        one, other = (build(url=redis_url, config=config) for _ in range(2))

        async with client_of(one) as client:
            job = job_of(one, await post_resize(client))
            await run_all(one)

        assert await job.status() is JobState.SUCCEEDED
        assert one.seen == ["opened", "ran", "closed"]
        assert other.seen == []
        await one.hub.aclose()
        await other.hub.aclose()


class FrontContract(AcceptContract, QueueContract, WorkerContract):
    """All of it."""


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, where it stands among the components."""
    while "$ref" in schema:
        found: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step.replace("~1", "/").replace("~0", "~")]
        schema = found
    return schema


def shown(task: object, attribute: str) -> Any:
    """What a route's task says of itself once the routes were collected: ``sides`` and ``route``."""
    return getattr(task, attribute)


async def queued_count(front: Front) -> int:
    """Jobs in all queues: those that a fresh worker would run."""
    worker = front.hub.worker(burst=True)
    await worker.run()
    return worker.counts.succeeded + worker.counts.failed


async def has_state(job: Job[Any], state: JobState) -> bool:
    return await job.status() is state
