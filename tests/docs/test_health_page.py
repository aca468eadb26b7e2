"""docs/reference/health.md and the page on Kubernetes say what the code says."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import fields, replace

import msgspec
import pytest
import yaml

from arq_web.health import exchange, probes, routes
from arq_web.health.facts import Facts
from arq_web.health.scale import Scale
from tests.docs.pages import DOCS, code, code_blocks, read, section, table
from tests.docs.test_pages import faults_of_app_worker

PAGE, HOW_TO = read("reference/health.md"), "how-to/deploy-to-kubernetes.md"
BAD = Facts(is_working=True, is_draining=True, loop_lag_s=99.0, renewed_ago_s=math.inf, lease_s=8.0)


def names(text: str, first_column: str) -> list[str]:
    return [code(row[0])[0] for row in table(text, first_column)]


def test_every_path_is_listed() -> None:
    assert tuple(names(PAGE, "path")[: len(routes.PATHS)]) == routes.PATHS


def test_every_reason_is_listed_with_its_probes() -> None:
    """Made by the code itself, from facts that are all bad."""
    said = {
        "/livez": probes.why_not_live(BAD),
        "/readyz": probes.why_not_ready(BAD, "Redis does not answer") | probes.why_not_ready(Facts()),
        "/startupz": probes.why_not_started(Facts()),
    }
    rows = {code(row[0])[0]: set(code(row[1])) for row in table(PAGE, "reason")}

    assert rows == {
        reason: {path for path, reasons in said.items() if reason in reasons}
        for reason in {reason for reasons in said.values() for reason in reasons}
    }


def test_every_field_is_listed() -> None:
    """But the one that only serves to judge."""
    assert [*names(PAGE, "field"), "lease_s"] == sorted(
        (each.name for each in fields(Facts)), key=[*names(PAGE, "field"), "lease_s"].index
    )


def test_every_number_is_listed_in_its_order() -> None:
    assert names(PAGE, "number") == [each.name for each in fields(Scale)]


@pytest.mark.parametrize("page", ["reference/health.md", HOW_TO])
def test_what_is_printed_has_the_fields_that_are_answered(page: str) -> None:
    """Values differ, names must not."""
    for block in code_blocks(DOCS / page):
        shown = [line for line in block.text.splitlines() if line.startswith('{"ready"')]
        for line in shown:
            assert list(msgspec.json.decode(line)) == [each.name for each in fields(Scale)]
        if block.language == "json" and not shown:
            body = msgspec.json.decode(block.text)
            assert list(body) == ["status", "reasons", *names(PAGE, "field")]
            facts = replace(BAD, is_draining=False, loop_lag_s=12.3, renewed_ago_s=0.4, tasks=12)
            assert body["reasons"] == probes.why_not_ready(facts)


def test_the_numbers_of_the_prose_are_those_of_the_code() -> None:
    """They drift first."""
    page = read(HOW_TO)
    assert f"takes {exchange.MOST_OPEN} connections" in PAGE
    assert f"more than {probes.READY_LAG_S:g} s" in PAGE
    assert f"`--health-max-lag`, {probes.MAX_LAG_S:g} s" in PAGE
    assert f"within {routes.REDIS_LIMIT_S:g} s" in PAGE
    assert (exchange.CLIENT_LIMIT_S, probes.SILENT_LEASES, routes.REDIS_KEPT_S) == (5, 2, 1)
    assert f"for {probes.MAX_LAG_S:g} s, or the leases" in page
    assert f"`/readyz` says it after {probes.READY_LAG_S:g} s" in page


def test_the_commands_of_probes_exist_with_their_options() -> None:
    """They stand in YAML and in a Dockerfile, where no other test looks."""
    text = "\n".join(block.text for block in code_blocks(DOCS / HOW_TO) if block.language in ("yaml", "dockerfile"))
    commands = [yaml.safe_load(found) for found in re.findall(r'\["?app-worker"?,[^\]]*\]', text)]

    assert len(commands) == 3
    for words in commands:
        assert list(faults_of_app_worker(words[1:])) == [], shlex.join(words)


def test_the_section_on_several_processes_has_every_path() -> None:
    rows = table(section(PAGE, "Several processes"), "path")

    assert {path for row in rows for path in code(row[0])} == set(routes.PATHS) - {"/scale/{queue}"}
