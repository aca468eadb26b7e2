"""What only the FastAPI adapter does: its dependencies, routers and mounts, its documentation, whole processes."""

import importlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import httpx
import msgspec
import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    File,
    HTTPException,
    Query,
    Request,
    Response,
    Security,
)
from fastapi import WebSocket as FastAPIWebSocket
from fastapi.security import SecurityScopes
from pydantic import BaseModel, Field, RootModel
from starlette.testclient import TestClient

import arq_web
from arq_web import Config, Hub, Job, JobFailed, JobState
from arq_web.errors import InvalidArguments, InvalidConfig, InvalidRoute
from arq_web.fastapi import INJECTED, ArqWeb, Queue, RequestTime, background_job
from tests.integrations.contract import started
from tests.support.ports import free_port
from tests.support.waiting import wait_until

APP = "tests.integrations.fastapi_app"
ROOT = Path(__file__).parents[2]
REPORT = {"title": "taxes"}
ANN = {"Authorization": "Bearer ann"}
SINCE = "2026-11-20T08:00:00+01:00"


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, redis_url: str, namespace: str) -> Iterator[ModuleType]:
    """The app of ``fastapi_app``, freshly imported: an app has one set of queues in its life."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("ARQ_WEB_NAMESPACE", namespace)
    monkeypatch.setenv("ARQ_WEB_EMBEDDED", "never")
    sys.modules.pop(APP, None)
    yield importlib.import_module(APP)
    sys.modules.pop(APP, None)


@pytest.fixture
async def hub(module: ModuleType) -> AsyncIterator[Hub]:
    hub: Hub = module.app.state.arq_web
    yield hub
    await hub.aclose()


@pytest.fixture
async def plain(redis_url: str, namespace: str) -> AsyncIterator[FastAPI]:
    """An app without routes."""
    app = FastAPI()
    web = ArqWeb(app, url=redis_url, config=Config(namespace=namespace, embedded="never"))
    yield app
    await web.hub.aclose()


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://web")


async def post(app: FastAPI, path: str, **request: Any) -> httpx.Response:
    async with client_of(app) as client:
        return await client.post(path, **request)


async def run(app: FastAPI, path: str, **request: Any) -> Any:
    """Post, work, and return the result."""
    response = await post(app, path, **request)
    assert response.status_code == 202, response.text
    hub: Hub = app.state.arq_web
    await hub.worker(burst=True).run()
    return await job_of(hub, response).result(timeout=5)


def job_of(hub: Hub, response: httpx.Response) -> Job[Any]:
    return hub.queue(response.json()["queue"]).job(response.json()["id"])


# -- parameters and dependencies ------------------------------------------------------------


async def test_parameters_of_every_kind_reach_the_job(module: ModuleType, hub: Hub) -> None:
    """Path, query, cookie, body, and the value of the dependency that read the header; two classes, one connection."""
    query: dict[str, Any] = {"since": SINCE, "pages": 7, "tags": ["a", "b"]}
    headers = ANN | {"Cookie": "session=s1"}

    result = await run(module.app, "/api/v1/reports/2026", json=REPORT, params=query, headers=headers)

    assert result == {"made": "2026 taxes ann 2026-11-20T08:00:00+01:00 7 ['a', 'b'] s1"}


async def test_defaults_written_as_query_hold_for_a_job_enqueued_by_hand(module: ModuleType, hub: Hub) -> None:
    """Python's own default of ``pages: int = Query(5)`` is the Query."""
    since = module.datetime_of(SINCE)
    job = await hub.queue().enqueue(
        module.make_report, 2026, module.Report(**REPORT), module.User(name="bob"), since=since
    )
    await hub.worker(burst=True).run()

    assert await job.result(timeout=5) == {"made": "2026 taxes bob 2026-11-20T08:00:00+01:00 5 ['all'] None"}


async def test_a_worker_side_parameter_cannot_be_passed_by_hand(module: ModuleType, hub: Hub) -> None:
    """It would have to travel."""
    with pytest.raises(InvalidArguments, match="emails is filled in by the worker"):
        await hub.queue().enqueue(module.send_mails, emails=hub.queue())


