"""The dashboard and the reference page against the metrics that there are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from arq_web.metrics.families import FAMILIES, Family, Kind
from tests.docs.pages import ROOT, code, read, table

DASHBOARD = json.loads((ROOT / "dashboards" / "arq-web.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((ROOT / "dashboards" / "alerts.yaml").read_text(encoding="utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SERIES = {
    f"{family.name}{suffix}": family
    for family in FAMILIES
    for suffix in (("_bucket", "_count", "_sum") if family.kind is Kind.HISTOGRAM else ("",))
}
OF_PROMETHEUS = {"instance", "process", "le"}


def expressions() -> list[str]:
    of_panels = [target["expr"] for panel in PANELS for target in panel["targets"]]
    how_to = [code(row[1])[0] for row in table(read("how-to/watch-your-jobs.md"), "question")]
    of_alerts = [alert["expr"] for alert in ALERTS]
    return [*of_panels, *of_alerts, *how_to, *(each["definition"] for each in DASHBOARD["templating"]["list"][1:])]


@pytest.mark.parametrize("expression", expressions())
def test_what_is_asked_exists(expression: str) -> None:
    """Every series and every label: a panel without data looks like a quiet system."""
    names = re.findall(r"\barq_\w+", expression)
    assert names
    for name in names:
        assert name in SERIES, name
    known = {label for name in names for label in SERIES[name].labels} | OF_PROMETHEUS
    matchers = [
        found for inside in re.findall(r"\{([^}]*)\}", expression) for found in re.findall(r"(\w+)[=!]", inside)
    ]
    grouped = [word.strip() for inside in re.findall(r"by \(([^)]*)\)", expression) for word in inside.split(",")]
    assert {*matchers, *grouped} <= known


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_metric_is_on_the_dashboard(family: Family) -> None:
    """What is not worth a look is not worth a metric."""
    assert any(re.search(rf"\b{family.name}(_bucket)?\b", expression) for expression in expressions())


def test_counters_are_asked_for_their_rate_and_the_queues_numbers_for_their_largest() -> None:
    """A counter by itself says nothing; a queue's numbers may be there twice for one interval."""
    for expression in expressions():
        if any(SERIES[name].kind is Kind.COUNTER for name in re.findall(r"\barq_\w+", expression)):
            assert re.search(r"rate\(|increase\(|label_values\(", expression), expression
        if re.search(r"arq_queue_", expression):
            assert expression.startswith(("max by (queue)", "absent(")), expression


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_is_one_that_prometheus_takes_and_somebody_can_act_on(alert: dict[str, Any]) -> None:
    """What it does not know it refuses, with the whole file; a label that is not kept is empty."""
    assert (
        {"alert", "expr", "labels", "annotations"} <= alert.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    )
    assert alert["annotations"].keys() == {"summary", "description"}
    kept = {word.strip() for inside in re.findall(r"by \(([^)]*)\)", alert["expr"]) for word in inside.split(",")}
    assert set(re.findall(r"\$labels\.(\w+)", str(alert["annotations"]))) <= kept


def test_an_alert_on_a_number_that_may_be_silent_minds_its_silence() -> None:
    """A gauge that is not told is below every limit."""
    for alert in ALERTS:
        gauges = {name for name in re.findall(r"\barq_\w+", alert["expr"]) if SERIES[name].kind is Kind.GAUGE}
        for name in gauges:
            assert f" or absent({name})" in alert["expr"]
    assert len({alert["alert"] for alert in ALERTS}) == len(ALERTS) > 0


def test_panels_do_not_overlap() -> None:
    """Grafana would move them."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at: dict[str, Any] = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_reference_page_lists_every_metric_as_it_is() -> None:
    """Name, kind, labels and help."""
    rows = [[*row] for row in table(read("reference/metrics.md"), "name")]
    shown = [(code(row[0])[0], row[1], tuple(code(row[2])), row[3]) for row in rows]

    assert shown == [(each.name, each.kind.value, each.labels, each.help) for each in FAMILIES]
