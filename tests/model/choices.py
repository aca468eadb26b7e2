"""What a walk may choose from: few ids, workers and keys, so that they meet; lengths of time in whole units."""

from __future__ import annotations

from hypothesis import strategies as st
from msgspec.structs import replace

from arq_web.store.messages import Idempotency, NewJob, Replace
from tests.support.store_helpers import LARGE, SETTLE_OUTCOMES

UNIT_MS = 5_000
APART_MS = 10
"""Between two messages, at least."""
LEASE_MS = 8 * UNIT_MS
IDS = "abcdefg"
SLOTS = {"w1:1:x": 1, "w2:2:y": 10, "w3:3:z": 200}
WORKERS = tuple(SLOTS)
VERBS = (
    "enqueue",
    "claim",
    "claim",
    "settle",
    "renew",
    "reclaim",
    "cancel",
    "redrive",
    "watch",
    "progress",
    "abandon",
    "blame",
    "dismiss",
    "fire",
)
VERBS_OF_A_JOB = ("cancel", "abort", "redrive", "redrive", "watch", "progress", "abandon", "blame", "blame", "dismiss")
TICK_MS = 12 * UNIT_MS

ids = st.sampled_from(IDS)
workers = st.sampled_from(WORKERS)
recent = st.integers(0, 7)
outcomes = st.sampled_from(SETTLE_OUTCOMES)
units = st.sampled_from([0, 1, 4, 12, 24, 80, -1])
"""Of a settle: how long to keep, or to wait. Also shorter than a minute, and longer than a queue keeps its dead."""
requests = st.builds(
    NewJob,
    id=ids,
    task=st.sampled_from(["shop:mail"] * 7 + ["shop:bill"]),
    payload=st.sampled_from([b'{"n":1}', LARGE]),
    priority=st.sampled_from([0, 0, 1, -1]),
    due=st.sampled_from(["0", "0", "0", "0", "0", "d10000", "d60000", "a20000"]),
    expires=st.sampled_from(["0", "0", "0", "0", "0", "d20000", "a60000"]),
    max_crashes=st.sampled_from([3, 1, 2]),
    keep_s=st.sampled_from([60, 120, 3600, 0, 20]),
    unique=st.sampled_from(["-", "-", "k1", "k2"]),
    replace=st.sampled_from([Replace.FINISHED, Replace.GONE, Replace.GONE, Replace.NOTHING]),
)
limits = st.sampled_from([0, 0, 0, 2, 4])
keyed = st.builds(
    Idempotency,
    key=st.sampled_from(["x1", "x2"]),
    fingerprint=st.sampled_from(["some", "some", "some", "others"]),
    keep_ms=st.sampled_from([12 * UNIT_MS, 80 * UNIT_MS, 800 * UNIT_MS]),
)


def at(job: NewJob, by_ms: int) -> NewJob:
    """Move the absolute times (``a…``) of a request."""
    moved = [f"a{int(word[1:]) + by_ms}" if word[0] == "a" else word for word in (job.due, job.expires)]
    return replace(job, due=moved[0], expires=moved[1])
