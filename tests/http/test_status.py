"""``GET /jobs/{id}``: where the job is, what has changed, and waiting for that."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime

import pytest

from arq_web.http import answers
from arq_web.job import JobInfo, JobState
from tests.http.site import MakeSite, Site, said, slug
from tests.support.store_helpers import command
from tests.support.waiting import wait_until


async def test_a_queued_job_says_all_that_is_known_of_it(site: Site) -> None:
    posted = await site.submit("/double/2")

    response = await site.ask("GET", posted.headers["location"])

    shown = response.json()
    assert response.status_code == 200
    assert datetime.fromisoformat(shown.pop("enqueued_at")).tzinfo is not None
    assert shown == {
        "id": posted.json()["id"],
        "state": "queued",
        "done": False,
        "queue": "default",
        "task": "http.double",
        "attempt": 0,
        "failures": 0,
        "crashes": 0,
        "links": posted.json()["links"],
    }
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["retry-after"] in {"1", "2"}


async def test_a_finished_job_shows_its_small_result_and_asks_nobody_to_come_back(site: Site) -> None:
    posted = await site.finished("/greet", json={"name": "Ann"})

    response = await site.ask("GET", posted.headers["location"])

    shown = response.json()
    assert (shown["state"], shown["done"], shown["attempt"]) == ("succeeded", True, 1)
    assert shown["result"] == {"words": "Hello, Ann.", "length": 11}
    assert {"started_at", "finished_at"} <= shown.keys()
    assert "retry-after" not in response.headers


@pytest.mark.parametrize(("length", "is_shown"), [(16_000, True), (17_000, False)])
async def test_a_large_result_is_only_where_it_is_fetched(site: Site, length: int, *, is_shown: bool) -> None:
    """A client that polls the status must not carry it away each time."""
    posted = await site.finished("/greet", json={"name": "x" * length})

    shown = (await site.ask("GET", posted.headers["location"])).json()
    result = (await site.ask("GET", posted.json()["links"]["result"])).json()

    assert len(result["words"]) > length
    assert shown.get("result") == (result if is_shown else None)


async def test_a_running_job_shows_its_progress(site: Site) -> None:
    async with site.working():
        posted = await site.submit("/step")
        job = site.job(posted)

        async def has_progress() -> bool:
            return (await job.info()).progress is not None

        await wait_until(has_progress, description="the job has reported")
        shown = (await site.ask("GET", posted.headers["location"])).json()
        site.go_on.set()
        await site.reach(posted, JobState.SUCCEEDED)

    assert shown["state"] == "running"
    assert shown["progress"]["fraction"] == 0.5
    assert shown["progress"]["message"] == "half"


async def test_what_an_error_says_is_not_for_clients(site: Site) -> None:
    """A route that raises says "Internal Server Error": messages name hosts, tables, paths."""
    posted = await site.finished("/crash")

    response = await site.ask("GET", posted.headers["location"])

    assert response.json()["error"] == {"type": "ValueError", "reason": "failed"}
    assert "10.0.0.7" not in response.text
    assert "worker" not in response.json()


async def test_while_developing_errors_and_workers_are_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the client is the developer."""
    posted = await site.finished("/crash")
    monkeypatch.setenv("ARQ_WEB_DEV", "1")

    shown = (await site.ask("GET", posted.headers["location"])).json()

    assert shown["error"]["message"] == "broken pixel at 10.0.0.7"
    assert shown["worker"]


async def test_both_frameworks_say_the_same_of_the_same_job(sites: list[Site]) -> None:
    """Byte for byte, with the same headers, in every state."""
    one, other = sites
    for path, is_run in (("/double/2", False), ("/double/3", True), ("/refuse/404", True), ("/note", False)):
        options = {"json": {"name": "Ann"}} if path == "/note" else {}
        posted = await one.submit(path, **options)
        if is_run:
            await one.run()

        first, second = [await each.ask("GET", posted.headers["location"]) for each in (one, other)]

        assert said(first) == said(second)


@pytest.mark.parametrize(
    "path",
    ["/jobs/unknown", "/jobs/0123456789ab4def8123456789abcdef", "/jobs/no%20id", "/jobs/x%0ay", "/jobs/%ff", "/jobs/ü"],
)
async def test_an_unknown_job_is_a_404_problem(sites: list[Site], path: str) -> None:
    first, second = [await site.ask("GET", path) for site in sites]

    assert first.status_code == 404
    assert slug(first) == "job-not-found"
    assert said(first) == said(second)


async def test_a_queue_that_is_not_the_apps_is_not_told_apart(site: Site) -> None:
    """No other keys of this Redis are to be looked at."""
    posted = await site.submit("/double/2")

    for query in ("?queue=other", "?queue=", "?queue=emails", "?queue=%00"):
        assert slug(await site.ask("GET", posted.headers["location"] + query)) == "job-not-found"


