"""The contract in an app's OpenAPI document: job routes, submits, and what they answer. The same in every framework."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from arq_web.http import problems
from arq_web.http.answers import Accepted, JobBody, JobList
from arq_web.http.asked import MAX_KEY_CHARS
from arq_web.http.front import Front
from arq_web.http.idempotency import kept_ms
from arq_web.http.job_routes import JobRoutes
from arq_web.http.listing import DEFAULT_LIMIT, MAX_LIMIT, STATES
from arq_web.http.paths import RouteName
from arq_web.http.problems import MEDIA_TYPE as PROBLEM_MEDIA_TYPE
from arq_web.http.problems import Problem, ProblemType
from arq_web.http.submit import SubmitPolicy
from arq_web.options import TaskPolicy
from arq_web.queue import DEFAULT_QUEUE

Json = dict[str, Any]

RESULT: Final = "x-result"
"""In the 202 of a submit: status and content of the handler's own answer."""
_PREFIX = "ArqWeb"  # so that no schema of the app's is hidden
_REF = "#/components/schemas/" + _PREFIX
_WITHOUT_RESULT: Final = (
    problems.JOB_CANCELLED,
    problems.JOB_EXPIRED,
    problems.RESULT_NOT_KEPT,
    problems.RESULT_UNREADABLE,
    problems.HANDLER_FAILED,
)
"""How a job ends that has nothing of its handler's to show."""


def document_app(document: Json, front: Front) -> None:
    """Describe the routes of jobs, which the framework has found, and add the schemas that are referred to."""
    for route in JobRoutes(front).table():
        item = document.get("paths", {}).get(front.jobs_path + route.path, {})
        operation = item.get(route.methods[0].lower())
        if operation is not None:
            _describe(operation, _OPERATIONS[route.name](front))
    _, schemas = msgspec.json.schema_components([Accepted, JobBody, JobList, Problem], ref_template=_REF + "{name}")
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components.update({_PREFIX + name: schema for name, schema in schemas.items()})


@dataclass(frozen=True, slots=True)
class SubmitRoute:
    """A route that is a job, and what the framework has found of what it answers."""

    task: TaskPolicy
    http: SubmitPolicy
    returns: Json
    """The content of the handler's own answer, by media type."""
    accepted: Json
    """The app's own words on the 202: its description and headers, if it has them."""


def document_submit(operation: Json, front: Front, route: SubmitRoute) -> None:
    """Describe a route that is a job, in what the framework says of it without its successes."""
    policy, own = route.http, route.accepted
    accepted = {
        "description": own.get("description") or "The job is enqueued; its status is at the Location.",
        "headers": {
            **_header("Location", "The job's status"),
            **_header("Link", "The job's events and result"),
            **_RETRY_AFTER,
            **(_APPLIED if policy.max_wait_s else {}),
            **(_REPLAYED if policy.idempotency != "off" else {}),
            **own.get("headers", {}),
        },
        "content": _content("Accepted"),
        "links": _links(front),
        RESULT: {"status": policy.result_status, "content": route.returns},
    }
    _add_parameters(operation, _submit_parameters(front, route))
    operation["responses"] = _with_problems(
        {"202": accepted, **_waited_for(route), **operation.get("responses", {})}, _submit_problems(front, policy)
    )


def _submit_parameters(front: Front, route: SubmitRoute) -> list[Json]:
    parameters = []
    if route.http.idempotency != "off":
        hours = kept_ms(front.hub.config, route.task) / 3_600_000
        words = f"A new one for each new request: the same one again gets its job again. It is known for {hours:g} h."
        key = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS}
        is_required = route.http.idempotency == "required"
        parameters.append({**_optional("Idempotency-Key", "header", words), "required": is_required, "schema": key})
    if route.http.max_wait_s:
        longest = f"{route.http.max_wait_s:g}"
        words = f"`wait=N` (RFC 7240): the handler's own answer, if it comes within N seconds, {longest} at most"
        parameters.append(_optional("Prefer", "header", words))
    return parameters


def _submit_problems(front: Front, policy: SubmitPolicy) -> list[ProblemType]:
    keyed = [problems.INVALID_HEADER, problems.JOB_GONE, problems.IDEMPOTENCY_KEY_REUSED]
    found = [problems.PAYLOAD_TOO_LARGE, *(keyed if policy.idempotency != "off" else ())]
    if policy.idempotency == "required":
        found.append(problems.IDEMPOTENCY_KEY_MISSING)
    if front.hub.is_limited:
        found.append(problems.QUEUE_FULL)
    return [*found, problems.BACKEND_UNAVAILABLE]