async def test_form_fields_are_arguments_too(module: ModuleType, hub: Hub) -> None:
    result = await run(module.app, "/api/v1/forms", data={"name": "ann", "day": "2026-11-20"})

    assert result == "ann 2026-11-20"


async def test_a_job_asks_for_queues_by_annotation_and_through_its_dependencies(module: ModuleType, hub: Hub) -> None:
    """A queue needs no request, so a class that asks for one is still the worker's to make."""
    assert await run(module.app, "/api/v1/mails") == ["emails", "default", "default"]


async def test_a_def_job_gets_sync_queues_and_sync_dependencies(module: ModuleType, hub: Hub) -> None:
    assert await run(module.app, "/api/v1/pages/3") == "3 sql default emails"
    assert module.seen == ["dialect", "no dialect"]


async def test_dependency_overrides_hold_on_both_sides(module: ModuleType, hub: Hub) -> None:
    """A test replaces the user in the request and the dialect in the worker in the same way."""
    module.app.dependency_overrides[module.current_user] = lambda: module.User(name="eve")
    module.app.dependency_overrides[module.get_dialect] = lambda: "sql"

    result = await run(module.app, "/api/v1/reports/2026", json=REPORT, params={"since": SINCE})

    assert result["made"].startswith("2026 taxes eve")
    assert module.seen == []


async def test_an_override_that_reads_the_request_says_so_in_the_job(module: ModuleType, hub: Hub) -> None:
    """The side was decided at import, by the original."""

    def by_header(dialect: Annotated[str, Query()]) -> str:
        return dialect

    module.app.dependency_overrides[module.get_dialect] = by_header

    with pytest.raises(JobFailed, match="reads the request, and there is none in the worker"):
        await run(module.app, "/api/v1/pages/3")


async def test_a_dependency_that_swallows_the_jobs_error_does_not_make_it_a_success(plain: FastAPI) -> None:
    """``except: log`` without ``raise`` is a common slip; FastAPI refuses it in routes as well."""

    async def swallow() -> AsyncIterator[int]:
        try:
            yield 1
        except ValueError:
            return

    @plain.post("/swallowed")
    @background_job
    async def swallowed(number: Annotated[int, Depends(swallow)]) -> None:
        raise ValueError("lost?")

    with pytest.raises(JobFailed, match="lost"):
        await run(plain, "/swallowed")


async def test_what_was_opened_is_closed_when_a_later_dependency_fails(plain: FastAPI) -> None:
    seen: list[str] = []

    async def outer() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            seen.append("closed")

    async def second() -> int:
        raise ConnectionError("no database")

    @plain.post("/half")
    @background_job
    async def half(one: Annotated[int, Depends(outer)], two: Annotated[int, Depends(second)]) -> None: ...

    with pytest.raises(JobFailed, match="no database"):
        await run(plain, "/half")
    assert seen == ["closed"]


async def test_dependencies_of_the_route_run_in_the_request(plain: FastAPI) -> None:
    """Rate limits and guards stand there; what they set on the response is kept."""

    async def limit(response: Response) -> None:
        response.headers["x-remaining"] = "9"
        response.set_cookie("seen", "1")

    async def forbid() -> None:
        raise HTTPException(403)

    @plain.post("/limited", dependencies=[Depends(limit)])
    @background_job
    async def limited() -> None: ...

    plain.post("/forbidden", dependencies=[Depends(forbid)])(limited)

    response = await post(plain, "/limited")
    assert (response.status_code, response.headers["x-remaining"]) == (202, "9")
    assert response.cookies["seen"] == "1"
    assert (await post(plain, "/forbidden")).status_code == 403


async def test_request_time_moves_a_dependency_that_reads_no_request(plain: FastAPI) -> None:
    """Its moment may matter: a price as it was when the order came in."""
    seen: list[str] = []

    async def price() -> int:
        seen.append("asked")
        return 7

    @plain.post("/order")
    @background_job
    async def order(price: Annotated[int, RequestTime(price)]) -> int:
        return price

    await post(plain, "/order")

    assert seen == ["asked"]