async def test_the_entity_tag_changes_with_the_job_and_with_nothing_else(site: Site) -> None:
    """A client sees by it whether there is news."""
    posted = await site.submit("/double/2")
    tags = [(await site.ask("GET", posted.headers["location"])).headers["etag"] for _ in range(2)]
    await site.run()
    tags.append((await site.ask("GET", posted.headers["location"])).headers["etag"])

    assert tags[0] == tags[1] != tags[2]
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


@pytest.mark.parametrize("header", ["{tag}", "W/{tag}", '"other", {tag}', "*"])
async def test_what_was_seen_is_not_sent_again(sites: list[Site], header: str) -> None:
    posted = await sites[0].submit("/double/2")
    tag = (await sites[0].ask("GET", posted.headers["location"])).headers["etag"]

    answered = [
        await site.ask("GET", posted.headers["location"], headers={"If-None-Match": header.format(tag=tag)})
        for site in sites
    ]

    assert (answered[0].status_code, answered[0].content) == (304, b"")
    assert answered[0].headers["etag"] == tag
    assert "content-type" not in answered[0].headers
    assert said(answered[0]) == said(answered[1])


async def test_what_is_news_is_sent(site: Site) -> None:
    posted = await site.submit("/double/2")

    response = await site.ask("GET", posted.headers["location"], headers={"If-None-Match": '"other"'})

    assert response.status_code == 200


async def test_a_head_is_the_get_without_its_body(sites: list[Site]) -> None:
    posted = await sites[0].submit("/double/2")
    whole = await sites[0].ask("GET", posted.headers["location"])

    heads = [await site.ask("HEAD", posted.headers["location"]) for site in sites]

    assert (heads[0].status_code, heads[0].content) == (200, b"")
    assert dict(heads[0].headers) == dict(whole.headers)
    assert said(heads[0]) == said(heads[1])


async def test_to_a_head_no_body_is_handed_to_the_server(site: Site) -> None:
    """Most servers would drop it, as the test client does; none must have to."""
    posted = await site.submit("/double/2")
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    path = posted.headers["location"]
    scope = {"type": "http", "method": "HEAD", "path": path, "raw_path": path.encode(), "query_string": b""}
    more = {"http_version": "1.1", "asgi": {"version": "3.0"}, "scheme": "http", "root_path": "", "headers": []}
    await site.app({**scope, **more, "client": None, "server": None}, None, send)

    assert sent[0]["status"] == 200
    assert b"".join(bytes(message["body"]) for message in sent[1:]) == b""  # type: ignore[call-overload]


async def test_a_long_poll_returns_at_the_change(site: Site) -> None:
    """Not after its time."""
    posted = await site.submit("/double/2")
    url = posted.headers["location"]
    tag = (await site.ask("GET", url)).headers["etag"]

    began_at = time.monotonic()
    headers = {"Prefer": "wait=20", "If-None-Match": tag}
    polling = asyncio.create_task(site.ask("GET", url, headers=headers))
    await wait_until(lambda: site_waits(site), description="somebody waits")
    async with site.working():
        response = await polling
        await site.reach(posted, JobState.SUCCEEDED)

    assert response.status_code == 200
    assert response.json()["state"] in {"running", "succeeded"}
    assert response.headers["etag"] != tag
    assert response.headers["preference-applied"] == "wait=20"
    assert time.monotonic() - began_at < 15


@pytest.mark.parametrize(("has_tag", "status"), [(True, 304), (False, 200)])
async def test_a_long_poll_without_a_change_ends_with_its_time(site: Site, *, has_tag: bool, status: int) -> None:
    """With what the client has already, or with what it had not asked for."""
    posted = await site.submit("/double/2")
    url = posted.headers["location"]
    tag = (await site.ask("GET", url)).headers["etag"]

    headers = {"Prefer": "wait=1"} | ({"If-None-Match": tag} if has_tag else {})
    response = await site.ask("GET", url, headers=headers)

    assert (response.status_code, response.headers["etag"]) == (status, tag)
    assert response.headers["preference-applied"] == "wait=1"


@pytest.mark.parametrize("tag", ['"another"', None])
async def test_a_long_poll_has_nothing_to_wait_for_when_there_is_news(site: Site, tag: str | None) -> None:
    """It was somewhere else meanwhile, or the job has ended."""
    posted = await (site.submit if tag else site.finished)("/double/2")

    headers = {"Prefer": "wait=20"} | ({"If-None-Match": tag} if tag else {})
    response = await asyncio.wait_for(site.ask("GET", posted.headers["location"], headers=headers), 5)

    assert response.status_code == 200


