"""One of the suite's apps as a process of its own, under uvicorn; forked by ``tests/support/forked.py``."""

from __future__ import annotations

import uvicorn

from arq_web import Config
from tests.http.fastapi_site import fastapi_site
from tests.http.litestar_site import litestar_site
from tests.http.site import BuildSite
from tests.support.forked import Request

BUILDERS: dict[str, BuildSite] = {"fastapi": fastapi_site, "litestar": litestar_site}


def serve(request: Request) -> None:
    """Serve until the process is told to stop, or killed."""
    config = Config(namespace=request["namespace"], embedded="never")
    site = BUILDERS[request["framework"]](url=request["url"], config=config, options={})
    uvicorn.run(site.app, port=int(request["port"]), log_level="warning")
