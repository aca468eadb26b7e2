"""``DELETE /jobs/{id}``, where the app wants it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from arq_web.job import JobState
from tests.http.site import MakeSite, Site, said, slug

ROUTES = ["status", "result", "events", "cancel", "delete"]


@pytest.mark.parametrize(
    ("path", "is_finished"), [("/double/2", False), ("/double/2", True), ("/crash", True), ("/refuse/404", True)]
)
async def test_a_dismissed_job_is_unknown(
    make_sites: Callable[..., list[Site]], path: str, *, is_finished: bool
) -> None:
    """To all of its routes, at once, whatever became of it."""
    sites = make_sites(routes=ROUTES)
    posted = await (sites[0].finished if is_finished else sites[0].submit)(path)
    links = posted.json()["links"]

    first = await sites[0].ask("DELETE", links["self"])
    again = await sites[1].ask("DELETE", links["self"])

    assert (first.status_code, first.content) == (204, b"")
    assert slug(again) == "job-not-found"
    looks = [await site.ask("GET", links[name]) for site in sites for name in ("self", "result", "events")]
    assert {slug(look) for look in looks} == {"job-not-found"}
    assert said(looks[0]) == said(looks[3])
    assert slug(await sites[0].ask("POST", links["cancel"])) == "job-not-found"


async def test_a_running_job_is_cancelled(make_site: MakeSite) -> None:
    site = make_site(routes=ROUTES)
    async with site.working():
        posted = await site.submit("/hang")
        await site.reach(posted, JobState.RUNNING)

        assert (await site.ask("DELETE", posted.headers["location"])).status_code == 204

        await site.reach(posted, JobState.CANCELLED)


async def test_jobs_cannot_be_dismissed_unless_the_app_says_so(site: Site) -> None:
    posted = await site.submit("/double/2")

    assert (await site.ask("DELETE", posted.headers["location"])).status_code == 405
    assert await site.job(posted).status() is JobState.QUEUED
