"""The reference pages say what the code says: errors, events, configuration, states, glossary."""

from __future__ import annotations

import inspect
import logging
import re
from dataclasses import fields
from types import ModuleType

import pytest

import arq_web
import arq_web_fastapi
import arq_web_litestar
from arq_web import Backoff, Config, JobState, errors
from arq_web.config import ENV_PREFIX
from arq_web.errors import InvalidConfig
from arq_web.events import Event, all_events
from arq_web.logs import FRAME
from arq_web.options import TaskPolicy
from arq_web.store import scripts
from arq_web.store.scripts import Verb
from tests.docs.pages import ROOT, code, headings, read, section, table

OUT_OF_RANGE: dict[type, object] = {str: "?!", int: -1, float: -1.0}


def error_classes() -> list[type]:
    members = vars(errors).values()
    return [each for each in members if inspect.isclass(each) and each.__module__ == errors.__name__]


def test_every_error_has_its_section_in_the_order_of_the_tree() -> None:
    """Each class is an anchor that a message or a page can point to."""
    names = {each.__name__ for each in error_classes()}
    tree = [word for word in re.findall(r"\w+", errors.__doc__ or "") if word in names]

    assert headings(read("reference/errors.md"), 3) == tree
    assert set(tree) == names


def test_every_error_that_ends_a_branch_says_what_why_and_what_to_do() -> None:
    """The three questions of whoever reads it at night."""
    page = read("reference/errors.md")
    for each in error_classes():
        if issubclass(each, errors.ArqWebError) and not each.__subclasses__():
            text = section(page, each.__name__)
            assert [f"**{word}**" in text for word in ("What", "Why", "Do")] == [True] * 3, each.__name__


def test_every_event_is_listed_with_its_level_logger_fields_and_meaning() -> None:
    """Somebody writes alerts by this table."""
    page = section(read("reference/events.md").partition("\n")[2], "Events")
    rows = [_event_row(event) for event in all_events()]

    if rows != [line for line in page.splitlines() if line.startswith("| `")]:
        pytest.fail("The table of reference/events.md must be:\n" + "\n".join(rows), pytrace=False)


def test_every_field_of_an_event_is_explained() -> None:
    """Once, in the order in which the events name them."""
    rows = table(section(read("reference/events.md"), "Fields"), "field")

    assert [code(row[0])[0] for row in rows] == list(dict.fromkeys(f for event in all_events() for f in event.fields))


def test_the_keys_of_a_json_line_are_listed() -> None:
    """A collector is set up by them."""
    rows = table(section(read("reference/events.md"), "JSON"), "key")

    assert {key for row in rows for key in code(row[0])} == FRAME


def test_every_setting_is_listed_with_variable_default_and_range() -> None:
    """The range is the one of the error message."""
    rows = table(read("reference/configuration.md"), "field")

    for field, row in zip(fields(Config), rows, strict=True):
        with pytest.raises(InvalidConfig) as refused:
            Config(**{field.name: OUT_OF_RANGE[type(field.default)]})  # type: ignore[arg-type]
        expected = [field.name, ENV_PREFIX + field.name.upper(), str(field.default) or '""', refused.value.allowed]
        assert [code(row[0])[0], code(row[1])[0], code(row[2])[0], row[3]] == expected
        assert len(row[4]) > 20, field.name


def test_every_environment_variable_is_listed() -> None:
    """One that is only in the code is a surprise."""
    page = read("reference/configuration.md")
    ours = re.compile(r"(?<![\w<])(ARQ_WEB_[A-Z][A-Z_]*[A-Z]|REDIS_URL|NO_COLOR)\b")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "arq_web").rglob("*.py")]
    # Set by our commands for themselves.
    internal = {"ARQ_WEB_CHILD_LOG", "ARQ_WEB_RELOAD_PARENT", "ARQ_WEB_SUPERVISED", "ARQ_WEB_WATCH_PARENT"}

    assert {name for source in sources for name in ours.findall(source)} - internal <= set(ours.findall(page))


def test_every_state_is_listed() -> None:
    """In the order of a life."""
    assert [code(row[0])[0] for row in table(read("reference/states.md"), "state")] == [
        state.value for state in JobState
    ]


def test_the_defaults_on_the_states_page_are_those_of_the_code() -> None:
    """Numbers in prose drift first."""
    rows = {row[0]: row[1] for row in table(read("reference/states.md"), "what")}
    config, policy, backoff = Config(), TaskPolicy(), Backoff()

    assert rows["tries of a `@task`"] == str(policy.max_tries)
    assert rows["crashes"] == str(policy.max_crashes)
    assert rows["timeout of an attempt"] == f"{config.timeout_s:g} s"
    assert (backoff.base_s, backoff.factor, backoff.cap_s, backoff.jitter) == (2, 2, 600, 0.2)
    assert rows["backoff"] == "2 s, doubling, at most 10 min, ±20 %"
    assert rows["a finished job stays"] == f"{config.keep_result_s / 3600:g} h"
    assert rows["a dead job stays"] == f"{config.keep_dead_s / 86400:g} days"
    assert rows["jobs at the same time"] == f"{config.concurrency}; embedded {config.embedded_concurrency}"
    assert rows["drain"] == f"{config.drain_s:g} s; embedded and with `--reload` {config.embedded_drain_s:g} s"
    assert rows["arguments, result"] == f"{config.max_payload_bytes >> 20} MiB each"
    assert rows["lease"] == f"{config.lease_s:g} s, renewed each second"
    assert rows["deadline of a command"] == f"{config.command_deadline_s:g} s, sent twice"


def test_the_glossary_has_every_verb_and_every_state() -> None:
    """One word per idea; the glossary is the law."""
    page = read("explanation/glossary.md")
    defined = {word for line in page.splitlines() for word in re.findall(r"\*\*([a-z -]+)\*\*", line)}
    verbs = {name.lower() for name, value in vars(scripts).items() if isinstance(value, Verb)}

    assert verbs | {state.value for state in JobState} <= defined


def test_every_public_name_is_on_the_api_page_or_among_the_errors() -> None:
    """What users can import, they can look up."""
    page, all_errors = read("reference/api.md"), set(headings(read("reference/errors.md"), 3))
    shown = set(re.findall(r"^::: arq_web\.(?:\w+\.)*(\w+)$", page, re.MULTILINE))

    assert set(arq_web.__all__) - all_errors - {"__version__"} <= shown


@pytest.mark.parametrize("framework", [arq_web_fastapi, arq_web_litestar], ids=["fastapi", "litestar"])
def test_every_name_of_a_framework_is_on_the_api_page(framework: ModuleType) -> None:
    """Its own ones with their documentation, those of the core by name."""
    text = section(read("reference/api.md"), "FastAPI")
    page = read("reference/api.md")
    own = set(re.findall(rf"^::: {framework.__name__}\.(\w+)$", page, re.MULTILINE))

    assert set(framework.__all__) == own | ({word for word in code(text) if word in arq_web.__all__} - own)


def _event_row(event: Event) -> str:
    fields = " ".join(f"`{field}`" for field in event.fields)
    level = logging.getLevelName(event.level)
    return f"| `{event.name}` | {level} | `arq_web.{event.area}` | {fields} | {event.meaning} |"
