"""The app's OpenAPI document: the core describes what we answer, FastAPI all that it has found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI

from arq_web.http.front import Front
from arq_web.http.openapi import RESULT, SubmitRoute, document_app, document_submit
from arq_web_fastapi._compat import methods_of, routes_of
from arq_web_fastapi.routes import JobRoute

_UNREADABLE_BODY: Final = {
    "description": "The body cannot be read",
    "content": {"application/json": {"schema": {"type": "object", "properties": {"detail": {"type": "string"}}}}},
}
"""FastAPI answers so, and does not document it."""


def document_jobs(app: FastAPI, front: Front) -> None:
    """Wrap ``app.openapi``, as FastAPI documents it for extending the schema."""
    generate: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        _document_submits(document, app, front)
        document_app(document, front)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _document_submits(document: dict[str, Any], app: FastAPI, front: Front) -> None:
    paths: dict[str, Any] = document.get("paths", {})
    for route in routes_of(app.routes):
        if not isinstance(route.endpoint, JobRoute):
            continue
        operations = paths.get(getattr(route, "path_format", route.path), {})
        for method in methods_of(route):
            operation = operations.get(method.lower(), {})
            responses: dict[str, Any] = operation.get("responses", {})
            if not responses or RESULT in responses.get("202", {}):
                continue  # not shown, or FastAPI keeps the document that it made once
            declared = responses.pop(str(getattr(route, "status_code", None) or 200), {})
            own = responses.pop("202", {})  # from the route's responses={202: ...}
            if "requestBody" in operation:
                responses.setdefault("400", _UNREADABLE_BODY)
            job = route.endpoint
            document_submit(operation, front, SubmitRoute(job.policy, job.http, declared.get("content", {}), own))
