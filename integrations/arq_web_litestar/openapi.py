"""The documentation of job routes: 202 and its problems."""

from __future__ import annotations

from litestar.datastructures import ResponseHeader
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec

from arq_web.http import answers


def problem(description: str) -> ResponseSpec:
    """One problem among the responses of an operation."""
    return ResponseSpec(answers.Problem, description=description, media_type="application/problem+json")


def document_job(handler: HTTPRouteHandler) -> None:
    """Let the OpenAPI document say what is answered, whatever status the handler's decorator assumed."""
    handler.status_code = 202
    text = "Where the status of the job is."
    location = ResponseHeader("Location", documentation_only=True, value="/jobs/...", description=text)
    handler.response_headers = [location, *(handler.response_headers or ())]
    handler.responses = {
        413: problem("The arguments are over the limit"),
        503: problem("The job store does not answer; try again"),
        **(handler.responses or {}),
    }
