"""``GET /jobs``, where the app wants it: the caller's jobs, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis.asyncio as redis_async
from fastapi import HTTPException as FastAPIException
from litestar.exceptions import PermissionDeniedException

from arq_web.job import JobInfo, JobState
from tests.http.site import MakeSite, Site, said, slug

ROUTES = ["status", "result", "events", "cancel", "list"]
ANN, BEN = {"X-User": "ann"}, {"X-User": "ben"}


def user_of(request: Any) -> str | None:
    found: str | None = request.headers.get("x-user")
    return found


async def test_the_list_has_the_callers_jobs(make_sites: Callable[..., list[Site]]) -> None:
    """In every state, the live ones first; the same in both frameworks."""
    sites = make_sites(routes=ROUTES, owner=user_of)
    ended = await sites[0].finished("/double/1", headers=ANN)
    failed = await sites[0].finished("/crash", headers=ANN)
    await sites[0].submit("/double/2", headers=BEN)
    queued = await sites[0].submit("/double/3", headers=ANN)

    pages = [await all_of(site, "/jobs", ANN) for site in sites]

    assert [job["id"] for job in pages[0]] == [each.json()["id"] for each in (queued, failed, ended)]
    assert pages[0] == pages[1]


async def test_a_listed_job_is_shown_as_by_itself(make_site: MakeSite) -> None:
    site = make_site(routes=ROUTES, owner=user_of)
    posted = await site.submit("/double/3", headers=ANN)

    [listed] = (await site.ask("GET", "/jobs", headers=ANN)).json()["jobs"]

    assert listed == (await site.ask("GET", posted.headers["location"], headers=ANN)).json()


async def test_nobody_in_particular_has_no_jobs(make_site: MakeSite) -> None:
    """Else all who are not logged in would see each other's."""
    site = make_site(routes=ROUTES, owner=user_of)
    await site.submit("/double/3")
    await site.submit("/double/3", headers=ANN)

    assert await all_of(site, "/jobs", {}) == []


async def test_a_dismissed_job_is_not_listed(make_site: MakeSite) -> None:
    """Whether it waited, runs, or had ended: its record is there for a minute."""
    site = make_site(routes=[*ROUTES, "delete"], owner=user_of)
    ended = await site.finished("/double/1", headers=ANN)
    async with site.working():
        running = await site.submit("/hang", headers=ANN)
        await site.reach(running, JobState.RUNNING)
        before = await all_of(site, "/jobs", ANN)
        for posted in (ended, running):
            await site.ask("DELETE", posted.headers["location"], headers=ANN)
        after = await all_of(site, "/jobs", ANN)

    assert (len(before), after) == (2, [])


async def test_with_authorize_it_decides(make_site: MakeSite) -> None:
    """Also about ids that were chosen, and jobs of other code."""
    site = make_site(routes=ROUTES, authorize=lambda request, job: job.task == "http.noted")
    await site.submit("/double/3")
    await site.ask("POST", "/mine")

    assert [job["id"] for job in await all_of(site, "/jobs", {})] == ["order:1"]


@pytest.mark.parametrize("error", [FastAPIException(403), PermissionDeniedException()])
async def test_a_job_that_authorize_refuses_by_raising_is_not_listed(make_site: MakeSite, error: Exception) -> None:
    """At the routes of one job the exception is the answer; here it is about one of many."""

    def authorize(request: Any, job: JobInfo) -> bool:
        if job.task != "http.noted":
            raise error
        return True

    site = make_site(routes=ROUTES, authorize=authorize)
    await site.submit("/double/3")
    await site.ask("POST", "/mine")

    assert [job["id"] for job in await all_of(site, "/jobs", {})] == ["order:1"]


@pytest.mark.parametrize("error", [ValueError("broken"), FastAPIException(503)])
async def test_an_authorize_that_fails_is_no_refusal(make_site: MakeSite, error: Exception) -> None:
    """An empty list would be a lie."""

    def authorize(request: Any, job: JobInfo) -> bool:
        raise error

    site = make_site(routes=ROUTES, authorize=authorize)
    await site.submit("/double/3")

    assert (await site.ask("GET", "/jobs")).status_code >= 500


@pytest.mark.parametrize("chosen", ["order:1", "0123456789ab4def8123456789abcdef"])
async def test_a_chosen_id_is_not_told_to_its_owner(make_site: MakeSite, chosen: str) -> None:
    """It could not be looked at."""
    site = make_site(routes=ROUTES, owner=user_of)
    task: Any = site.hub.registry.find("http.noted")
    await site.hub.queue().enqueue(task.options(id=chosen, owner="ann"), "x")
    shown = await site.hub.queue().enqueue(task.options(owner="ann"), "x")

    assert [job["id"] for job in await all_of(site, "/jobs", ANN)] == [shown.id]


