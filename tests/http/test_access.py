"""Who may look at a job: others' jobs answer as unknown ones do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import HTTPException as FastAPIException
from litestar.exceptions import NotAuthorizedException

from arq_web import Config
from arq_web.job import JobInfo, JobState
from tests.http.fastapi_site import fastapi_site
from tests.http.litestar_site import litestar_site
from tests.http.site import MakeSite, Site, said, slug

UNKNOWN = "0123456789ab4def8123456789abcdef"
ANN, BEN = {"X-User": "ann"}, {"X-User": "ben"}


def user_of(request: Any) -> str | None:
    found: str | None = request.headers.get("x-user")
    return found


async def user_of_later(request: Any) -> str | None:
    return user_of(request)


async def test_by_default_the_random_id_is_the_key(site: Site) -> None:
    """122 random bits that only the submitter was told."""
    posted = await site.submit("/double/2", headers=ANN)

    assert (await site.ask("GET", posted.headers["location"], headers=BEN)).status_code == 200


@pytest.mark.parametrize(
    "job_id", ["order:1", "c4ca4238a0b923820dcc509a6f75849b", "0123456789ABCDEF0123456789ABCDEF", "x" * 200]
)
async def test_an_id_that_was_chosen_is_not_shown(site: Site, job_id: str) -> None:
    """It can be guessed: order:1, order:2, the MD5 of 1."""
    task: Any = site.hub.registry.find("http.noted")
    if len(job_id) <= 128:
        await site.hub.queue().enqueue(task.options(id=job_id), "x")

    responses = [await site.ask("GET", f"/jobs/{job_id}{rest}") for rest in ("", "/result", "/events")]

    assert {slug(response) for response in responses} == {"job-not-found"}
    assert slug(await site.ask("POST", f"/jobs/{job_id}/cancel")) == "job-not-found"


@pytest.mark.parametrize("is_redriven", [False, True])
@pytest.mark.parametrize("owner", [None, user_of])
async def test_an_id_that_was_chosen_may_look_random(make_site: MakeSite, owner: Any, *, is_redriven: bool) -> None:
    """The id of something else may be a job's, too, and others know it: the record tells, also after a redrive."""
    site = make_site(owner=owner)
    task: Any = site.hub.registry.find("http.noted")
    chosen = await site.hub.queue().enqueue(task.options(id=UNKNOWN), "x")
    automatic = await site.hub.queue().enqueue(task, "x")
    if is_redriven:
        for job in (chosen, automatic):
            await job.cancel()
            for _ in range(2):
                assert await job.redrive() == "redriven"
                await job.cancel()

    assert slug(await site.ask("GET", f"/jobs/{chosen.id}")) == "job-not-found"
    assert slug(await site.ask("POST", f"/jobs/{chosen.id}/cancel")) == "job-not-found"
    assert (await site.ask("GET", f"/jobs/{automatic.id}")).status_code == 200


@pytest.mark.parametrize("prefer", ["wait=0", "wait=5"])
async def test_a_key_that_is_guessed_tells_nothing_of_its_job(make_site: MakeSite, prefer: str) -> None:
    """The request of another client is refused as one with other values is, and gets neither result nor id."""
    site = make_site(authorize=lambda request, job: user_of(request) == "ann")
    headers = {"Idempotency-Key": "1", "Prefer": prefer}
    first = await site.finished("/double/21", headers={**ANN, **headers, "Prefer": "wait=0"})

    refused = await site.ask("POST", "/double/21", headers={**BEN, **headers})
    others = await site.ask("POST", "/double/22", headers={**BEN, **headers})
    own = await site.ask("POST", "/double/21", headers={**ANN, **headers})

    assert (refused.status_code, slug(refused)) == (422, "idempotency-key-reused")
    assert said(refused) == said(others)
    assert first.json()["id"] not in refused.text
    assert own.headers["idempotent-replayed"] == "true"


