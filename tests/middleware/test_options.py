"""What ``middleware=``, ``metrics=`` and ``tracing=`` take, and what an instrument may do to a hub."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from arq_web import Hub, IncomingJob, OutgoingJob
from arq_web.errors import InvalidConfig, MissingExtra
from arq_web.middleware import Instrumented
from tests.middleware.layers import as_tenant, with_tenant


class Layer:
    async def __call__(self, job: Any, call_next: Callable[[Any], Any]) -> Any:
        return await call_next(job)


class Probe:
    """An instrument of one's own."""

    def __init__(self) -> None:
        self.queue_names: tuple[str, ...] = ()

    def install(self, hub: Instrumented) -> None:
        hub.middleware.insert(0, Layer())
        hub.enqueue_middleware.append(Layer())
        self.queue_names = tuple(hub.queue_names)


@pytest.mark.parametrize("option", ["middleware", "enqueue_middleware"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (as_tenant, r"must be a list .*=\[...\]"),
        (5, r"must be a list .*=\[...\]"),
        ([as_tenant, "text"], "'text' is not valid"),
        ([Layer], r"of a class, an object: Layer\(...\)"),
    ],
    ids=["no list", "a number", "no function", "a class"],
)
def test_what_cannot_be_a_layer_is_refused_at_once(option: str, given: Any, words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        Hub(**{option: given})


def test_the_lists_are_the_hubs_own() -> None:
    """What an instrument adds must not appear in another app that was given the same list."""
    given = [as_tenant]
    hub = Hub(middleware=given, enqueue_middleware=(with_tenant,), tracing=Probe())

    assert given == [as_tenant]
    assert [len(hub.middleware), len(hub.enqueue_middleware)] == [2, 2]


def test_an_instrument_is_installed_and_kept() -> None:
    probe = Probe()
    hub = Hub(middleware=[as_tenant], metrics=probe, queues=["default", "mail"])

    assert (hub.metrics, hub.tracing) == (probe, None)
    assert probe.queue_names == ("default", "mail")
    assert isinstance(hub.middleware[0], Layer)


@pytest.mark.parametrize("option", ["metrics", "tracing"])
@pytest.mark.parametrize("given", [5, Probe], ids=["a number", "a class"])
def test_what_is_no_instrument_is_refused(option: str, given: Any) -> None:
    with pytest.raises(InvalidConfig, match=option):
        Hub(**{option: given})


@pytest.mark.parametrize(
    ("option", "package", "extra"),
    [("metrics", "prometheus_client", "prometheus"), ("tracing", "opentelemetry", "opentelemetry")],
)
def test_what_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, option: str, package: str, extra: str
) -> None:
    ours = {"metrics": "arq_web.metrics", "tracing": "arq_web.tracing"}[option]
    for name in list(sys.modules):
        if name.startswith((ours, package)):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtra, match=rf"arq-web\[{extra}\]"):
        Hub(**{option: True})  # type: ignore[arg-type]


def test_what_a_layer_logs_of_a_job_has_no_arguments_in_it() -> None:
    """``logger.info("%s", job)``, and the frames that an error tracker collects."""
    outgoing = OutgoingJob("1", "mail", "default", {"token": "secret"}, b"secret")
    incoming = IncomingJob("1", "mail", "default", 2, 0, 0, 3, 0, 0, "w", {"token": "secret"}, b"secret", lambda: None)

    assert (repr(outgoing), repr(incoming)) == ("<OutgoingJob 1 mail>", "<IncomingJob 1 mail attempt=2>")
