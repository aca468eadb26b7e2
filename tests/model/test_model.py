"""Light walks over the model in every run of the tests; the long ones are in ``tests/chaos/test_model.py``."""

from __future__ import annotations

import os

import pytest

from tests.model.machine import take_walks
from tests.model.world import open_world


@pytest.mark.hypothesis  # for `make fuzz`
@pytest.mark.timeout(400)  # a failure is made as short as it can be: five minutes at most
def test_the_store_does_what_the_transition_table_says(redis_url: str, namespace: str) -> None:
    """P1, P2, P4, P5, P6 of the verbs: whatever is asked, by whomever, in any order, twice, and late."""
    with open_world(redis_url, namespace) as world:
        take_walks(world, walks=150, steps=50, is_same_each_time="ARQ_WEB_FUZZ" not in os.environ)

    print(world.summary())
