"""The documentation of job routes: 202 and its problems, and the handler's return type as the schema of the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import FastAPI

from arq_web.http.answers import Accepted, JobBody
from arq_web.http.front import Front
from arq_web.http.problems import Problem
from arq_web.http.submit import SubmitPolicy
from arq_web_fastapi._compat import RouteView, methods_of, routes_of

RESULT = "x-result"
"""In the 202 of an operation: status and content of the job's result."""
_PREFIX = "ArqWeb"  # so that no schema of the app's is hidden
_REF = "#/components/schemas/" + _PREFIX


def document_jobs(app: FastAPI, front: Front) -> None:
    """Wrap ``app.openapi``, as FastAPI documents it for extending the schema."""
    generate: Callable[[], dict[str, Any]] = app.openapi
    status_path = front.jobs_path + "/{job_id}" if "status" in front.routes else None

    def openapi() -> dict[str, Any]:
        document = generate()
        _amend(document, app, status_path)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def content_of(name: str, media_type: str = "application/json") -> dict[str, Any]:
    """The content of an answer of ours."""
    return {media_type: {"schema": {"$ref": _REF + name}}}


def problem(description: str) -> dict[str, Any]:
    """One problem among the responses of an operation."""
    return {"description": description, "content": content_of("Problem", "application/problem+json")}


def _amend(document: dict[str, Any], app: FastAPI, status_path: str | None) -> None:
    paths: dict[str, Any] = document.get("paths", {})
    for route in routes_of(app.routes):
        operations = paths.get(getattr(route, "path_format", route.path), {})
        policy = getattr(route.endpoint, "http", None)
        if isinstance(policy, SubmitPolicy):
            for method in methods_of(route):
                if method.lower() in operations:
                    _amend_operation(operations[method.lower()], route, policy, status_path)
    _, schemas = msgspec.json.schema_components([Accepted, JobBody, Problem], ref_template=_REF + "{name}")
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components.update({_PREFIX + name: schema for name, schema in schemas.items()})


def _amend_operation(
    operation: dict[str, Any], route: RouteView, policy: SubmitPolicy, status_path: str | None
) -> None:
    responses: dict[str, Any] = operation.get("responses", {})
    if RESULT in responses.get("202", {}):
        return  # FastAPI keeps the document that it made once
    declared = responses.pop(str(getattr(route, "status_code", None) or 200), {})
    own_words = responses.pop("202", {}).get("description")  # from the route's responses={202: ...}
    accepted = {
        "description": own_words or "The job is enqueued; its status is at the Location.",
        "headers": {
            "Location": {"description": "The job's status", "schema": {"type": "string"}},
            "Retry-After": {"description": "Seconds until a look is worth while", "schema": {"type": "string"}},
        },
        "content": content_of("Accepted"),
        RESULT: {"status": policy.result_status, "content": declared.get("content", {})},
    }
    if status_path is not None:
        pointer = "#/paths/" + status_path.replace("~", "~0").replace("/", "~1") + "/get"
        parameters = {"job_id": "$response.body#/id", "queue": "$response.body#/queue"}
        accepted["links"] = {"status": {"operationRef": pointer, "parameters": parameters}}
    operation["responses"] = {
        "202": accepted,
        **responses,
        "413": problem("The arguments are over the limit"),
        "503": problem("The job store does not answer; try again"),
    }
