"""The app's OpenAPI document: the core describes what we answer, Litestar all that it has found."""

from __future__ import annotations

import copy
from typing import Any

from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPI

from arq_web.http.front import Front
from arq_web.http.openapi import SubmitRoute, document_app, document_submit
from arq_web_litestar.routes import JobRoute


class JobsDocument:
    """What the core is to describe in the document of one app."""

    def __init__(self, front: Front) -> None:
        """Nothing is known yet: routes come later."""
        self._front = front
        self._submits: dict[tuple[str, str], tuple[JobRoute[..., Any], str | None]] = {}

    def documented(self, config: OpenAPIConfig) -> OpenAPIConfig:
        """The app's configuration, whose document is completed when it is made. The given one is left alone."""
        own = copy.copy(config)

        def to_openapi_schema() -> OpenAPI:
            openapi = config.to_openapi_schema()
            generate = openapi.to_schema
            openapi.to_schema = lambda: self._completed(generate())  # type: ignore[method-assign]
            return openapi

        own.to_openapi_schema = to_openapi_schema  # type: ignore[method-assign]
        return own

    def add(self, path: str, handler: HTTPRouteHandler, job: JobRoute[..., Any]) -> None:
        """Describe a route that is a job, whatever status its decorator assumed."""
        for method in handler.http_methods:
            self._submits[path, str(method).lower()] = (job, handler.response_description)
        handler.status_code = 202
        # Among the responses, where Litestar makes its schema and components; in the end it stands in the 202.
        # Litestar takes a container of None for no content at all, but the result is a null.
        annotation = type(None) if job.plan.returns is None else job.plan.returns
        result = ResponseSpec(annotation, generate_examples=False)
        handler.responses = {**(handler.responses or {}), job.http.result_status: result}

    def _completed(self, document: dict[str, Any]) -> dict[str, Any]:
        for (path, method), (job, words) in self._submits.items():
            operation = document.get("paths", {}).get(path, {}).get(method)
            if operation is not None:  # it may be left out of the document
                responses = operation["responses"]
                own = responses.pop("202")
                returns = responses.pop(str(job.http.result_status), own).get("content", {})
                found = SubmitRoute(job.policy, job.http, returns, {**own, "description": words})
                document_submit(operation, self._front, found)
        document_app(document, self._front)
        return document
