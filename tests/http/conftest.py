"""The suite's apps: ``make_site`` in each framework, ``make_sites`` in both at once, on one Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from arq_web import Config
from tests.http.fastapi_site import fastapi_site
from tests.http.litestar_site import litestar_site
from tests.http.site import BuildSite, MakeSite, Site

BUILDERS: dict[str, BuildSite] = {"fastapi": fastapi_site, "litestar": litestar_site}


@pytest.fixture(autouse=True)
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers say more while developing; wherever the tests run, this is not it."""
    monkeypatch.setenv("ARQ_WEB_DEV", "0")


@pytest.fixture
def config(namespace: str) -> Config:
    return Config(namespace=namespace, embedded="never")


@pytest.fixture
async def opened() -> AsyncIterator[list[Site]]:
    sites: list[Site] = []
    yield sites
    for site in sites:
        await site.aclose()


@pytest.fixture(params=sorted(BUILDERS))
def make_site(request: pytest.FixtureRequest, redis_url: str, config: Config, opened: list[Site]) -> MakeSite:
    """A fresh app, with options for ``ArqWeb``."""

    def make(*, config: Config = config, **options: Any) -> Site:
        opened.append(BUILDERS[request.param](url=redis_url, config=config, options=options))
        return opened[-1]

    return make


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    """The app as it is without options."""
    return make_site()


@pytest.fixture
def make_sites(redis_url: str, config: Config, opened: list[Site]) -> Callable[..., list[Site]]:
    """The app in both frameworks, on one Redis: each sees the other's jobs."""

    def make(**options: Any) -> list[Site]:
        made = [build(url=redis_url, config=config, options=options) for build in BUILDERS.values()]
        opened.extend(made)
        return made

    return make


@pytest.fixture
def sites(make_sites: Callable[..., list[Site]]) -> list[Site]:
    """Both, without options."""
    return make_sites()
