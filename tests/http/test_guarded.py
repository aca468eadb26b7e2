"""The framework's own dependencies and guards apply to the routes of jobs, and what they refuse is the app's answer."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, HTTPException, Security
from fastapi.security import APIKeyHeader
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler

from arq_web import Config
from arq_web.job import JobInfo
from tests.http.fastapi_site import fastapi_site
from tests.http.litestar_site import litestar_site
from tests.http.site import MakeSite, Site

ROUTES = ["status", "result", "events", "cancel", "list", "delete"]
KEY = {"X-Key": "sesame"}


async def needs_key(key: Annotated[str | None, Security(APIKeyHeader(name="X-Key", auto_error=False))]) -> None:
    if key != KEY["X-Key"]:
        raise HTTPException(401, "no key")


def key_guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if connection.headers.get("x-key") != KEY["X-Key"]:
        raise NotAuthorizedException("no key")


@pytest.fixture(params=["fastapi", "litestar"])
def guarded(request: pytest.FixtureRequest, redis_url: str, config: Config, opened: list[Site]) -> Site:
    """An app whose jobs are looked at with a key."""
    options: dict[str, Any] = {"routes": ROUTES, "authorize": lambda request, job: True}
    if request.param == "fastapi":
        site = fastapi_site(url=redis_url, config=config, options=options | {"dependencies": [Depends(needs_key)]})
    else:
        site = litestar_site(url=redis_url, config=config, options=options | {"guards": [key_guard]})
    opened.append(site)
    return site


async def test_all_routes_of_jobs_are_guarded(guarded: Site) -> None:
    posted = await guarded.submit("/double/2")

    refused = [await guarded.ask(method, url) for method, url in routes_of(posted)]
    allowed = [await guarded.ask(method, url, headers=KEY) for method, url in routes_of(posted)]

    assert {each.status_code for each in refused} == {401}
    assert {each.json()["detail"] for each in refused if each.content} == {"no key"}
    assert all(each.status_code < 300 for each in allowed), [each.status_code for each in allowed]


async def test_a_refusal_does_not_tell_whether_there_is_such_a_job(guarded: Site) -> None:
    """It comes before the job is looked for."""
    posted = await guarded.submit("/double/2")

    known = await guarded.ask("GET", posted.headers["location"])
    unknown = await guarded.ask("GET", "/jobs/0123456789ab4def8123456789abcdef")

    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)


async def test_fastapi_documents_what_its_dependencies_ask_for(
    redis_url: str, config: Config, opened: list[Site]
) -> None:
    """A generated client must know that it needs a key."""
    site = fastapi_site(url=redis_url, config=config, options={"dependencies": [Depends(needs_key)]})
    opened.append(site)

    document = (await site.ask("GET", site.openapi_path)).json()

    for path in ("/jobs/{job_id}", "/jobs/{job_id}/result", "/jobs/{job_id}/events"):
        assert document["paths"][path]["get"]["security"] == [{"APIKeyHeader": []}]
    assert document["paths"]["/jobs/{job_id}"]["get"]["summary"] == "The status of a job"


async def test_what_authorize_raises_is_the_apps_answer(make_site: MakeSite) -> None:
    """For an app that wants 403 or a login, and not 404."""
    raised: dict[str, Exception] = {
        "fastapi": HTTPException(403, "not yours"),
        "litestar": NotAuthorizedException("not yours", status_code=403),
    }
    site: Site

    def authorize(request: Any, job: JobInfo) -> bool:
        raise raised[site.name]

    site = make_site(authorize=authorize)
    posted = await site.submit("/double/2")

    response = await site.ask("GET", posted.headers["location"])

    assert (response.status_code, response.json()["detail"]) == (403, "not yours")


def routes_of(posted: httpx.Response) -> list[tuple[str, str]]:
    """All of them, so that each can be asked once more with a key: the one that ends the job comes last."""
    links = posted.json()["links"]
    return [
        ("GET", "/jobs"),
        ("HEAD", links["self"]),
        ("GET", links["self"]),
        ("GET", links["result"]),
        ("HEAD", links["events"]),
        ("POST", links["cancel"]),
        ("DELETE", links["self"]),
    ]