async def test_a_long_poll_is_cut_so_that_it_never_holds_up_a_shutdown(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 s while developing, where the server restarts all the time, else 25 s; the client is told."""
    posted = await site.finished("/double/2")

    for is_development, granted in (("0", "wait=25"), ("1", "wait=5")):
        monkeypatch.setenv("ARQ_WEB_DEV", is_development)
        response = await site.ask("GET", posted.headers["location"], headers={"Prefer": "wait=3600"})
        assert response.headers["preference-applied"] == granted


async def test_too_many_who_wait_are_turned_away(make_site: MakeSite) -> None:
    """Each holds memory and a connection of the server."""
    site = make_site(max_streams=1)
    posted = await site.submit("/double/2")
    url, headers = posted.headers["location"], {"Prefer": "wait=3"}
    first = asyncio.create_task(site.ask("GET", url, headers=headers))
    await wait_until(lambda: site_waits(site), description="somebody waits")

    second = await site.ask("GET", url, headers=headers)
    without_waiting = await site.ask("GET", url)

    assert slug(second) == "too-many-waiting"
    assert int(second.headers["retry-after"]) >= 1
    assert without_waiting.status_code == 200
    assert (await first).status_code == 200


@pytest.mark.parametrize(
    ("age_s", "pause_s"), [(0, 1), (1, 1), (2, 2), (4, 3), (7, 5), (12, 8), (20, 13), (33, 21), (88, 55), (3600, 60)]
)
def test_the_pause_grows_with_the_age_of_the_job(info: JobInfo, age_s: float, pause_s: int) -> None:
    """Whoever keeps to it looks at 1, 2, 4, 7, 12, ... s; a fifth more at most, so that not all come at once."""
    young = answers.retry_after(info, now_s=info.enqueued_at_ms / 1000 + age_s)

    assert pause_s <= int(young["retry-after"]) <= min(60, round(pause_s * 1.2))


@pytest.mark.parametrize("path", ["", "/result", "/events"])
async def test_a_store_that_is_not_what_it_should_be_is_a_503_and_a_line_in_the_log(
    site: Site, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """The client may come back; and somebody must hear of it, for to come back does not help."""
    posted = await site.submit("/double/2")
    store = site.hub.queue().store
    record = store.base + b"j:" + posted.json()["id"].encode()
    before = await command(store, "GET", record)
    assert isinstance(before, bytes)
    await command(store, "SET", record, b"nothing of ours")

    response = await site.ask("GET", posted.headers["location"] + path)
    await command(store, "SET", record, before)

    assert (response.status_code, slug(response)) == (503, "backend-unavailable")
    assert "A key of arq_web" in caplog.text
    assert "nothing of ours" not in response.text


def test_clients_of_different_jobs_come_back_at_different_times(info: JobInfo) -> None:
    """Those who came together, after an outage, must not all come back together."""
    now_s = info.enqueued_at_ms / 1000 + 60

    pauses = {answers.retry_after(replace(info, id=f"{n:032x}"), now_s)["retry-after"] for n in range(100)}

    assert len(pauses) > 3


def test_a_web_host_with_a_late_clock_gives_the_shortest_pause(info: JobInfo) -> None:
    assert answers.retry_after(info, now_s=0)["retry-after"] == "1"


@pytest.mark.parametrize(
    "change",
    [
        {"state": JobState.RUNNING},
        {"attempt": 2},
        {"failures": 1},
        {"crashes": 1},
        {"since_ms": 2},
        {"started_at_ms": 3},
        {"due_at_ms": 4},
        {"cancel_requested": True},
        {"worker": "web-1:1:ab"},
        {"has_result": True},
    ],
)
def test_nothing_that_is_shown_changes_without_the_entity_tag(info: JobInfo, change: dict[str, object]) -> None:
    changed = replace(info, **change)  # type: ignore[arg-type]

    assert answers.etag_of(changed) != answers.etag_of(info)


@pytest.fixture
def info() -> JobInfo:
    return JobInfo(
        id="0123456789ab4def8123456789abcdef",
        queue="default",
        task="http.double",
        state=JobState.QUEUED,
        attempt=1,
        failures=0,
        crashes=0,
        max_crashes=3,
        priority=0,
        enqueued_at_ms=1_700_000_000_000,
        since_ms=1_700_000_000_000,
        started_at_ms=None,
        due_at_ms=None,
        expires_at_ms=None,
        keep_result_ms=3_600_000,
        unique=None,
        cancel_requested=False,
        worker=None,
        error=None,
        progress=None,
        has_result=False,
    )


def site_waits(site: Site) -> bool:
    return site.front.waiters.open_count > 0