def _waited_for(route: SubmitRoute) -> Json:
    """What is answered in the place of the 202 to a client that has waited."""
    if not route.http.max_wait_s:
        return {}
    headers = _APPLIED | _header("Content-Location", "The job's result")
    own = {"description": "The handler's own answer, in time", "headers": headers}
    if route.returns:
        own["content"] = route.returns
    refusals = _with_any_content(_problems(*_WITHOUT_RESULT))
    return {str(route.http.result_status): own, "default": _OWN_ANSWER, **refusals}


def _describe(operation: Json, ours: Json) -> None:
    """Put our words into the framework's operation; what it knows of guards and dependencies stays."""
    ours_only = {**ours, "parameters": [], "responses": {}}
    parameters, responses = operation.get("parameters", []), operation.get("responses", {})
    operation.update(ours_only)
    _add_parameters(operation, ours["parameters"])
    _add_parameters(operation, parameters)
    is_validated = len(operation["parameters"]) > len(ours["parameters"])
    refusals = {code: each for code, each in responses.items() if code[:1] in ("4", "5")}
    if not is_validated:  # nothing is left that the framework could refuse
        refusals = {code: each for code, each in refusals.items() if code not in ("400", "422")}
    operation["responses"] = dict(sorted({**refusals, **ours["responses"]}.items()))
    operation.setdefault("tags", ["jobs"])


def _add_parameters(operation: Json, parameters: Iterable[Json]) -> None:
    """Those that are not there yet."""
    known: list[Json] = operation.setdefault("parameters", [])
    names = {(each["name"].lower(), each["in"]) for each in known}
    known.extend(each for each in parameters if (each["name"].lower(), each["in"]) not in names)


# -- the routes ---------------------------------------------------------------------------------


def _status(front: Front) -> Json:
    return {
        "summary": "The status of a job",
        "description": "Where the job is now; its result, when it is small.",
        "parameters": [*_of_job(front), _prefer_wait(front), _IF_NONE_MATCH],
        "responses": {
            "200": _job("The job", with_etag=True),
            "304": {"description": "As `If-None-Match` has it", "headers": _ETAG | _APPLIED},
            **_job_problems(problems.TOO_MANY_WAITING),
        },
    }


def _result(front: Front) -> Json:
    refusals = _job_problems(*_WITHOUT_RESULT, problems.TOO_MANY_WAITING)
    return {
        "summary": "The result of a job",
        "description": "What the handler came to, as its route would have answered without a job in between: what it "
        "returned, or the HTTP exception that it raised.",
        "parameters": [*_of_job(front), _prefer_wait(front)],
        "responses": {
            "202": _job("There is no result yet"),
            "default": _OWN_ANSWER,
            **_with_any_content(refusals),
        },
    }


def _events(front: Front) -> Json:
    after = _optional("after", "query", "As `Last-Event-ID`, where a header cannot be set")
    last = _optional("Last-Event-ID", "header", "Go on after this event")
    return {
        "summary": "What happens to a job, as it happens",
        "description": "Server-sent events. A stream ends by itself after a while; `EventSource` opens the next one.",
        "parameters": [*_of_job(front), after, last],
        "responses": {
            "200": {
                "description": "Events: `state`, `progress`, `done`",
                "content": {"text/event-stream": {"schema": {}}},  # OpenAPI 3.1 has no words for one event
            },
            "204": {"description": "The job has ended, and all was seen"},
            **_job_problems(problems.TOO_MANY_WAITING),
        },
    }


def _cancel(front: Front) -> Json:
    return {
        "summary": "Cancel a job",
        "parameters": _of_job(front),
        "responses": {
            "200": _job("The job was cancelled", with_etag=True),
            "202": _job("The job runs; its end was asked for", with_etag=True),
            **_job_problems(problems.JOB_ALREADY_FINISHED),
        },
    }


def _delete(front: Front) -> Json:
    return {
        "summary": "Dismiss a job",
        "description": "Cancel it where it has not ended. It is unknown from now on.",
        "parameters": _of_job(front),
        "responses": {"204": {"description": "The job is dismissed"}, **_job_problems()},
    }


