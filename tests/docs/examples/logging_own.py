"""Docs snippets: a logging set-up of the app's own."""

# --8<-- [start:dict]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"job": {"()": "arq_web.logs.JobFilter"}},
    "formatters": {"line": {"format": "%(levelname)s %(name)s [%(job_id)s %(task)s %(request_id)s] %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["job"]}},
    "root": {"level": "INFO", "handlers": ["out"]},
}
# --8<-- [end:dict]
