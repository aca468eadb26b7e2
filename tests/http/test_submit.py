"""From the request to the 202."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from arq_web.job import JobState
from tests.http.site import MakeSite, Site, said


async def test_a_202_says_where_all_of_the_job_is(site: Site) -> None:
    """A client needs nothing else: no URL is put together by hand."""
    response = await site.submit("/double/2")

    job_id = response.json()["id"]
    assert re.fullmatch(r"[0-9a-f]{32}", job_id)
    assert response.json() == {
        "id": job_id,
        "state": "queued",
        "done": False,
        "queue": "default",
        "task": "http.double",
        "created": True,
        "links": {
            "self": f"/jobs/{job_id}",
            "result": f"/jobs/{job_id}/result",
            "events": f"/jobs/{job_id}/events",
            "cancel": f"/jobs/{job_id}/cancel",
        },
    }
    assert response.headers["location"] == f"/jobs/{job_id}"
    assert response.headers["link"] == (
        f'</jobs/{job_id}/events>; rel="monitor"; type="text/event-stream", </jobs/{job_id}/result>; rel="related"'
    )
    assert response.headers["retry-after"] == "1"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "application/json"


async def test_a_job_of_another_queue_says_so_in_all_its_urls(site: Site) -> None:
    """Ids are unique per queue."""
    response = await site.submit("/note", json={"name": "Ann"})

    job_id = response.json()["id"]
    assert response.headers["location"] == f"/jobs/{job_id}?queue=emails"
    links = response.json()["links"]
    assert links["result"] == f"/jobs/{job_id}/result?queue=emails"
    assert [(await site.ask("GET", links[name])).status_code for name in ("self", "result")] == [200, 202]


async def test_both_frameworks_say_the_same_but_for_the_id(sites: list[Site]) -> None:
    """Byte for byte, with the same headers."""
    answers = [await site.submit("/greet", json={"name": "Ann"}) for site in sites]

    ids = [answer.json()["id"] for answer in answers]
    texts = [str(said(answer)).replace(job_id, "ID") for answer, job_id in zip(answers, ids, strict=True)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "GET"])
async def test_what_only_looks_never_enqueues(site: Site, method: str) -> None:
    """Browsers, proxies and crawlers send these as they like."""
    response = await site.ask(method, "/double/2")

    assert response.status_code in (204, 405)
    assert (await site.hub.queue().store.read("any")) is None
    assert await waiting_count(site) == 0


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_behind_a_proxy_links_have_its_prefix(site: Site, prefix: str) -> None:
    """Whether the proxy takes it off the path (uvicorn --root-path), or not."""
    transport = httpx.ASGITransport(app=site.app, root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        posted = await client.post(prefix + "/double/2")
        job_id = posted.json()["id"]
        status = await client.get(f"{prefix}/jobs/{job_id}")

    assert posted.headers["location"] == f"/api/jobs/{job_id}"
    assert all(link.startswith(f"/api/jobs/{job_id}") for link in posted.json()["links"].values())
    assert status.json()["links"] == posted.json()["links"]


async def test_links_lead_only_to_routes_that_the_app_has(make_site: MakeSite) -> None:
    site = make_site(routes=["status"])

    response = await site.submit("/double/2")

    assert response.json()["links"] == {"self": response.headers["location"]}
    assert "link" not in response.headers


async def test_without_routes_there_are_no_links_at_all(make_site: MakeSite) -> None:
    """The job is enqueued all the same: other code of the app shows it."""
    site = make_site(jobs_path=None)

    response = await site.submit("/double/2")

    assert response.json()["links"] == {}
    assert {"location", "link"}.isdisjoint(response.headers)
    assert await site.job(response).status() is JobState.QUEUED


async def test_the_routes_can_be_elsewhere(make_site: MakeSite) -> None:
    """All links follow."""
    site = make_site(jobs_path="/api/work")

    response = await site.finished("/double/2")

    links = response.json()["links"]
    assert all(link.startswith("/api/work/") for link in links.values())
    assert (await site.ask("GET", links["result"])).json() == 4


@pytest.mark.parametrize("path", ["jobs", "/", "/jobs/", "/jobs?x", "/{a}", ""])
async def test_a_path_that_is_none_is_refused(make_site: MakeSite, path: str) -> None:
    with pytest.raises(Exception, match="jobs_path"):
        make_site(jobs_path=path)


@pytest.mark.parametrize(
    ("options", "said_of"),
    [
        ({"routes": "status"}, "routes"),
        ({"routes": ["statuses"]}, "routes"),
        ({"routes": ["list"]}, "everybody's jobs"),
        ({"max_streams": 0}, "max_streams"),
    ],
)
async def test_an_option_out_of_its_range_is_named(make_site: MakeSite, options: dict[str, Any], said_of: str) -> None:
    with pytest.raises(Exception, match=said_of):
        make_site(**options)


async def waiting_count(site: Site) -> int:
    """How many jobs a worker would find."""
    worker: Any = site.hub.worker(burst=True)
    run: Callable[[], Any] = worker.run
    await run()
    return int(worker.counts.succeeded + worker.counts.failed)
