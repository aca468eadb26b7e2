"""Litestar keeps the contract; and what only Litestar has: controllers, guards, layers, injection by name."""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from litestar import Controller, Litestar, Request, Response, Router, delete, get, post, route
from litestar.connection import ASGIConnection
from litestar.datastructures import State, UploadFile
from litestar.datastructures.state import ImmutableState
from litestar.di import Dependency, NamedDependency, Provide
from litestar.dto import DataclassDTO, DTOConfig
from litestar.events import BaseEventEmitterBackend
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Operation
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter
from pydantic import BaseModel, SecretStr
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import arq_web
from arq_web import Config, Hub, Job, JobFailed
from arq_web.errors import InvalidConfig, InvalidRoute, MissingExtra
from arq_web.litestar import (
    INJECTED,
    ArqWeb,
    FromQueue,
    JobContext,
    Progress,
    Queue,
    RequestTime,
    SyncQueue,
    background_job,
)
from tests.integrations.contract import (
    BuildFront,
    Database,
    Front,
    FrontContract,
    Note,
    Op,
    Repo,
    Resized,
    opened,
    send_welcome,
    shown,
    started,
)


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)


class Login(BaseModel):
    password: SecretStr


async def current_owner(x_user: Annotated[str | None, HeaderParameter(name="X-User")] = None) -> int:
    if x_user is None:
        raise NotAuthorizedException
    return int(x_user)


async def make_repo(db: NamedDependency[Database]) -> Repo:
    return Repo(db)


def build_front(*, url: str, config: Config, **options: Any) -> Front:  # noqa: C901 - ten routes
    """The contract's app, in Litestar."""
    seen: list[str] = []
    plugin = ArqWeb(url=url, tasks=[send_welcome], config=config, queues=("default", "emails"), **options)

    async def db() -> Any:
        for each in opened(seen):
            yield each

    @background_job(name="contract.resize", max_tries=2, result_status=201)
    async def resize(
        image_id: FromPath[UUID],
        data: JSONBody[list[Op]],
        owner: RequestTime[int],
        db: NamedDependency[Database] = INJECTED,
        repo: NamedDependency[Repo] = INJECTED,
        ctx: JobContext = INJECTED,
        progress: Progress = INJECTED,
        day: FromQuery[date] = date(2026, 1, 1),
        trace: Annotated[str, HeaderParameter(name="X-Trace")] = "",
    ) -> Resized:
        await progress(0.5, "half")
        seen.append("ran")
        return Resized(image_id, data, owner, day, trace, repo.db is db, ctx.attempt)

    @background_job(name="contract.double")
    def double(number: FromPath[int]) -> int:
        return number * 2

    @background_job(name="contract.refuse", max_tries=3)
    async def refuse(status: FromPath[int]) -> None:
        raise HTTPException(status_code=status, detail="no such image", headers={"X-Why": "gone"})

    @background_job(name="contract.crash")
    async def crash(db: NamedDependency[Database]) -> None:
        raise ValueError("broken pixel")

    @background_job(name="contract.hang")
    async def hang(db: NamedDependency[Database]) -> None:
        seen.append("ran")
        await asyncio.Event().wait()

    @background_job(name="contract.note", queue="emails")
    async def note(data: JSONBody[Note]) -> str:
        return data.text

    @post("/signup/{user_id:int}")
    async def signup(user_id: FromPath[int], queue: Queue) -> dict[str, str]:
        return {"job": (await queue.enqueue(send_welcome, user_id)).id}

    @post("/signup-sync/{user_id:int}", sync_to_thread=True)
    def signup_sync(user_id: FromPath[int], sync_queue: SyncQueue) -> dict[str, str]:
        return {"job": sync_queue.enqueue(send_welcome, user_id).id}

    @post("/mail/{user_id:int}")
    async def mail(user_id: FromPath[int], emails: Annotated[arq_web.Queue, FromQueue("emails")]) -> dict[str, str]:
        return {"job": (await emails.enqueue(send_welcome, user_id)).id}

    @post("/by-hand/{number:int}")
    async def by_hand(number: FromPath[int], queue: Queue) -> dict[str, str]:
        return {"job": (await queue.enqueue(double, number)).id}

    app = Litestar(
        [
            Router("/api", route_handlers=[post("/images/{image_id:uuid}/resize", status_code=202)(resize)]),
            post("/double/{number:int}")(double),
            post("/refuse/{status:int}")(refuse),
            post("/crash")(crash),
            post("/hang")(hang),
            post("/note")(note),
            signup,
            signup_sync,
            mail,
            by_hand,
        ],
        dependencies={"db": db, "repo": make_repo, "owner": current_owner},
        plugins=[plugin],
    )
    return Front(
        app=app,
        hub=plugin.hub,
        seen=seen,
        invalid_status=400,
        openapi_path="/schema/openapi.json",
        resize=resize,
        double=double,
        note=note,
        refused=refused_jobs(),
        refused_at_start=refused_apps(url, config),
    )