async def test_security_with_scopes_is_resolved_in_the_request(plain: FastAPI) -> None:
    """It reads the request by its nature; the user it finds is an argument."""

    def user(scopes: SecurityScopes, request: Request) -> str:
        return f"{request.headers['x-user']} may {scopes.scope_str}"

    @plain.post("/secure")
    @background_job
    async def secure(user: Annotated[str, Security(user, scopes=["read", "write"])]) -> str:
        return user

    assert await run(plain, "/secure", headers={"x-user": "ann"}) == "ann may read write"


async def test_a_union_of_models_travels_in_a_root_model(plain: FastAPI) -> None:
    """The remedy that the refusal of the bare union names."""

    @plain.post("/pets")
    @background_job
    async def adopt(pet: RootModel[Cat | Dog]) -> str:
        return type(pet.root).__name__

    assert await run(plain, "/pets", json={"kind": "dog"}) == "Dog"


async def test_an_http_exception_with_any_detail_can_be_kept(plain: FastAPI) -> None:
    """A detail may hold whatever JSON does not: the job is settled all the same."""

    @plain.post("/odd")
    @background_job
    async def odd() -> None:
        raise HTTPException(409, {"seen": {1, 2}, "what": object})

    hub: Hub = plain.state.arq_web
    response = await post(plain, "/odd")
    await hub.worker(burst=True).run()

    info = await job_of(hub, response).info()
    assert info.state is JobState.DEAD
    assert info.error is not None
    assert info.error.data is not None
    assert info.error.data["status_code"] == 409


# -- routes, routers, mounts ----------------------------------------------------------------


async def test_a_router_may_be_included_after_the_first_use(plain: FastAPI) -> None:
    """Tests add routes to an app that has answered already."""
    await post(plain, "/nothing")
    await plain.state.arq_web.queue().job("0" * 32).queue.store.read("0" * 32)
    late = APIRouter()

    @late.post("/late/{number}")
    @background_job
    async def double(number: int) -> int:
        return number * 2

    plain.include_router(late)

    assert await run(plain, "/late/2") == 4


async def test_a_job_on_two_routes_is_one_task(plain: FastAPI) -> None:
    """And the plain function may be a route as well: that is no mistake in the order of decorators."""

    async def double(number: int) -> int:
        return number * 2

    plain.post("/now/{number}")(double)
    job = background_job(double)
    plain.post("/v1/{number}")(job)
    plain.put("/v2/{number}")(job)

    assert (await post(plain, "/now/2")).json() == 4
    assert await run(plain, "/v1/2") == 4
    assert getattr(job, "route", None) == "POST /v1/{number}, PUT /v2/{number}"


async def test_a_mounted_app_with_job_routes_needs_an_arq_web(plain: FastAPI) -> None:
    """Its lifespan never runs and nobody would know its tasks: say so before the first job is lost."""
    sub = FastAPI()

    @sub.post("/resize")
    @background_job
    async def resize(image_id: int) -> None: ...

    plain.mount("/sub", sub)

    with pytest.raises(InvalidRoute, match="mounted at '/sub' that has no ArqWeb"):
        async with started(plain):
            pass
    with pytest.raises(InvalidRoute, match="its app has no ArqWeb"):
        await post(plain, "/sub/resize?image_id=3")


async def test_a_mounted_app_with_an_arq_web_of_its_own_names_its_own_paths(
    plain: FastAPI, redis_url: str, namespace: str
) -> None:
    """The Location must lead to where the caller is, not to where the app believes to be."""
    sub = FastAPI()
    web = ArqWeb(sub, url=redis_url, config=Config(namespace=namespace, embedded="never"))

    @sub.post("/double/{number}")
    @background_job
    async def double(number: int) -> int:
        return number * 2

    plain.mount("/sub", sub)

    async with started(plain), client_of(plain) as client:
        posted = await client.post("/sub/double/2")
        found = await client.get(posted.headers["location"])

    assert posted.headers["location"].startswith("/sub/jobs/")
    assert found.json()["links"]["self"] == posted.headers["location"]
    await web.hub.aclose()


