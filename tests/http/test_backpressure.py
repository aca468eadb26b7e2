"""A queue that is full: 503, and when to come back; and whose jobs are whose."""

from __future__ import annotations

from typing import Any

import pytest

from arq_web.http.submit import FULL_RETRY_S
from tests.http.site import MakeSite, Site, slug
from tests.support.store_helpers import members


async def test_a_full_queue_is_a_503_and_says_when_to_come_back(make_site: MakeSite) -> None:
    site = make_site(max_queued=1)
    await site.submit("/double/1")

    refused = await site.ask("POST", "/double/2")

    assert (refused.status_code, slug(refused)) == (503, "queue-full")
    assert int(refused.headers["retry-after"]) in FULL_RETRY_S
    assert len(await members(site.hub.queue().store, "ready")) == 1


async def test_once_a_worker_has_taken_one_there_is_room(make_site: MakeSite) -> None:
    site = make_site(max_queued=1)
    await site.finished("/double/1")

    await site.submit("/double/2")


async def test_each_queue_has_a_limit_of_its_own(make_site: MakeSite) -> None:
    site = make_site(max_queued={"emails": 1})
    await site.submit("/note", json={"name": "Ann"})

    for _ in range(3):
        await site.submit("/double/1")
    refused = await site.ask("POST", "/note", json={"name": "Ann"})

    assert (refused.status_code, slug(refused)) == (503, "queue-full")


async def test_a_request_that_comes_again_is_not_refused(make_site: MakeSite) -> None:
    """It adds no job."""
    site = make_site(max_queued=1)
    first = await site.submit("/double/1", headers={"Idempotency-Key": "k"})

    again = await site.submit("/double/1", headers={"Idempotency-Key": "k"})

    assert again.json()["id"] == first.json()["id"]


async def test_a_request_that_was_refused_may_come_again_under_its_key(make_site: MakeSite) -> None:
    site = make_site(max_queued=1)
    await site.submit("/double/1")
    refused = await site.ask("POST", "/double/2", headers={"Idempotency-Key": "k"})
    await site.run()

    again = await site.submit("/double/2", headers={"Idempotency-Key": "k"})

    assert refused.status_code == 503
    assert again.json()["created"]


@pytest.mark.parametrize("limit", [-1, {"unknown": 1}, {"default": -1}, ["default"]])
async def test_a_limit_that_is_none_is_named_at_start(make_site: MakeSite, limit: Any) -> None:
    with pytest.raises(Exception, match="max_queued"):
        make_site(max_queued=limit)


async def test_who_submits_is_recorded(make_site: MakeSite) -> None:
    """And stays with the job."""
    site: Site = make_site(owner=lambda request: request.headers.get("x-user"))

    mine = await site.finished("/double/1", headers={"X-User": "Zoë {1}".encode()})
    nobodys = await site.submit("/double/1")

    assert (await site.job(mine).info()).owner == "Zoë {1}".encode().decode("latin-1")
    assert (await site.job(nobodys).info()).owner is None
