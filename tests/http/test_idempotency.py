"""``Idempotency-Key``: a request that comes again gets its own job again, and never makes another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from arq_web import Config, JobState
from tests.http.site import MakeSite, Site, said, slug
from tests.support.store_helpers import command, keys, members, ttl_ms
from tests.support.time_travel import let_time_pass

KEY = {"Idempotency-Key": '"8e03978e-40d5-43e8-bc93-6894a57f9324"'}
DAY_MS = 86_400_000
ANN, BOB = {"name": "Ann"}, {"name": "Bob"}


async def order(site: Site, path: str = "/order/1", *, json: Any = ANN, **headers: str) -> httpx.Response:
    """A request to the route that wants a key."""
    return await site.ask(
        "POST", path, json=json, headers={**KEY, **{k.replace("_", "-"): v for k, v in headers.items()}}
    )


async def ready(site: Site) -> list[str]:
    """The ids of the jobs that wait."""
    return await members(site.hub.queue().store, "ready")


async def test_the_same_request_gets_the_same_job_again(site: Site) -> None:
    first = await order(site)
    again = await order(site)

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == {**first.json(), "created": False}
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert {**again.headers, "idempotent-replayed": "", "content-length": ""} == {
        **first.headers,
        "idempotent-replayed": "",
        "content-length": "",
    }
    assert await ready(site) == [first.json()["id"]]


async def test_it_is_told_as_it_stands_now(site: Site) -> None:
    """Not as it stood: a client that has waited long wants no old news."""
    first = await order(site)
    await site.run()

    again = await order(site)

    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert (again.json()["state"], again.json()["done"]) == ("succeeded", True)
    assert again.headers["location"] == first.headers["location"]
    assert "retry-after" not in again.headers
    assert (await site.ask("GET", again.json()["links"]["result"])).text.strip('"') == "1 red Ann "


async def test_200_requests_at_once_are_one_job(site: Site) -> None:
    answers = await asyncio.gather(*(order(site) for _ in range(200)))

    assert {answer.status_code for answer in answers} == {202}
    [job_id] = {answer.json()["id"] for answer in answers}
    assert await ready(site) == [job_id]
    assert [answer.json()["created"] for answer in answers].count(True) == 1
    replays = [answer for answer in answers if "idempotent-replayed" in answer.headers]
    assert len(replays) == 199
    assert len({answer.content for answer in replays}) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/order/2", ANN),
        ("/order/1", BOB),
        ("/order/1", {**ANN, "loud": True}),
        ("/order/1?colour=blue", ANN),
    ],
)
async def test_other_values_under_the_same_key_are_refused(site: Site, path: str, body: object) -> None:
    """One of the two would get the other's answer. Whose job the key stands for is not told: a key may be guessed."""
    first = await order(site)

    refused = await order(site, path, json=body)

    assert (refused.status_code, slug(refused)) == (422, "idempotency-key-reused")
    assert first.json()["id"] not in refused.text
    assert await ready(site) == [first.json()["id"]]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/order/1?colour=red", ANN),
        ("/order/1", {"loud": False, "name": "Ann"}),
        ("/order/01", ANN),
        ("/order/1?more=1", ANN),
    ],
)
async def test_what_means_the_same_is_the_same(site: Site, path: str, body: object) -> None:
    """A client's library may write a default, or not, and in any order: the values count, once they are validated."""
    first = await order(site)

    again = await order(site, path, json=body)

    assert (again.status_code, again.json().get("id")) == (202, first.json()["id"])


async def test_headers_may_differ(site: Site) -> None:
    """A new token, a new trace: it is the same request."""
    first = await order(site)

    again = await order(site, x_note="urgent", authorization="Bearer new", traceparent="00-1-1-00")

    assert again.json()["id"] == first.json()["id"]


async def test_a_key_is_not_looked_at_beyond_its_quotes(site: Site) -> None:
    """As the header's draft has it, and as many send it."""
    quoted = await site.ask("POST", "/order/1", json=ANN, headers={"Idempotency-Key": '"abc"'})
    bare = await site.ask("POST", "/order/1", json=ANN, headers={"Idempotency-Key": "abc"})

    assert bare.json()["id"] == quoted.json()["id"]


@pytest.mark.parametrize("key", ["", '""', "a b", '"a b"', "ü", "x" * 256, "a\tb"])
async def test_a_key_that_means_nothing_is_refused(site: Site, key: str) -> None:
    """To overlook it would make a second job of the next try."""
    response = await site.ask("POST", "/double/1", headers=[(b"Idempotency-Key", key.encode("latin-1"))])

    assert (response.status_code, slug(response)) == (400, "invalid-header")
    assert "Idempotency-Key" in response.json()["detail"]
    assert await ready(site) == []


async def test_two_keys_in_one_request_are_refused(site: Site) -> None:
    response = await site.ask("POST", "/double/1", headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])

    assert (response.status_code, slug(response)) == (400, "invalid-header")


async def test_a_route_may_want_a_key(site: Site) -> None:
    response = await site.ask("POST", "/order/1", json=ANN)

    assert (response.status_code, slug(response)) == (400, "idempotency-key-missing")
    assert await ready(site) == []


async def test_a_route_may_take_no_notice_of_keys(site: Site) -> None:
    """Also not of one that means nothing."""
    answers = [await site.submit("/loose", headers={"Idempotency-Key": key}) for key in ("a", "a", "")]

    assert len({answer.json()["id"] for answer in answers}) == 3


