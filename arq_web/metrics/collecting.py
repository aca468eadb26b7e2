"""From plain numbers to what Prometheus reads: at a scrape, in the thread of the scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from arq_web.metrics import families as f
from arq_web.metrics.families import FAMILIES, Family, Kind
from arq_web.metrics.queue_numbers import Numbers
from arq_web.metrics.tally import FINAL, WAS_LOST, Spread, Tally
from arq_web.worker.vitals import Vitals

Values: TypeAlias = Iterable[tuple[tuple[str, ...], float | Spread]]
"""The values of a metric: labels and number."""


class TallyCollector(Collector):
    """All metrics of one app in one process."""

    def __init__(
        self,
        tally: Tally,
        numbers: Numbers,
        vitals: Callable[[], Iterable[Vitals]],
        expected: Callable[[], Iterable[tuple[str, str]]],
    ) -> None:
        """Read nothing yet.

        Args:
            tally: what was counted.
            numbers: of the queues, where this process is the one to tell them.
            vitals: of the workers in this process.
            expected: queues and tasks that are shown before anything has happened to them.
        """
        self._tally, self._numbers, self._vitals, self._expected = tally, numbers, vitals, expected

    def describe(self) -> Iterator[Metric]:
        """The names alone: a registry refuses a second collector of the same."""
        for family in FAMILIES:
            yield _metric(family, ())

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        self._numbers.note_scrape()
        self._tally.expect(self._expected())
        found: Mapping[Family, Values] = {
            **self._of_tasks(),
            **self._of_process(),
            **self._of_queues(),
        }
        for family in FAMILIES:
            yield _metric(family, found[family])

    def _of_tasks(self) -> dict[Family, Values]:
        tasks = list(self._tally.tasks.items())
        tried = [
            (key, each) for key, each in tasks if each.attempts
        ]  # of the others a histogram is many lines of nothing
        attempts = [((*key, *how), count) for key, each in tasks for how, count in list(each.attempts.items())]
        # Zeros too: what is not there before it happens for the first time is no increase, to whoever asks for a rate.
        ended = {(*key, ending): 0 for key, _ in tasks for ending in (*FINAL, WAS_LOST)}
        for (queue, task, ending, _), count in attempts:
            if (queue, task, ending) in ended:
                ended[queue, task, ending] += count
        for (queue, task), each in tasks:
            ended[queue, task, "dead"] += each.never_ended
        return {
            f.JOBS_ENQUEUED: [(key, each.enqueued) for key, each in tasks],
            f.JOB_ATTEMPTS: attempts,
            f.JOBS_FINISHED: [(labels, count) for labels, count in ended.items() if labels[2] != WAS_LOST],
            f.JOB_WAIT: [(key, each.wait) for key, each in tried],
            f.JOB_RUN: [(key, each.run) for key, each in tried],
            f.JOB_TOTAL: [(key, each.total) for key, each in tried],
            f.JOBS_FENCED: [(labels[:2], count) for labels, count in ended.items() if labels[2] == WAS_LOST],
            f.JOBS_RECOVERED: [(key, each.recovered) for key, each in tasks],
            f.JOBS_POISONED: [(key, each.poisoned) for key, each in tasks],
        }

    def _of_process(self) -> dict[Family, Values]:
        tally, redis = self._tally, self._tally.redis
        working = [each for each in self._vitals() if each.renewed_ago_s is not None]
        return {
            f.ENQUEUE_SECONDS: list(tally.enqueues.items()),
            f.HTTP_ENQUEUE: [((str(status),), count) for status, count in list(tally.http_answers.items())],
            f.IDEMPOTENT_REPLAYS: [((), tally.replays)],
            f.JOBS_RUNNING: [((), sum(each.running_count for each in working))],
            f.WORKER_SLOTS: [((), sum(each.slots for each in working))],
            f.LOOP_LAG: [((), self._numbers.loop_lag_s)],
            f.LOOP_BLOCKED: [((), self._numbers.loop_blocked_s)],
            f.LEASE_RENEWALS: [((result,), count) for result, count in redis.renewals.items()],
            f.REDIS_RTT: [((), redis.round_trips)],
            f.REDIS_UP: [] if redis.is_up is None else [((), redis.is_up)],
            f.REDIS_ERRORS: [((), redis.errors)],
        }

    def _of_queues(self) -> dict[Family, Values]:
        told = {(name,): each for name, each in self._numbers.to_tell().items()}
        return {
            f.QUEUE_READY: [(key, each.measured.ready) for key, each in told.items()],
            f.QUEUE_SCHEDULED: [(key, each.measured.scheduled) for key, each in told.items()],
            f.QUEUE_RUNNING: [(key, each.measured.running) for key, each in told.items()],
            f.QUEUE_AGE: [(key, each.oldest_ready_age_s) for key, each in told.items()],
            f.QUEUE_DEAD: [(key, each.measured.dead) for key, each in told.items()],
            f.QUEUE_REJECTED: [(key, each.measured.rejected) for key, each in told.items()],
            f.QUEUE_MEASURED: [(key, each.age_s) for key, each in told.items()],
        }


def _metric(family: Family, values: Values) -> Metric:
    if family.kind is Kind.HISTOGRAM:
        return _histogram(family, values)
    made = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    metric: CounterMetricFamily | GaugeMetricFamily = made(family.name, family.help, labels=family.labels)
    for labels, value in values:
        assert not isinstance(value, Spread)
        metric.add_metric(labels, value)
    return metric


def _histogram(family: Family, values: Values) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in values:
        assert isinstance(value, Spread)
        buckets = zip([*map(str, value.bounds), "+Inf"], accumulate(value.counts), strict=True)
        metric.add_metric(labels, buckets=[*buckets], sum_value=value.total)
    return metric
