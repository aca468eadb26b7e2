"""Two requests under one Idempotency-Key: are they the same? Each framework has routes and pairs of its own."""

from __future__ import annotations

from typing import Any

import httpx

ITEM = {"name": "cup", "tags": ["a", "b"]}
Asked = tuple[str, dict[str, Any]]
"""A path below the router's, and what else the client sends."""


async def ask(client: httpx.AsyncClient, asked: Asked, under: str = "/eu/inner/") -> httpx.Response:
    """Post it."""
    path, options = asked
    return await client.post(under + path, **options)


async def assert_one_job(client: httpx.AsyncClient, one: Asked, other: Asked) -> None:
    """Both are answered with the same job."""
    answers = [await ask(client, asked) for asked in (one, other)]

    assert [answer.status_code for answer in answers] == [202, 202], answers[-1].text
    assert answers[0].json()["id"] == answers[1].json()["id"]


async def assert_other_is_refused(client: httpx.AsyncClient, one: Asked, other: Asked) -> None:
    """The key belongs to the first."""
    answers = [await ask(client, asked) for asked in (one, other)]

    assert [answer.status_code for answer in answers] == [202, 422], answers[-1].text