def refused_jobs() -> dict[str, Callable[[], object]]:
    async def upload(bad: UploadFile) -> None: ...
    async def request(bad: Request[Any, Any, Any]) -> None: ...
    async def secret(data: FromPath[int], bad: FromQuery[Login]) -> None: ...
    async def orm(bad: RequestTime[Row]) -> None: ...
    async def callback(bad: Callable[[], int]) -> None: ...

    functions = {"upload": upload, "request": request, "secret": secret, "orm": orm, "callable": callback}
    return {word: functools.partial(background_job, fn) for word, fn in functions.items()}


def refused_apps(url: str, config: Config) -> dict[str, Callable[[], Any]]:
    def app_of(*handlers: Any) -> Litestar:
        return Litestar(handlers, plugins=[ArqWeb(url=url, config=config)])

    def wrong_order() -> Litestar:
        @background_job
        @post("/wrong")
        async def wrong() -> None: ...

        return app_of(wrong)

    def async_queue() -> Litestar:
        @post("/wrong", sync_to_thread=True)
        def wrong(queue: Queue) -> None: ...

        return app_of(wrong)

    def get_route() -> Litestar:
        @get("/wrong")
        @background_job
        async def wrong() -> None: ...

        return app_of(wrong)

    return {"wrong order": wrong_order, "async queue in a def route": async_queue, "a GET route": get_route}


class TestLitestar(FrontContract):
    """The common contract."""

    @pytest.fixture
    def build(self) -> BuildFront:
        return build_front


# -- what only Litestar has -------------------------------------------------------------------


class Site:
    """An app of one test, its plugin and a client."""

    def __init__(self, app: Litestar, hub: Hub) -> None:
        self.app, self.hub = app, hub
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
        self.client = httpx.AsyncClient(transport=transport, base_url="http://web")

    async def post(self, path: str, **options: Any) -> Job[Any]:
        response = await self.client.post(path, **options)
        assert response.status_code == 202, response.text
        return self.hub.queue(response.json()["queue"]).job(response.json()["id"])

    async def run_all(self) -> int:
        worker = self.hub.worker(burst=True)
        await worker.run()
        return worker.counts.succeeded + worker.counts.failed


MakeSite = Callable[..., Site]


@pytest.fixture
def config(namespace: str) -> Config:
    return Config(namespace=namespace, embedded="never")


@pytest.fixture
async def make_site(redis_url: str, config: Config) -> AsyncIterator[MakeSite]:
    """Make an app of these handlers; it is closed at the end of the test."""
    made: list[Site] = []

    def make(*handlers: Any, arq_web_options: dict[str, Any] | None = None, **options: Any) -> Site:
        plugin = ArqWeb(url=redis_url, config=config, **(arq_web_options or {}))
        made.append(Site(Litestar(handlers, plugins=[plugin], **options), plugin.hub))
        return made[-1]

    yield make
    for site in made:
        await site.client.aclose()
        await site.hub.aclose()


