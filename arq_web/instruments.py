"""``ArqWeb(metrics=True, tracing=True)``: what is installed in an app as a whole, loaded when it is asked for."""

from __future__ import annotations

import importlib
from typing import Literal, cast

from arq_web.errors import InvalidConfig, MissingExtra
from arq_web.middleware import Instrument

_OWN = {
    "metrics": ("arq_web.metrics", "Metrics", "prometheus_client", "prometheus"),
    "tracing": ("arq_web.tracing", "Tracing", "opentelemetry", "opentelemetry"),
}
"""Option → our module, its class, the package that it needs, the extra that brings it."""


def instrument(option: Literal["metrics", "tracing"], given: bool | Instrument) -> Instrument | None:
    """Our own for True, none for False, or what was given.

    Raises:
        MissingExtra: the package that our own needs is not installed.
        InvalidConfig: it is no instrument.
    """
    if given is False:
        return None
    if given is True:
        return _own(option)
    if not callable(getattr(given, "install", None)) or isinstance(given, type):
        raise InvalidConfig(option, given, f"True, False, or an object with install(hub): {_OWN[option][1]}(...)")
    return given


def _own(option: Literal["metrics", "tracing"]) -> Instrument:
    module, name, package, extra = _OWN[option]
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtra(f"{package} (for ArqWeb({option}=True))", extra) from error
    return cast("Instrument", getattr(loaded, name)())
