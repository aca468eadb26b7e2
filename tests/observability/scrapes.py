"""What Prometheus would read, by its own parser."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from arq_web import Hub


@dataclass(frozen=True)
class Page:
    """One scrape."""

    families: dict[str, Metric]

    @classmethod
    def of(cls, text: str) -> Page:
        """Parse a page in the text format."""
        return cls({family.name: family for family in text_string_to_metric_families(text)})

    def value(self, series: str, **labels: str) -> float | None:
        """The sum of the series of that name that have these labels; None where there is none."""
        found = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == series and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def labels(self, series: str) -> list[dict[str, str]]:
        """Of each series of that name."""
        return [
            sample.labels for family in self.families.values() for sample in family.samples if sample.name == series
        ]


def page_of(hub: Hub) -> Page:
    """A scrape of this process."""
    metrics = hub.metrics
    assert metrics is not None
    content_type, text = metrics.render("")  # type: ignore[attr-defined]
    assert content_type.startswith("text/plain; version=")
    return Page.of(text.decode())


async def scrape(port: int) -> Page | None:
    """A scrape of a worker's health port; None where nobody answers."""
    try:
        return Page.of(await asyncio.to_thread(_get, f"http://127.0.0.1:{port}/metrics"))
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
        return answer.read().decode()  # type: ignore[no-any-return]
