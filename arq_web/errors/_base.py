"""The root of the tree."""

from __future__ import annotations

TWICE = "twice, as __main__ and by its own name: move the tasks into a module that is only imported"


class ArqWebError(Exception):
    """Base of every error that arq_web raises."""
