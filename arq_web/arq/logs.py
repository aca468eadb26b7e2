"""How arq's command writes its log."""

from __future__ import annotations

from typing import Any


def default_log_config(verbose: bool) -> dict[str, Any]:
    """A configuration for ``logging.config.dictConfig``: the lines of the logger ``arq``, with the time of day.

    Args:
        verbose: DEBUG instead of INFO.
    """
    level = "DEBUG" if verbose else "INFO"
    handler = {"level": level, "class": "logging.StreamHandler", "formatter": "arq.standard"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"arq.standard": handler},
        "formatters": {"arq.standard": {"format": "%(asctime)s: %(message)s", "datefmt": "%H:%M:%S"}},
        "loggers": {"arq": {"handlers": ["arq.standard"], "level": level}},
    }