async def test_a_queue_that_the_app_does_not_have_is_refused_at_start(plain: FastAPI) -> None:
    @plain.post("/signup", status_code=202)
    @background_job(queue="nope")
    async def signup() -> None: ...

    with pytest.raises(InvalidRoute, match=r"'POST /signup'.* its queue 'nope' is none of .*queues=\[\.\.\., 'nope'\]"):
        await post(plain, "/signup")


async def test_without_lifespan_a_route_that_cannot_work_is_refused_at_the_first_use(plain: FastAPI) -> None:
    """``TestClient(app)`` without ``with`` never starts the app."""

    def mailer(queue: Queue) -> arq_web.Queue:
        return queue

    @plain.post("/signup")
    async def signup(mailer: Annotated[arq_web.Queue, Depends(mailer)]) -> None:
        await mailer.store.read("0" * 32)

    with pytest.raises(InvalidRoute, match=r"parameter 'queue' of 'POST /signup' .* mailer\(\) is a def.* SyncQueue"):
        await post(plain, "/signup")


def test_test_client_works_without_lifespan(module: ModuleType) -> None:
    """Each request then has a loop of its own."""
    client = TestClient(module.app)

    first, second = (client.post("/api/v1/forms", data={"name": "ann", "day": "2026-11-20"}) for _ in range(2))

    assert (first.status_code, second.status_code) == (202, 202)
    assert client.get(second.headers["location"]).json()["state"] == "queued"


def test_a_websocket_asks_for_queues_in_the_same_way(module: ModuleType) -> None:
    with TestClient(module.app) as client, client.websocket_connect("/ws") as socket:
        assert socket.receive_json() == ["default", "emails"]


def test_the_core_queue_in_a_route_says_what_to_import() -> None:
    """The newcomer's first mistake."""
    app = FastAPI()

    async def signup(queue: arq_web.Queue) -> None: ...

    with pytest.raises(TypeError, match=r"from arq_web\.fastapi import Queue"):
        app.post("/signup")(signup)


# -- what is refused -------------------------------------------------------------------------


async def cross_response(bad: Response) -> None: ...
async def cross_tasks(bad: BackgroundTasks) -> None: ...
async def cross_scopes(bad: SecurityScopes) -> None: ...
async def cross_socket(bad: FastAPIWebSocket) -> None: ...
async def cross_file(bad: Annotated[bytes, File()]) -> None: ...
async def cross_union(bad: Annotated[Cat | Dog, Field(discriminator="kind")]) -> None: ...
async def cross_rest(*bad: int) -> None: ...
async def cross_nothing(bad: int = INJECTED) -> None: ...
async def cross_session(bad: Annotated[socket.socket, Depends(lambda request: request.state.db)]) -> None: ...
def cross_async_queue(bad: Queue = INJECTED) -> None: ...


@pytest.mark.parametrize(
    ("function", "remedy"),
    [
        (cross_response, "dependencies="),
        (cross_tasks, "Queue"),
        (cross_scopes, "RequestTime"),
        (cross_socket, "RequestTime"),
        (cross_file, "Store it"),
        (cross_union, "RootModel"),
        (cross_rest, "ordinary parameter"),
        (cross_nothing, "Depends"),
        (cross_session, "not read the request"),
        (cross_async_queue, "SyncQueue"),
    ],
)
def test_a_refused_parameter_is_named_with_its_remedy(function: Any, remedy: str) -> None:
    with pytest.raises(InvalidRoute) as caught:
        background_job(function)

    assert caught.value.parameter == "bad"
    assert remedy in str(caught.value)


def test_an_app_has_one_arq_web() -> None:
    """Two would share neither tasks nor connections."""
    app = FastAPI()
    ArqWeb(app)

    with pytest.raises(InvalidConfig, match="one is enough"):
        ArqWeb(app)