def deny(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if connection.headers.get("authorization") != "yes":
        raise NotAuthorizedException


def provide(value: object) -> Provide:
    """A dependency with this value."""

    async def give() -> object:
        return value

    return Provide(give)


class Reports(Controller):
    path = "/reports"
    guards = (deny,)
    dependencies = {"layer": provide("controller"), "title": provide("Dr.")}  # noqa: RUF012 - Litestar's way

    @post("/{number:int}", status_code=202, dependencies={"layer": provide("handler")})
    @background_job(name="report")
    async def report(
        self, number: FromPath[int], layer: NamedDependency[str], title: NamedDependency[str], app: NamedDependency[str]
    ) -> list[str]:
        return [type(self).__name__, self.path, str(number), layer, title, app]

    @post("/sync/{number:int}", status_code=202)
    @background_job(name="sync_report")
    def sync_report(self, number: FromPath[int], layer: NamedDependency[str]) -> list[str]:
        return [self.path, str(number), layer]


class TestControllers:
    async def test_a_controllers_method_is_a_job_with_its_controller_and_the_nearest_dependencies(
        self, make_site: MakeSite
    ) -> None:
        """Handler before controller before app, as in a request."""
        site = make_site(Reports, dependencies={"layer": provide("app"), "app": provide("app")})

        job = await site.post("/reports/3", headers={"authorization": "yes"})
        await site.run_all()

        assert await job.result(timeout=5) == ["Reports", "/reports", "3", "handler", "Dr.", "app"]

    async def test_a_def_method_runs_in_the_worker_too(self, make_site: MakeSite) -> None:
        site = make_site(Reports, dependencies={"app": provide("app")})

        job = await site.post("/reports/sync/3", headers={"authorization": "yes"})
        await site.run_all()

        assert await job.result(timeout=5) == ["/reports", "3", "controller"]

    async def test_a_guard_that_denies_leaves_no_job(self, make_site: MakeSite) -> None:
        site = make_site(Reports, dependencies={"app": provide("app")})

        response = await site.client.post("/reports/3")

        assert response.status_code == 401
        assert await site.run_all() == 0

    async def test_one_method_of_two_controllers_is_refused(self, make_site: MakeSite) -> None:
        """A job carries the name of its task, and could not tell whose method it is."""

        class Others(Reports):
            path = "/others"

        with pytest.raises(InvalidRoute, match="another controller"):
            make_site(Reports, Others, dependencies={"app": provide("app")})


class TestHandlers:
    async def test_the_task_of_a_handler_is_called_and_enqueued_by_hand(self, make_site: MakeSite) -> None:
        """``@post`` binds the name to a handler; its ``fn`` is the task."""

        @post("/double/{number:int}", status_code=202)
        @background_job(name="double")
        async def double(number: FromPath[int]) -> int:
            return number * 2

        @post("/by-hand")
        async def by_hand(queue: Queue) -> str:
            return (await queue.enqueue(double.fn, 4)).id  # type: ignore[arg-type]

        site = make_site(double, by_hand)
        job_id = (await site.client.post("/by-hand")).text
        await site.run_all()

        assert await site.hub.queue().job(job_id).result(timeout=5) == 8
        assert await double.fn(21) == 42

    async def test_one_function_may_have_several_routes(self, make_site: MakeSite) -> None:
        """Two paths, or two versions of an API, as long as the worker need not tell them apart."""

        @background_job(name="double")
        async def double(number: FromPath[int], factor: NamedDependency[int]) -> int:
            return number * factor

        factor = provide(2)
        handler = post(["/double/{number:int}", "/twice/{number:int}"], status_code=202)(double)
        site = make_site(Router("/v1", route_handlers=[handler]), handler, dependencies={"factor": factor})
        jobs = [await site.post("/v1/twice/2"), await site.post("/double/3")]
        await site.run_all()

        assert [await job.result(timeout=5) for job in jobs] == [4, 6]
        assert set(shown(double, "route").split(", ")) == {
            f"POST {path}/{{number}}" for path in ("/double", "/twice", "/v1/double", "/v1/twice")
        }

    async def test_one_function_with_different_dependencies_is_refused(self, make_site: MakeSite) -> None:
        @background_job(name="double")
        async def double(number: FromPath[int], factor: NamedDependency[int]) -> int:
            return number * factor

        handler = post("/double/{number:int}", status_code=202)(double)
        routers = [
            Router(path, route_handlers=[handler], dependencies={"factor": provide(2)}) for path in ("/v1", "/v2")
        ]

        with pytest.raises(InvalidRoute, match="other dependencies"):
            make_site(*routers)

    async def test_a_handler_that_leaves_out_its_status_is_documented_as_it_answers(self, make_site: MakeSite) -> None:
        """Litestar assumes 201 for a POST; what the handler declares beside that stays."""

        @post("/go", responses={418: ResponseSpec(str)}, response_headers={"X-Own": "1"})
        @background_job(name="go")
        def go() -> None: ...

        site = make_site(go)
        await site.post("/go")
        document = (await site.client.get("/schema/openapi.json")).json()

        responses = document["paths"]["/go"]["post"]["responses"]
        assert responses.keys() == {"202", "400", "410", "413", "418", "422", "503"}
        assert responses["202"]["headers"].keys() == {"Location", "Link", "Retry-After", "Idempotent-Replayed", "X-Own"}

    async def test_every_method_and_path_of_a_handler_is_documented_and_its_own_operation_class_kept(
        self, make_site: MakeSite
    ) -> None:
        """Litestar's way to add to an operation: what it has added stays."""

        @dataclass
        class Sampled(Operation):
            samples: list[str] | None = field(default=None, metadata={"alias": "x-samples"})

            def __post_init__(self) -> None:
                self.samples = sorted(self.responses or {})

        @route(["/one", "/all"], http_method=["PUT", "DELETE"], status_code=202, operation_class=Sampled)
        @background_job(name="change")
        async def change() -> None: ...

        paths = make_site(change).app.openapi_schema.to_schema()["paths"]

        operations = [paths[path][method] for path in ("/one", "/all") for method in ("put", "delete")]
        for operation in operations:
            assert operation["x-samples"] == ["200", "202"]
            assert operation["responses"].keys() >= {"202", "413", "503"}
            assert "200" not in operation["responses"]
            content = operation["responses"]["202"]["x-result"]["content"]
            assert content == {"application/json": {"schema": {"type": "null"}}}

    @pytest.mark.parametrize("path", ["/v1", "v1", "/v1/"])
    async def test_locations_and_links_follow_the_path_of_the_app(self, make_site: MakeSite, path: str) -> None:
        """Litestar takes it with and without slashes."""

        @delete("/go", status_code=202)
        @background_job(name="go")
        async def go(): ...  # type: ignore[no-untyped-def]

        site = make_site(go, path=path)
        response = await site.client.delete("/v1/go")
        paths = (await site.client.get("/v1/schema/openapi.json")).json()["paths"]

        assert response.headers["location"].startswith("/v1/jobs/")
        accepted = paths["/v1/go"]["delete"]["responses"]["202"]
        assert accepted["links"]["status"]["operationRef"] == "#/paths/~1v1~1jobs~1{job_id}/get"
        assert accepted["x-result"]["content"]["application/json"]["schema"] == {}
        assert "/v1/jobs/{job_id}" in paths

    async def test_a_dto_acts_before_the_job(self, make_site: MakeSite) -> None:
        """The job gets the model; the 202 is not the DTO's to change."""

        class OnlyText(DataclassDTO[Note]):
            config = DTOConfig(rename_fields={"text": "words"})

        @post("/note", status_code=202, dto=OnlyText)
        @background_job(name="note")
        async def note(data: JSONBody[Note]) -> Note:
            return data

        site = make_site(note)
        job = await site.post("/note", json={"words": "hi"})
        await site.run_all()

        assert await site.hub.queue().job(job.id, note.fn).result(timeout=5) == Note("hi")  # type: ignore[arg-type]

    async def test_locations_follow_the_path_of_the_app_and_of_its_proxy(self, make_site: MakeSite) -> None:
        @post("/go", status_code=202)
        @background_job(name="go")
        async def go() -> None: ...

        site = make_site(go, path="/v1")
        response = await site.client.post("/v1/go")
        site.client._transport = httpx.ASGITransport(app=site.app, root_path="/proxy")  # type: ignore[arg-type]
        behind = await site.client.post("/v1/go")

        assert (await site.client.get(response.headers["location"])).status_code == 200
        assert response.headers["location"].startswith("/v1/jobs/")
        assert behind.headers["location"].startswith("/proxy/v1/jobs/")

    async def test_the_plugin_leaves_the_state_copyable(self, make_site: MakeSite) -> None:
        """Litestar copies it deeply for a handler that asks for an ``ImmutableState``."""

        @get("/color")
        async def color(state: ImmutableState) -> str:
            return str(state["color"])

        site = make_site(color, state=State({"color": "red"}))

        assert (await site.client.get("/color")).text == "red"


class TestDependencies:
    async def test_a_generator_that_swallows_the_jobs_error_does_not_make_it_a_success(
        self, make_site: MakeSite
    ) -> None:
        """It may catch it for its clean-up; the job failed all the same."""
        seen: list[str] = []

        async def lenient() -> AsyncIterator[str]:
            try:
                yield "x"
            except ValueError:
                seen.append("rolled back")

        @post("/crash", status_code=202)
        @background_job(name="crash")
        async def crash(lenient: NamedDependency[str]) -> None:
            raise ValueError("broken pixel")

        site = make_site(crash, dependencies={"lenient": lenient})
        job = await site.post("/crash")
        await site.run_all()

        with pytest.raises(JobFailed, match="broken pixel"):
            await job.result(timeout=5)
        assert seen == ["rolled back"]

    async def test_what_was_opened_is_closed_when_a_later_dependency_fails(self, make_site: MakeSite) -> None:
        seen: list[str] = []

        def first() -> Iterator[str]:
            yield "x"
            seen.append("never: the error is thrown in here")

        def closing() -> Iterator[str]:
            try:
                yield "x"
            finally:
                seen.append("closed")

        async def second(closing: NamedDependency[str]) -> str:
            raise RuntimeError("no connection")

        @post("/go", status_code=202)
        @background_job(name="go")
        async def go(first: NamedDependency[str], second: NamedDependency[str]) -> None: ...

        site = make_site(go, dependencies={"first": first, "closing": closing, "second": second})
        job = await site.post("/go")
        await site.run_all()

        with pytest.raises(JobFailed, match="no connection"):
            await job.result(timeout=5)
        assert seen == ["closed"]

    async def test_a_job_gets_the_apps_state_and_may_leave_a_dependency_to_its_default(
        self, make_site: MakeSite
    ) -> None:
        async def shade(state: State) -> str:
            return f"dark {state.color}"

        @post("/go", status_code=202)
        @background_job(name="go")
        async def go(
            state: State,
            shade: NamedDependency[str],
            frozen: NamedDependency[list[str]],
            absent: NamedDependency[int] = 7,
        ) -> list[str]:
            return [state.color, shade, *frozen, str(absent)]

        async def frozen(state: ImmutableState, size: Annotated[int, Dependency("named")] = 3) -> list[str]:
            return [type(state).__name__, str(size)]

        site = make_site(go, dependencies={"shade": shade, "frozen": frozen}, state=State({"color": "red"}))
        job = await site.post("/go")
        await site.run_all()

        assert await job.result(timeout=5) == ["red", "dark red", "ImmutableState", "3", "7"]

    @pytest.mark.parametrize("mark", [False, True])
    async def test_a_worker_side_dependency_that_reads_the_request_is_refused_at_the_start(
        self, make_site: MakeSite, mark: bool
    ) -> None:
        """It names the way to the request, and the remedy works."""

        async def address(request: Request[Any, Any, Any]) -> str:
            return request.headers["x-address"]

        async def mailer(address: NamedDependency[str]) -> str:
            return f"mail to {address}"

        async def send(mailer: Any) -> str:
            return str(mailer)

        send.__annotations__["mailer"] = RequestTime[str] if mark else NamedDependency[str]
        handler = post("/send", status_code=202)(background_job(name="send")(send))
        dependencies = {"address": address, "mailer": mailer}
        if not mark:
            with pytest.raises(InvalidRoute, match=r"mailer -> address -> request.*mailer: RequestTime\[") as caught:
                make_site(handler, dependencies=dependencies)
            assert caught.value.parameter == "mailer"
            return

        site = make_site(handler, dependencies=dependencies)
        job = await site.post("/send", headers={"x-address": "a@b.c"})
        await site.run_all()

        assert await job.result(timeout=5) == "mail to a@b.c"

    async def test_a_dependency_that_nobody_provides_is_refused_at_the_start(self, make_site: MakeSite) -> None:
        """Also when its default is INJECTED, which is only for type checkers."""

        @post("/go", status_code=202)
        @background_job(name="go")
        async def go(db: NamedDependency[Database] = INJECTED) -> None: ...

        with pytest.raises(InvalidRoute, match="no dependency named 'db'"):
            make_site(go)

    async def test_a_name_that_is_a_dependency_must_say_its_side(self, make_site: MakeSite) -> None:
        """Litestar 2 guesses from the name alone; here the guess would be a side."""

        @background_job(name="go")
        async def go(limit: FromQuery[int]) -> None: ...

        with pytest.raises(InvalidRoute, match=r"'limit'.*NamedDependency\[.*RequestTime\["):
            make_site(post("/go", status_code=202)(go), dependencies={"limit": provide(3)})

    async def test_a_queue_of_another_name_is_provided_by_hand(self, make_site: MakeSite) -> None:
        """Litestar injects by name, and not every queue's name is one of a parameter."""

        @post("/async")
        async def enqueue(mail: Queue) -> str:
            return (await mail.enqueue(send_welcome, 1)).queue.name

        @post("/sync", sync_to_thread=True)
        def enqueue_sync(sync_mail: SyncQueue) -> str:
            return sync_mail.enqueue(send_welcome, 1)._job.queue.name

        @post("/job", status_code=202)
        @background_job(name="forward", queue="slow-mail")
        async def forward(mail: Queue, queue: Queue, fast: Queue) -> list[str]:
            return [mail.name, queue.name, fast.name]

        site = make_site(
            enqueue,
            enqueue_sync,
            forward,
            dependencies={
                "mail": Provide(FromQueue("slow-mail")),
                "sync_mail": Provide(FromQueue("slow-mail", sync=True)),
            },
            arq_web_options={"queues": ("default", "slow-mail", "fast"), "tasks": [send_welcome]},
        )
        names = [(await site.client.post(path)).text for path in ("/async", "/sync")]
        job = await site.post("/job")
        await site.run_all()

        assert names == ["slow-mail", "slow-mail"]
        assert await job.result(timeout=5) == ["slow-mail", "slow-mail", "fast"]

    async def test_a_queue_under_the_wrong_name_is_refused_at_the_start(self, make_site: MakeSite) -> None:
        @post("/mail")
        async def mail(queue: Annotated[arq_web.Queue, FromQueue("emails")]) -> None: ...

        with pytest.raises(InvalidRoute, match="'queue' is not the queue 'emails'") as caught:
            make_site(mail, arq_web_options={"queues": ("default", "emails")})
        assert caught.value.parameter == "queue"


class TestRefusals:
    """What the contract does not name, each with the parameter and the remedy."""

    @pytest.mark.parametrize(
        ("annotation", "name"),
        [
            (dict[str, str], "headers"),
            (dict[str, str], "cookies"),
            (Any, "request"),
            (Any, "socket"),
            (list[UploadFile], "data"),
            (Response[str], "answer"),
            (ASGIConnection[Any, Any, Any, Any], "connection"),
        ],
    )
    def test_what_is_of_the_request_is_refused_at_its_definition(self, annotation: Any, name: str) -> None:
        namespace: dict[str, Any] = {"kind": annotation}
        exec(f"async def job({name}: kind) -> None: ...", namespace)  # noqa: S102 - the name is what is tested

        with pytest.raises(InvalidRoute) as caught:
            background_job(name="job")(namespace["job"])

        assert caught.value.parameter == name
        assert caught.value.remedy

    def test_a_def_job_that_asks_for_the_async_queue_is_refused_at_its_definition(self) -> None:
        def job(queue: Queue) -> None: ...

        with pytest.raises(InvalidRoute, match="SyncQueue"):
            background_job(job)

    def test_a_job_that_returns_a_response_is_refused(self) -> None:
        async def job() -> Response[str]:
            raise NotImplementedError

        with pytest.raises(InvalidRoute, match="Return the value itself"):
            background_job(job)

    async def test_a_job_of_an_undeclared_queue_does_not_start(self, make_site: MakeSite) -> None:
        @post("/go", status_code=202)
        @background_job(name="go", queue="emails")
        async def go() -> None: ...

        with pytest.raises(InvalidRoute, match="'emails'"):
            make_site(go)

    async def test_a_cached_job_does_not_start(self, make_site: MakeSite) -> None:
        """Its second request would get the first one's 202, and no job."""

        @post("/go", status_code=202, cache=True)
        @background_job(name="go")
        async def go() -> None: ...

        with pytest.raises(InvalidRoute, match="cache"):
            make_site(go)

    async def test_a_parameter_of_the_request_that_has_a_queues_name_does_not_start(self, make_site: MakeSite) -> None:
        """Litestar injects by name alone: it would pass the queue for the text."""

        @get("/search")
        async def search(queue: FromQuery[str]) -> None: ...

        @get("/search")
        async def renamed(queue_name: Annotated[str, QueryParameter(name="queue")]) -> str:
            return queue_name

        with pytest.raises(InvalidRoute, match=r"QueryParameter\(name='queue'\)") as caught:
            make_site(search)
        assert caught.value.parameter == "queue"
        assert (await make_site(renamed).client.get("/search?queue=x")).text == "x"

    async def test_two_plugins_in_one_app_are_refused(self, redis_url: str, config: Config) -> None:
        with pytest.raises(InvalidConfig):
            Litestar(plugins=[ArqWeb(url=redis_url, config=config), ArqWeb(url=redis_url, config=config)])

    def test_without_litestar_the_module_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "arq_web.litestar")
        monkeypatch.setitem(sys.modules, "litestar", None)

        with pytest.raises(MissingExtra, match=r"arq-web\[litestar\]"):
            importlib.import_module("arq_web.litestar")


