"""What is wrong before anything runs: with the configuration, with definitions."""

from __future__ import annotations

from arq_web.errors._base import TWICE, ArqWebError


class ConfigError(ArqWebError):
    """What you set up cannot work."""


class InvalidConfig(ConfigError):
    """A setting is outside its range."""

    def __init__(self, field: str, value: object, allowed: str, env: str | None = None) -> None:
        self.field, self.value, self.allowed, self.env = field, value, allowed, env
        super().__init__(field, value, allowed, env)

    def __str__(self) -> str:
        source = f" (environment variable {self.env})" if self.env else ""
        return f"{self.field}={self.value!r}{source} is not valid: it must be {self.allowed}."


class InvalidRedisUrl(ConfigError):
    """The URL is not one we understand. Never shows the URL's credentials."""

    def __init__(self, masked_url: str, why: str) -> None:
        self.masked_url, self.why = masked_url, why
        super().__init__(masked_url, why)

    def __str__(self) -> str:
        return (
            f"{self.masked_url!r} is not a Redis URL: {self.why}. Use for example redis://host:6379/0, "
            "rediss://user:password@host:6379/0 (TLS), unix:///path/redis.sock?db=0, "
            "redis+sentinel://host:26379,host2:26379/mymaster/0 or redis+cluster://host:6379."
        )


class NoRedisUrl(ConfigError):
    """No Redis was named, and a private one may not be started here."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return (
            f"No Redis URL, and no private development Redis here: {self.why}. "
            "Set REDIS_URL (for example REDIS_URL=redis://localhost:6379/0) or pass url= to ArqWeb."
        )


class MissingExtra(ConfigError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        self.feature, self.extra = feature, extra
        super().__init__(feature, extra)

    def __str__(self) -> str:
        return f"{self.feature} is not installed. Run: pip install 'arq-web[{self.extra}]'"


class ImportFailed(ConfigError):
    """``module:name`` led to nothing to work for."""

    def __init__(self, target: str, why: str) -> None:
        self.target, self.why = target, why
        super().__init__(target, why)

    def __str__(self) -> str:
        return (
            f"Cannot load {self.target!r}: {self.why}. Give the app as module:name, as for uvicorn "
            "(for example main:app), from the directory in which the module can be imported."
        )


class DevBrokerFailed(ConfigError):
    """The development Redis did not start."""

    def __init__(self, why: str, log_path: str) -> None:
        self.why, self.log_path = why, log_path
        super().__init__(why, log_path)

    def __str__(self) -> str:
        return (
            f"The private development Redis did not start: {self.why}. See {self.log_path}; "
            "or start a Redis yourself and set REDIS_URL."
        )


class DefinitionError(ArqWebError):
    """A task, route or schedule is not well defined."""


class InvalidTask(DefinitionError):
    """A function that cannot be a task."""

    def __init__(self, name: str, why: str, remedy: str) -> None:
        self.name, self.why, self.remedy = name, why, remedy
        super().__init__(name, why, remedy)

    def __str__(self) -> str:
        return f"{self.name!r} cannot be a task: {self.why}. {self.remedy}"


class DuplicateTask(DefinitionError):
    """Two tasks under one name (or alias)."""

    def __init__(self, name: str, first: str, second: str) -> None:
        self.name, self.first, self.second = name, first, second
        super().__init__(name, first, second)

    def __str__(self) -> str:
        if self.first == self.second:
            return f"{self.first} made {self.name!r} twice: its module was imported {TWICE}."
        return (
            f"Two tasks are named {self.name!r}: {self.first} and {self.second}. "
            "A queued job carries only this name, so give one of them another: @task(name=...)."
        )


class InvalidMiddleware(DefinitionError):
    """A middleware did what none may."""

    def __init__(self, middleware: str, why: str, remedy: str) -> None:
        self.middleware, self.why, self.remedy = middleware, why, remedy
        super().__init__(middleware, why, remedy)

    def __str__(self) -> str:
        return f"The middleware {self.middleware} {self.why}. {self.remedy}"


class InvalidSchedule(DefinitionError):
    """A cron expression or period that means nothing."""

    def __init__(self, spec: str, why: str) -> None:
        self.spec, self.why = spec, why
        super().__init__(spec, why)

    def __str__(self) -> str:
        return (
            f"{self.spec!r} is not a schedule: {self.why}. "
            "Write five cron fields (minute hour day month weekday, for example '0 8 * * *'), six with seconds "
            "first, a word such as '@daily', or every(timedelta(...))."
        )


class InvalidRoute(DefinitionError):
    """A route that cannot become a job."""

    def __init__(self, route: str, why: str, remedy: str, parameter: str | None = None) -> None:
        self.route, self.why, self.remedy, self.parameter = route, why, remedy, parameter
        super().__init__(route, why, remedy, parameter)

    def __str__(self) -> str:
        where = f"parameter {self.parameter!r} of {self.route!r}" if self.parameter else f"{self.route!r}"
        return f"{where} cannot be part of a background job: {self.why}. {self.remedy}"