async def test_an_owner_that_refuses_tells_not_whether_there_is_a_job(redis_url: str, config: Config) -> None:
    """It is asked before Redis is, whatever the id."""
    for build, refusal in ((fastapi_site, FastAPIException(401)), (litestar_site, NotAuthorizedException())):

        def owner(request: Any, refusal: Exception = refusal) -> str:
            user = user_of(request)
            if user is None:
                raise refusal
            return user

        site = build(url=redis_url, config=config, options={"owner": owner})
        try:
            posted = await site.submit("/double/2", headers=ANN)
            ids = (posted.json()["id"], UNKNOWN, "order:1", f"{UNKNOWN}?queue=none")
            answers = [await site.ask("GET", f"/jobs/{job_id}") for job_id in ids]
        finally:
            await site.aclose()

        assert [answer.status_code for answer in answers] == [401] * 4
        assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize("owner", [user_of, user_of_later])
async def test_a_job_is_its_owners_alone(make_sites: Callable[..., list[Site]], owner: Callable[..., Any]) -> None:
    """To others it answers as one that never was, at all of its routes."""
    sites = make_sites(owner=owner)
    posted = await sites[0].submit("/double/2", headers=ANN)

    for site in sites:
        assert (await site.ask("GET", posted.headers["location"], headers=ANN)).status_code == 200
        for headers in (BEN, {}):
            for method, url in routes_of(posted):
                refused = await site.ask(method, url, headers=headers)
                unknown = await site.ask(method, url.replace(posted.json()["id"], UNKNOWN), headers=headers)
                assert anonymous(refused, posted.json()["id"]) == anonymous(unknown, UNKNOWN)
    assert await sites[0].job(posted).status() is JobState.QUEUED


async def test_a_job_of_nobody_in_particular_is_for_whoever_knows_its_id(make_site: MakeSite) -> None:
    """Submitted without a login, or enqueued by other code."""
    site = make_site(owner=user_of)
    posted = await site.submit("/double/2")
    task: Any = site.hub.registry.find("http.noted")
    job = await site.hub.queue().enqueue(task, "x")

    assert (await site.ask("GET", posted.headers["location"], headers=BEN)).status_code == 200
    assert (await site.ask("GET", f"/jobs/{job.id}", headers=BEN)).status_code == 200


@pytest.mark.parametrize("is_async", [False, True])
async def test_authorize_decides_with_the_request_and_the_job(make_site: MakeSite, *, is_async: bool) -> None:
    """Also about ids that were chosen."""
    seen: list[tuple[str | None, str]] = []

    def plainly(request: Any, job: JobInfo) -> bool:
        seen.append((user_of(request), job.id))
        return user_of(request) == "ann"

    async def later(request: Any, job: JobInfo) -> bool:
        return plainly(request, job)

    site = make_site(authorize=later if is_async else plainly)
    await site.ask("POST", "/mine")

    assert (await site.ask("GET", "/jobs/order:1", headers=ANN)).json()["id"] == "order:1"
    assert slug(await site.ask("GET", "/jobs/order:1", headers=BEN)) == "job-not-found"
    assert seen == [("ann", "order:1"), ("ben", "order:1")]


async def test_authorize_is_not_asked_about_what_is_not_there(make_site: MakeSite) -> None:
    def fails(request: Any, job: JobInfo) -> bool:
        raise AssertionError(job)

    site = make_site(authorize=fails)

    for path in (f"/jobs/{UNKNOWN}", "/jobs/no%20id", f"/jobs/{'x' * 200}"):
        assert slug(await site.ask("GET", path)) == "job-not-found"


async def test_authorize_sees_the_owner(make_site: MakeSite) -> None:
    """So that an operator may look at everybody's."""
    site = make_site(
        owner=user_of,
        authorize=lambda request, job: user_of(request) in ("operator", job.owner),
    )
    posted = await site.submit("/double/2", headers=ANN)

    statuses = [
        (await site.ask("GET", posted.headers["location"], headers={"X-User": user})).status_code
        for user in ("ann", "operator", "ben")
    ]

    assert statuses == [200, 200, 404]


def routes_of(posted: httpx.Response) -> list[tuple[str, str]]:
    links = posted.json()["links"]
    return [("GET", links["self"]), ("GET", links["result"]), ("GET", links["events"]), ("POST", links["cancel"])]


def anonymous(response: httpx.Response, job_id: str) -> object:
    status, headers, body = said(response)
    return status, headers, body.replace(job_id.encode(), b"ID")
