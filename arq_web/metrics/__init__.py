"""Metrics for Prometheus: ``ArqWeb(app, metrics=True)``. Needs the extra ``prometheus``.

tally          plain numbers, counted where things happen     (tally.py)
queue_numbers  what each queue holds, told by one process     (queue_numbers.py)
families       the names, in one table                        (families.py)
collecting     what a scrape reads                            (collecting.py)
"""

from __future__ import annotations

from arq_web.metrics.metrics import Metrics

__all__ = ["Metrics"]
