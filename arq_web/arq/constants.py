"""arq's constants.

``default_queue_name``, ``health_check_key_suffix``, ``expires_extra_ms`` and ``timezone_env_vars`` mean something here.
The others name keys that arq writes and this engine does not; they are here for code that imports them.
"""

default_queue_name = "arq:queue"
job_key_prefix = "arq:job:"
in_progress_key_prefix = "arq:in-progress:"
result_key_prefix = "arq:result:"
retry_key_prefix = "arq:retry:"
abort_jobs_ss = "arq:abort"
abort_job_max_age = 60
health_check_key_suffix = ":health-check"
keep_cronjob_progress = 60
timezone_env_vars = ("ARQ_TIMEZONE", "arq_timezone", "TIMEZONE", "timezone")
"""Environment variables that name the zone of ``utils.ms_to_datetime``, the first one that is set."""
expires_extra_ms = 86_400_000
"""A job must start within so many ms of the time that it is due, unless its enqueue says otherwise."""