class TestLife:
    async def test_the_embedded_worker_lives_within_the_apps_own_resources(
        self, redis_url: str, config: Config
    ) -> None:
        """Its jobs use them: it starts after the last of them, and has drained before the first is closed."""
        plugin = ArqWeb(url=redis_url, config=replace(config, embedded="always"))
        seen: list[tuple[str, bool]] = []

        def note(word: str) -> None:
            seen.append((word, plugin.hub.embedded is not None))

        @asynccontextmanager
        async def resources(_: Litestar) -> AsyncIterator[None]:
            note("open")
            yield
            note("closed")

        app = Litestar(
            lifespan=[resources],
            on_startup=[lambda: note("start")],
            on_shutdown=[lambda: note("stop")],
            plugins=[plugin],
        )
        async with started(app):
            note("running")

        assert seen == [("open", False), ("start", False), ("running", True), ("closed", False), ("stop", False)]

    async def test_an_app_may_live_twice_at_the_same_time(self, redis_url: str, config: Config) -> None:
        """Two test clients: the end of one is not the other's, and both end their workers."""

        class NoEvents(BaseEventEmitterBackend):  # Litestar's own cannot begin twice
            def emit(self, event_id: str, *args: Any, **kwargs: Any) -> None: ...

            async def __aexit__(self, *error: object) -> None: ...

        plugin = ArqWeb(url=redis_url, config=replace(config, embedded="always"))
        app = Litestar(plugins=[plugin], event_emitter_backend=NoEvents)
        async with started(app):
            outer = plugin.hub.embedded
            async with started(app):
                assert plugin.hub.embedded is not outer
            assert plugin.hub.embedded is outer
            assert outer is not None
            assert outer.is_running

        assert plugin.hub.embedded is None
        assert not outer.is_running

    async def test_the_extra_of_an_http_exception_is_kept_if_it_is_json(self, make_site: MakeSite) -> None:
        @post("/refuse", status_code=202)
        @background_job(name="refuse")
        async def refuse(is_json: FromQuery[bool]) -> None:
            raise HTTPException(status_code=409, detail="taken", extra={"by": 3 if is_json else object()})

        site = make_site(refuse)
        jobs = [await site.post("/refuse", params={"is_json": flag}) for flag in ("true", "false")]
        await site.run_all()

        errors = [(await job.info()).error for job in jobs]
        assert [dict(error.data or {}) for error in errors if error is not None] == [
            {"status_code": 409, "detail": "taken", "headers": {}, "extra": {"by": 3}},
            {"status_code": 409, "detail": "taken", "headers": {}},
        ]

    async def test_a_worker_process_of_litestars_command_runs_the_routes_jobs(
        self, redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """``litestar jobs worker`` becomes app-worker: same app, another process."""
        (tmp_path / "front.py").write_text(FRONT_MODULE)
        monkeypatch.syspath_prepend(str(tmp_path))
        environ = {"REDIS_URL": redis_url, "ARQ_WEB_NAMESPACE": namespace, "ARQ_WEB_EMBEDDED": "never"}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        front = importlib.import_module("front")
        site = Site(front.app, front.plugin.hub)
        job = await site.post("/pid", headers={"x-user": "7"})

        litestar = [sys.executable, "-m", "litestar", "--app", "front:app", "--app-dir", str(tmp_path)]
        path = os.pathsep.join(sys.path)
        process = await asyncio.create_subprocess_exec(
            *litestar, "jobs", "worker", "--burst", env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path
        )

        assert await process.wait() == 0
        assert await job.result(timeout=5) == [process.pid, 7, "from-database"]
        await site.client.aclose()
        await site.hub.aclose()


FRONT_MODULE = """
import os
from litestar import Litestar, Request, post
from litestar.di import NamedDependency
from arq_web.litestar import ArqWeb, RequestTime, background_job

async def user(request: Request) -> int:
    return int(request.headers["x-user"])

async def db():
    yield "from-database"

@post("/pid", status_code=202, dependencies={"user": user, "db": db})
@background_job(timeout=10)
async def pid(user: RequestTime[int], db: NamedDependency[str]) -> list[int | str]:
    return [os.getpid(), user, db]

plugin = ArqWeb()
app = Litestar([pid], plugins=[plugin])
"""
