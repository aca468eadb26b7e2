"""docs/reference/http.md says what the code does: every route, field, problem, option and number."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import arq_web.fastapi
import arq_web.litestar
from arq_web import Hub
from arq_web.http import answers, asked, events, front, job_routes, listing, problems, waiting
from arq_web.http.paths import DEFAULT_ROUTES, ROUTE_NAMES, Links
from tests.docs.pages import code, headings, read, section, table

PAGE = read("reference/http.md")
KINDS = {each.slug: each for each in vars(problems).values() if isinstance(each, problems.ProblemType)}


def rows(heading: str, first_column: str) -> dict[str, list[str]]:
    return {code(row[0])[0]: row for row in table(section(PAGE, heading), first_column)}


def test_every_problem_has_its_section_and_no_other() -> None:
    assert headings(section(PAGE, "Problems"), 3) == list(KINDS)


def test_every_problem_has_its_status() -> None:
    """And says whether it is worth to come back."""
    found = rows("Problems", "problem")

    assert {slug: int(row[1]) for slug, row in found.items()} == {slug: kind.status for slug, kind in KINDS.items()}
    assert {slug for slug, row in found.items() if row[2] == "yes"} == {
        slug for slug, kind in KINDS.items() if kind.status == 503
    }


def test_the_type_of_problems_begins_as_it_says() -> None:
    assert f"`{problems.PROBLEM_BASE}`" in section(PAGE, "Problems")


def test_every_problem_is_linked_from_where_it_comes() -> None:
    """A reader of a route's section finds it."""
    before = PAGE.partition("\n## Problems")[0]
    own_answers = {"job-not-found", "queue-not-found", "invalid-query"}  # their sections say 404, or what is allowed

    assert {slug for slug in KINDS if f"](#{slug})" not in before} <= own_answers


def test_every_route_is_in_the_table_with_its_methods() -> None:
    hub = Hub(url="redis://127.0.0.1:1/0")
    all_of_them = front.Front(hub, Any, routes=ROUTE_NAMES)  # type: ignore[arg-type]
    found = {
        code(row[0])[0]: (tuple(code(row[1])), code(row[2])[0])
        for row in table(PAGE, "route")
        if row[0].startswith("`")
    }

    assert found == {
        each.name: (each.methods, all_of_them.jobs_path + each.path)
        for each in job_routes.JobRoutes(all_of_them).table()
    }


@pytest.mark.parametrize(("heading", "body"), [("Submit", answers.Accepted), ("Status", answers.JobBody)])
def test_every_field_is_listed_in_its_order(heading: str, body: Any) -> None:
    assert list(rows(heading, "field")) == list(body.__struct_encode_fields__)


def test_the_parts_of_fields_are_named() -> None:
    submit, status = rows("Submit", "field"), rows("Status", "field")

    assert code(submit["links"][1]) == list(Links.__struct_fields__)
    assert code(status["progress"][1]) == list(answers.ProgressBody.__struct_fields__)
    assert code(status["error"][1]) == list(answers.ErrorBody.__struct_fields__)
    assert f"{answers.INLINE_RESULT_BYTES // 1024} KiB" in status["result"][1]


@pytest.mark.parametrize("plugin", [arq_web.fastapi.ArqWeb, arq_web.litestar.ArqWeb], ids=["fastapi", "litestar"])
def test_every_option_is_one_of_the_plugins(plugin: type) -> None:
    """Each framework has its own word for the last."""
    known = inspect.signature(plugin).parameters
    listed = set(rows("Who may look", "option of `ArqWeb`"))
    of_one = {"dependencies", "guards"}

    assert listed - of_one <= known.keys()
    assert of_one & known.keys()
    assert str(waiting.MAX_WAITING_COUNT) in rows("Who may look", "option of `ArqWeb`")["max_streams"][1]
    assert set(code(rows("Who may look", "option of `ArqWeb`")["routes"][1])) == DEFAULT_ROUTES


def test_every_parameter_of_the_list_is_there() -> None:
    found = rows("List", "parameter")

    assert set(found) == {"queue", "state", "task", "limit", "cursor"}
    assert f"1 to {listing.MAX_LIMIT}; default {listing.DEFAULT_LIMIT}" in found["limit"][1]


def test_numbers_are_those_of_the_code() -> None:
    waits = f"{front.WAIT_S:g} ({front.DEVELOPMENT_WAIT_S:g} while developing)"
    pauses = ", ".join(map(str, answers.FIRST_LOOKS_S[:5]))

    assert waits in section(PAGE, "Status")
    assert f"{front.WAIT_S:g} seconds ({front.DEVELOPMENT_WAIT_S:g} while developing)" in section(PAGE, "Events")
    assert f"{pauses}, … up to {answers.LONGEST_LOOK_S} seconds" in section(PAGE, "Status")
    assert f"each {events.HEARTBEAT_S:g} seconds" in section(PAGE, "Events")
    assert f"longer than {asked.MAX_KEY_CHARS} characters" in section(PAGE, "invalid-header")


def test_the_events_are_those_that_are_sent() -> None:
    sent = re.findall(r"_event\(\"(\w+)\"", inspect.getsource(events))

    assert set(rows("Events", "event")) == set(sent)


def test_the_answers_to_a_result_name_every_state() -> None:
    """Whoever fetches one must know what may come."""
    linked = set(re.findall(r"\]\(#([\w-]+)\)", section(PAGE, "Result")))

    assert {"handler-failed", "job-cancelled", "job-expired", "result-not-kept"} <= linked