@pytest.mark.parametrize("path", ["jobs", "/jobs/", "/", "/jobs/{id}"])
def test_a_jobs_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(InvalidConfig, match="jobs_path"):
        ArqWeb(FastAPI(), jobs_path=path)


def test_without_fastapi_the_import_says_what_to_install() -> None:
    """``arq_web.fastapi`` is there in every installation."""
    code = "import sys; sys.modules['fastapi'] = None\nimport arq_web.fastapi"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)

    assert "FastAPI is not installed. Run: pip install 'arq-web[fastapi]'" in done.stderr


# -- the documentation ------------------------------------------------------------------------


def test_the_document_keeps_what_fastapi_says_and_adds_the_result(module: ModuleType) -> None:
    """Also when it is asked for twice: FastAPI keeps the one that it made."""
    module.app.openapi()
    operation = module.app.openapi()["paths"]["/api/v1/reports/{year}"]["post"]

    assert operation["description"] == "Make a report."
    assert operation["tags"] == ["reports"]
    assert list(operation["responses"]) == ["202", "400", "410", "413", "422", "503"]
    result = operation["responses"]["202"]["x-result"]
    assert result["status"] == 200
    assert result["content"]["application/json"]["schema"]["additionalProperties"] == {"type": "string"}


def test_a_202_that_the_route_describes_itself_keeps_its_words() -> None:
    """And gets the rest from us."""
    app = FastAPI()

    @app.post("/order", responses={202: {"description": "Ordered"}})
    @background_job
    async def order() -> int:
        return 1

    ArqWeb(app)
    accepted = app.openapi()["paths"]["/order"]["post"]["responses"]["202"]

    assert accepted["description"] == "Ordered"
    assert accepted["x-result"]["content"]["application/json"]["schema"]["type"] == "integer"
    assert "Location" in accepted["headers"]


def test_every_reference_in_the_document_leads_somewhere(module: ModuleType) -> None:
    """Generators of clients stop at the first that does not."""
    document = module.app.openapi()

    for reference in references(document):
        name = reference.removeprefix("#/components/schemas/")
        assert name in document["components"]["schemas"], reference


def test_a_result_that_fastapi_cannot_describe_is_no_obstacle() -> None:
    """A Struct is fine as a result of ours; FastAPI knows none."""

    class Point(msgspec.Struct):
        x: int

    app = FastAPI()

    async def locate() -> Point:
        return Point(1)

    app.post("/locate")(background_job(locate))
    ArqWeb(app)

    assert app.openapi()["paths"]["/locate"]["post"]["responses"]["202"]["x-result"]["status"] == 200


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


# -- whole processes -------------------------------------------------------------------------

WORK = f"""
import asyncio
from {APP} import app
asyncio.run(app.state.arq_web.worker().run())
"""


@contextmanager
def process(*arguments: str) -> Iterator[None]:
    """A Python process of this test."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "integrations")])
    running = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=os.environ | {"PYTHONPATH": path})
    try:
        yield
    finally:
        running.kill()
        running.wait()


async def test_uvicorn_and_a_worker_process_share_the_app(module: ModuleType, hub: Hub) -> None:
    """The names of tasks and the form of arguments are the same in both."""
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"

    with process("-m", "uvicorn", f"{APP}:app", "--port", port, "--log-level", "warning"), process("-c", WORK):
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            await wait_until(lambda: answers(client), timeout_s=20, description="uvicorn answers")
            request: dict[str, Any] = {"json": REPORT, "params": {"since": SINCE}, "headers": ANN}
            posted = await client.post("/api/v1/reports/2026", **request)
            assert posted.status_code == 202, posted.text
            result = await job_of(hub, posted).result(timeout=20)
            shown = (await client.get(posted.headers["location"])).json()

    assert shown["state"] == "succeeded"
    assert shown["result"] == result == {"made": "2026 taxes ann 2026-11-20T08:00:00+01:00 5 ['all'] None"}


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/jobs/none")).status_code == 404
    except httpx.TransportError:
        return False
