"""Ids of jobs: as uuid4 makes them, and never twice, whatever is done to the process."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import Counter

import pytest

from arq_web.ids import new_ids


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_as_many_as_were_asked_for(count: int) -> None:
    assert len(set(new_ids(count))) == count


def test_each_is_a_random_uuid() -> None:
    """Whoever reads them elsewhere may rely on that."""
    for new_id in new_ids(1000):
        parsed = uuid.UUID(new_id)
        assert (parsed.hex, parsed.version, parsed.variant) == (new_id, 4, uuid.RFC_4122)


def test_every_digit_is_random_but_those_that_say_so() -> None:
    """A digit that is the same in all of them would be a mistake in the cutting."""
    ids = new_ids(4000)
    kinds = [len(Counter(new_id[place] for new_id in ids)) for place in range(32)]

    assert kinds == [16] * 12 + [1] + [16] * 3 + [4] + [16] * 15
    assert len({new_id[:12] for new_id in ids}) == len({new_id[17:] for new_id in ids}) == 4000


FORKS = """
import os
from arq_web.ids import new_ids
new_ids(3)
pid = os.fork()
own = new_ids(3)
if pid:
    os.waitpid(pid, 0)
print(*own, flush=True)
"""


def test_a_forked_process_makes_others() -> None:
    """A web server forks its workers after the import: what was read before would be everybody's."""
    said = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True, timeout=60).stdout

    assert len(set(said.split())) == 6
