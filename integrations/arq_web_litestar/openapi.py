"""The documentation of job routes: 202 and its problems, and the handler's return type as the schema of the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

from litestar.datastructures import ResponseHeader
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Link, OpenAPIResponse, Operation, Responses

from arq_web.http.problems import Problem

if TYPE_CHECKING:
    from arq_web_litestar.routes import JobRoute

RESULT = "x-result"
"""In the 202 of an operation: status and content of the job's result."""
_RESULT_CODE = 0
"""No status: under it the result stands among the responses, where Litestar makes its schema and components."""


@dataclass
class AcceptedResponse(OpenAPIResponse):
    """A 202 that says what will come of it."""

    result: dict[str, Any] | None = field(default=None, metadata={"alias": RESULT})


class JobOperation(Operation):
    """The operation of a job route, made before the handler's own operation class sees it.

    No dataclass itself: its fields and ``__post_init__`` are those of the handler's own.
    """

    result_status: ClassVar[int]
    status_path: ClassVar[str | None]

    def __init__(self, *, responses: Responses, **rest: Any) -> None:
        """Move the result to where it belongs."""
        accepted = cast("OpenAPIResponse", responses["202"])
        result = cast("OpenAPIResponse", responses.pop(str(_RESULT_CODE)))
        responses["202"] = AcceptedResponse(
            accepted.description,
            accepted.headers,
            accepted.content,
            None if self.status_path is None else {"status": _link_to(self.status_path)},
            {"status": self.result_status, "content": result.content},
        )
        super().__init__(responses=responses, **rest)


def problem(description: str) -> ResponseSpec:
    """One problem among the responses of an operation."""
    return ResponseSpec(Problem, description=description, media_type="application/problem+json")


def document_job(handler: HTTPRouteHandler, job: JobRoute[..., Any], status_path: str | None) -> None:
    """Let the OpenAPI document say what is answered, whatever status the handler's decorator assumed."""
    if issubclass(handler.operation_class, JobOperation):
        return  # a handler of several paths comes once for each
    handler.status_code = 202
    text = "Where the status of the job is."
    location = ResponseHeader("Location", documentation_only=True, value="/jobs/...", description=text)
    handler.response_headers = [location, *(handler.response_headers or ())]
    handler.responses = {
        413: problem("The arguments are over the limit"),
        503: problem("The job store does not answer; try again"),
        **(handler.responses or {}),
        _RESULT_CODE: _result_of(job),
    }
    about = {"result_status": job.http.result_status, "status_path": status_path}
    handler.operation_class = type(JobOperation.__name__, (JobOperation, handler.operation_class), about)


def _result_of(job: JobRoute[..., Any]) -> ResponseSpec:
    # Litestar takes a container of None for no content at all, but the result is a null.
    returns = type(None) if job.plan.returns is None else job.plan.returns
    return ResponseSpec(returns, generate_examples=False)


def _link_to(status_path: str) -> Link:
    pointer = "#/paths/" + status_path.replace("~", "~0").replace("/", "~1") + "/get"
    return Link(operation_ref=pointer, parameters={"job_id": "$response.body#/id", "queue": "$response.body#/queue"})