async def test_pages_follow_each_other_to_the_end(make_sites: Callable[..., list[Site]]) -> None:
    """Each job once, by the link that the page before has named."""
    sites = make_sites(routes=ROUTES, owner=user_of)
    ids = [(await sites[0].submit("/double/3", headers=ANN)).json()["id"] for _ in range(5)]

    first, second = [await site.ask("GET", "/jobs?state=queued&limit=2", headers=ANN) for site in sites]
    found = await all_of(sites[0], "/jobs?state=queued&limit=2", ANN)

    assert said(first) == said(second)
    assert len(first.json()["jobs"]) == 2
    assert first.headers["link"] == f'<{first.json()["next"]}>; rel="next"'
    assert [job["id"] for job in found] == ids


async def test_the_list_can_be_narrowed(make_site: MakeSite) -> None:
    site = make_site(routes=ROUTES, owner=user_of)
    await site.finished("/double/1", headers=ANN)
    await site.finished("/greet", headers=ANN, json={"name": "Ann"})
    await site.submit("/double/2", headers=ANN)
    await site.submit("/note", headers=ANN, json={"name": "Ann"})

    async def tasks(query: str) -> list[tuple[str, str]]:
        return [(job["task"], job["state"]) for job in await all_of(site, f"/jobs?{query}", ANN)]

    assert await tasks("state=succeeded&task=http.greet") == [("http.greet", "succeeded")]
    assert await tasks("task=http.double") == [("http.double", "queued"), ("http.double", "succeeded")]
    assert await tasks("queue=emails") == [("http.note", "queued")]
    assert await tasks("state=dead") == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "between 1 and 100"),
        ("limit=101", "between 1 and 100"),
        ("limit=many", "between 1 and 100"),
        ("limit=%D9%A3", "between 1 and 100"),
        ("state=done", "one of running, queued"),
        ("cursor=x", "the page before"),
        ("cursor=queued.-1", "the page before"),
        ("state=dead&cursor=queued.0", "the page before"),
        ("cursor=succeeded.18446744073709551616", "the page before"),
    ],
)
async def test_a_query_that_means_nothing_is_a_400_problem(
    make_sites: Callable[..., list[Site]], query: str, words: str
) -> None:
    """The frameworks' own answers would differ."""
    sites = make_sites(routes=ROUTES, owner=user_of)

    first, second = [await site.ask("GET", f"/jobs?{query}", headers=ANN) for site in sites]

    assert (first.status_code, slug(first)) == (400, "invalid-query")
    assert words in first.json()["detail"]
    assert said(first) == said(second)


@pytest.mark.parametrize("state", ["queued", "dead", "succeeded"])
async def test_a_cursor_of_nowhere_ends_the_list(make_site: MakeSite, state: str) -> None:
    """Whatever number it is: clients make them up."""
    site = make_site(routes=ROUTES, owner=user_of)

    for number in (10**6, 2**63 - 1, 2**64 - 1):
        page = await site.ask("GET", f"/jobs?state={state}&cursor={state}.{number}", headers=ANN)
        assert (page.status_code, page.json()) == (200, {"jobs": []}), page.text


async def test_one_request_does_not_look_through_a_large_database(
    make_site: MakeSite, redis: redis_async.Redis, namespace: str
) -> None:
    """It stops, and says where to go on; the client finds what there is all the same."""
    site = make_site(routes=ROUTES, owner=user_of)
    await redis.mset({f"{namespace}:1:filler:{n}": "x" for n in range(20_000)})
    posted = await site.finished("/double/1", headers=ANN)

    first = (await site.ask("GET", "/jobs?state=expired", headers=ANN)).json()
    found = await all_of(site, "/jobs?state=succeeded", ANN)
    await redis.delete(*[f"{namespace}:1:filler:{n}" for n in range(20_000)])

    assert first["next"].startswith("/jobs?state=expired&cursor=expired.")
    assert [job["id"] for job in found] == [posted.json()["id"]]


async def test_an_undeclared_queue_is_not_listed(make_site: MakeSite) -> None:
    site = make_site(routes=ROUTES, owner=user_of)

    assert slug(await site.ask("GET", "/jobs?queue=other", headers=ANN)) == "queue-not-found"


async def test_there_is_no_list_unless_the_app_says_so(site: Site) -> None:
    response = await site.ask("GET", "/jobs")

    assert response.status_code == 404
    assert response.headers["content-type"] != "application/problem+json"


async def all_of(site: Site, url: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    """All pages together."""
    found: list[dict[str, Any]] = []
    for _ in range(100):
        page: httpx.Response = await site.ask("GET", url, headers=headers)
        assert page.status_code == 200, page.text
        found += page.json()["jobs"]
        url = page.json().get("next", "")
        if not url:
            return found
    pytest.fail("it has no end")
