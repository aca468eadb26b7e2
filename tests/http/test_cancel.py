"""``POST /jobs/{id}/cancel``."""

from __future__ import annotations

import pytest

from arq_web.job import JobState
from tests.http.site import Site, said, slug


async def test_a_job_that_waits_has_ended_with_the_answer(sites: list[Site]) -> None:
    """Again, and it is the same answer: a client whose answer was lost may repeat it."""
    posted = await sites[0].submit("/double/2")

    answered = [await site.ask("POST", posted.json()["links"]["cancel"]) for site in sites]

    assert answered[0].status_code == 200
    assert (answered[0].json()["state"], answered[0].json()["done"]) == ("cancelled", True)
    assert said(answered[0]) == said(answered[1])


async def test_a_job_that_runs_is_asked_to_end(site: Site) -> None:
    """202: whether it will have been cancelled is not known yet."""
    async with site.working():
        posted = await site.submit("/hang")
        await site.reach(posted, JobState.RUNNING)

        answered = await site.ask("POST", posted.json()["links"]["cancel"])
        await site.reach(posted, JobState.CANCELLED)

    assert answered.status_code == 202
    assert (answered.json()["state"], answered.json()["cancel_requested"]) == ("running", True)


@pytest.mark.parametrize(("path", "state"), [("/double/2", "succeeded"), ("/crash", "dead")])
async def test_a_job_that_has_ended_cannot_be_cancelled(sites: list[Site], path: str, state: str) -> None:
    posted = await sites[0].finished(path)

    answered = [await site.ask("POST", posted.json()["links"]["cancel"]) for site in sites]

    assert (answered[0].status_code, slug(answered[0])) == (409, "job-already-finished")
    assert state in answered[0].json()["detail"]
    assert answered[0].json()["instance"] == posted.headers["location"]
    assert said(answered[0]) == said(answered[1])


async def test_only_a_post_cancels(site: Site) -> None:
    """What only looks must not end anything."""
    posted = await site.submit("/double/2")

    answered = [await site.ask(method, posted.json()["links"]["cancel"]) for method in ("GET", "HEAD", "OPTIONS")]

    assert {each.status_code for each in answered} <= {405, 204}
    assert await site.job(posted).status() is JobState.QUEUED


async def test_an_unknown_job_cannot_be_cancelled(site: Site) -> None:
    assert slug(await site.ask("POST", "/jobs/0123456789ab4def8123456789abcdef/cancel")) == "job-not-found"