def _list(front: Front) -> Json:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    queries: Json = {
        "state": {"type": "string", "enum": [state.value for state in STATES]},
        "task": {"type": "string"},
        "limit": limit,
        "cursor": {"type": "string"},
    }
    return {
        "summary": "The caller's jobs",
        "description": "A page at a time. A page may have fewer jobs than the limit, or none, while there are more: "
        "go on while there is a `next`.",
        "parameters": [
            _queue(front),
            *({"name": name, "in": "query", "schema": schema} for name, schema in queries.items()),
        ],
        "responses": {
            "200": {
                "description": "Some jobs",
                "headers": _header("Link", "The next page"),
                "content": _content("JobList"),
            },
            **_problems(problems.INVALID_QUERY, problems.QUEUE_NOT_FOUND, problems.BACKEND_UNAVAILABLE),
        },
    }


_OPERATIONS: Final = {
    "status": _status,
    "result": _result,
    "events": _events,
    "cancel": _cancel,
    "delete": _delete,
    "list": _list,
}


# -- their parts --------------------------------------------------------------------------------


def _of_job(front: Front) -> list[Json]:
    job_id = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}, "description": "Its id"}
    return [job_id, _queue(front)]


def _queue(front: Front) -> Json:
    schema = {"type": "string", "enum": list(front.hub.queue_names), "default": DEFAULT_QUEUE}
    if DEFAULT_QUEUE not in front.hub.queue_names:
        del schema["default"]
    return {"name": "queue", "in": "query", "schema": schema, "description": "Its queue"}


def _prefer_wait(front: Front) -> Json:
    longest = f"{front.longest_wait_s:g}"
    return _optional(
        "Prefer", "header", f"`wait=N` (RFC 7240): answer at a change, or after N seconds, {longest} at most"
    )


def _optional(name: str, where: str, description: str) -> Json:
    return {"name": name, "in": where, "schema": {"type": "string"}, "description": description}


_IF_NONE_MATCH: Final = _optional("If-None-Match", "header", "An `ETag` that was seen: 304 while it is still so")


def _header(name: str, description: str) -> Json:
    return {name: {"description": description, "schema": {"type": "string"}}}


_ETAG: Final = _header("ETag", "Another one with every change")
_APPLIED: Final = _header("Preference-Applied", "The wait that was granted")
_REPLAYED: Final = _header("Idempotent-Replayed", "`true` where the `Idempotency-Key` had a job already")
_ANYTHING: Final[Json] = {"*/*": {"schema": {}}}
_OWN_ANSWER: Final[Json] = {"description": "The handler's own answer", "content": _ANYTHING}
_RETRY_AFTER: Final = _header("Retry-After", "Seconds until the next look is worth while")


def _content(name: str, media_type: str = "application/json") -> Json:
    return {media_type: {"schema": {"$ref": _REF + name}}}


def _job(description: str, *, with_etag: bool = False) -> Json:
    headers = _RETRY_AFTER | _APPLIED | (_ETAG if with_etag else {})
    return {"description": description, "headers": headers, "content": _content("JobBody")}


def _job_problems(*kinds: ProblemType) -> Json:
    return _problems(problems.JOB_NOT_FOUND, *kinds, problems.BACKEND_UNAVAILABLE)


def _problems(*kinds: ProblemType) -> Json:
    return _with_problems({}, kinds)


def _with_any_content(responses: Json) -> Json:
    """Where a handler answers for itself, it may say the same codes with a body of its own."""
    return {code: {**each, "content": _ANYTHING} for code, each in responses.items()}


def _with_problems(responses: Json, kinds: Iterable[ProblemType]) -> Json:
    """Responses by status; types that share one, with each other or with the framework's own, share a response."""
    found = {code: {**each} for code, each in responses.items()}
    for kind in kinds:
        code, words = str(kind.status), f"{kind.title} (`{kind.slug}`)"
        known = found.setdefault(code, {"description": ""})
        known["description"] = f"{known['description']}; {words}".removeprefix("; ")
        known["content"] = {**known.get("content", {}), **_content("Problem", PROBLEM_MEDIA_TYPE)}
        if kind.status == 503:
            known["headers"] = _RETRY_AFTER
    return dict(sorted(found.items()))


def _links(front: Front) -> Json:
    """From a 202 to the routes of its job, for a generated client."""
    followed: tuple[RouteName, ...] = ("status", "result", "events", "cancel")
    parameters = {"job_id": "$response.body#/id", "queue": "$response.body#/queue"}
    return {
        route.name: {
            "operationRef": f"#/paths/{_escaped(front.jobs_path + route.path)}/{route.methods[0].lower()}",
            "parameters": parameters,
        }
        for route in JobRoutes(front).table()
        if route.name in followed
    }


def _escaped(path: str) -> str:
    return path.replace("~", "~0").replace("/", "~1")