async def test_without_a_key_each_request_is_a_job(site: Site) -> None:
    answers = [await site.submit("/double/1") for _ in range(2)]

    assert len({answer.json()["id"] for answer in answers}) == 2


async def test_a_request_that_was_refused_has_not_used_its_key(site: Site) -> None:
    """There is no job of it, so what comes next under the key is the first."""
    refused = await order(site, json={"loud": "perhaps"})
    corrected = await order(site)

    assert refused.status_code in (400, 422)
    assert (corrected.status_code, corrected.json()["created"]) == (202, True)


async def test_methods_routes_and_keys_do_not_meet(site: Site) -> None:
    same = {"headers": KEY}
    answers = [
        await site.submit("/double/1", **same),
        await site.submit("/nothing", **same),
        await site.submit("/double/1", headers={"Idempotency-Key": "other"}),
        await site.submit("/note", json=ANN, **same),
    ]

    assert len({answer.json()["id"] for answer in answers}) == 4
    assert all(answer.json()["created"] for answer in answers)


async def test_the_keys_of_two_users_do_not_meet(make_site: MakeSite) -> None:
    """One must not get the other's job by choosing the same word."""
    site = make_site(owner=lambda request: request.headers.get("x-user"))
    names = ["ann", "bob", None]
    by_name = {name: await order(site, **({"x_user": name} if name else {})) for name in names}

    again = {name: await order(site, **({"x_user": name} if name else {})) for name in names}

    ids = {name: answer.json()["id"] for name, answer in by_name.items()}
    assert len(set(ids.values())) == 3
    assert {name: answer.json()["id"] for name, answer in again.items()} == ids


async def test_after_its_job_is_gone_the_request_is_told_so_and_not_done_again(site: Site) -> None:
    """A result is kept for an hour, a key for a day."""
    first = await order(site)
    await site.run()
    await let_time_pass(site.hub.queue().store, 3_600_000)

    again = await order(site)

    assert (again.status_code, slug(again)) == (410, "job-gone")
    assert again.json()["job"] == first.json()["id"]
    assert await ready(site) == []


async def test_a_job_that_was_dismissed_is_gone(make_site: MakeSite) -> None:
    """It is unknown from the moment when its owner wanted it so; and is not done again."""
    site = make_site(routes=["status", "delete"])
    first = await order(site)
    await site.run()
    assert (await site.ask("DELETE", first.headers["location"])).status_code == 204

    again = await order(site)

    assert (again.status_code, slug(again)) == (410, "job-gone")
    assert await ready(site) == []


async def test_after_its_key_is_gone_the_request_is_a_new_one(site: Site) -> None:
    """A day, counted from the first use; it is in the OpenAPI document."""
    first = await order(site)
    await site.run()
    await let_time_pass(site.hub.queue().store, DAY_MS)

    again = await order(site)

    assert (again.status_code, again.json()["created"]) == (202, True)
    assert again.json()["id"] != first.json()["id"]


@pytest.mark.parametrize(("kept_s", "known_ms"), [(600.0, 3_600_000), (2 * 86400.0, 2 * DAY_MS)])
async def test_a_key_is_known_as_long_as_is_set_and_at_least_as_long_as_the_result(
    make_site: MakeSite, config: Config, kept_s: float, known_ms: int
) -> None:
    site = make_site(config=replace(config, keep_idempotency_s=kept_s))

    await order(site)

    assert known_ms - 10_000 < await ttl_ms(site.hub.queue().store, await key_of(site)) <= known_ms


async def key_of(site: Site) -> str:
    """The name of the one idempotency key that Redis holds."""
    store = site.hub.queue().store
    [key] = await keys(store, "i:*")
    return key.removeprefix(store.base).decode()


async def test_what_is_kept_of_a_key_is_neither_the_key_nor_the_values(site: Site) -> None:
    """Whoever reads Redis learns no credential that a client may have put there, and the key of no other."""
    await order(site, json={"name": "very-secret"})

    store, key = site.hub.queue().store, await key_of(site)
    value = await command(store, "GET", store.base + key.encode())

    assert "8e03978e" not in key
    assert isinstance(value, bytes)
    assert b"very-secret" not in value


async def test_both_frameworks_say_the_same(make_sites: Callable[..., list[Site]]) -> None:
    """Each to its own client: the names of parameters are part of what is compared, and they differ here."""
    sites = make_sites()
    ids = [(await order(site, Idempotency_Key=site.name)).json()["id"] for site in sites]

    replays = [await order(site, Idempotency_Key=site.name) for site in sites]
    refused = [await order(site, json=BOB, Idempotency_Key=site.name) for site in sites]
    missing = [await site.ask("POST", "/order/1", json=ANN) for site in sites]
    wrong = [await site.ask("POST", "/order/1", json=ANN, headers={"Idempotency-Key": "a b"}) for site in sites]

    one, other = (str(said(replay)).replace(job_id, "ID") for replay, job_id in zip(replays, ids, strict=True))
    assert one == other
    for first, second in (refused, missing, wrong):
        assert said(first) == said(second)


async def test_a_redriven_job_is_found_by_its_key(site: Site) -> None:
    first = await order(site)
    job = site.job(first)
    await job.cancel()
    await job.redrive()

    again = await order(site)

    assert (again.json()["id"], again.json()["state"]) == (first.json()["id"], JobState.QUEUED)
