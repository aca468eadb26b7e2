"""Settings: read once, checked once."""

from __future__ import annotations

import dataclasses

import pytest

from arq_web import Config
from arq_web.errors import InvalidConfig

OUT_OF_RANGE: dict[str, object] = {
    "namespace": "a b",
    "concurrency": 1001,
    "embedded_concurrency": 0,
    "timeout_s": 0.0,
    "drain_s": -1.0,
    "embedded_drain_s": -1.0,
    "keep_result_s": -1.0,
    "keep_dead_s": 1.0,
    "keep_idempotency_s": 59.0,
    "max_queued": -1,
    "max_payload_bytes": 0,
    "lease_s": 1.0,
    "command_deadline_s": 0.0,
    "lock_dir": "not/absolute",
    "embedded": "perhaps",
}


def test_every_field_is_read_from_its_environment_variable() -> None:
    """ARQ_WEB_ and the field's name in capitals; numbers are parsed."""
    config = Config.from_env({"ARQ_WEB_NAMESPACE": "shop", "ARQ_WEB_CONCURRENCY": " 20 ", "ARQ_WEB_TIMEOUT_S": "1.5"})

    assert (config.namespace, config.concurrency, config.timeout_s) == ("shop", 20, 1.5)


def test_an_argument_wins_over_the_environment() -> None:
    """None means: not given."""
    config = Config.from_env({"ARQ_WEB_CONCURRENCY": "20"}, concurrency=3, namespace=None)

    assert (config.concurrency, config.namespace) == (3, "aw")


@pytest.mark.parametrize(("field", "value"), OUT_OF_RANGE.items())
def test_a_value_outside_its_range_names_field_value_and_variable(field: str, value: object) -> None:
    """What was given, what is allowed, where it may have come from."""
    with pytest.raises(InvalidConfig) as refused:
        Config(**{field: value})  # type: ignore[arg-type]

    assert f"{field}={value!r}" in str(refused.value)
    assert f"ARQ_WEB_{field.upper()}" in str(refused.value)


def test_a_deadline_that_a_lease_cannot_wait_for_is_refused() -> None:
    """One slow renewal, sent twice, would lose every lease of the worker."""
    with pytest.raises(InvalidConfig, match=r"command_deadline_s=5\.0 .*ARQ_WEB_COMMAND_DEADLINE_S.*half of lease_s"):
        Config(command_deadline_s=5.0)

    assert Config(command_deadline_s=5.0, lease_s=10.0).command_deadline_s == 5


def test_every_field_has_a_range_that_is_tested_above() -> None:
    """A new field needs its line in the table."""
    assert {field.name for field in dataclasses.fields(Config)} == OUT_OF_RANGE.keys()
