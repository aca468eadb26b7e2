"""Everything that arq_web raises, in one tree.

    ArqWebError
    ├── ConfigError                what you set up cannot work
    │   ├── InvalidConfig          a setting is outside its range
    │   ├── InvalidRedisUrl        the URL is not one we understand
    │   ├── NoRedisUrl             no Redis named, and none may be started here
    │   ├── MissingExtra           an optional dependency is not installed
    │   ├── ImportFailed           ``app-worker module:name`` found nothing to work for
    │   └── DevBrokerFailed        the development Redis did not start
    ├── DefinitionError            a task, route or schedule is not well defined
    │   ├── InvalidTask            a function that cannot be a task
    │   ├── DuplicateTask          two tasks under one name
    │   ├── InvalidMiddleware      a middleware did what none may
    │   ├── InvalidSchedule        a cron expression or period that means nothing
    │   └── InvalidRoute           a route that cannot become a job
    ├── EnqueueError               this call was not enqueued; nothing was written
    │   ├── InvalidArguments       the arguments do not fit the function
    │   ├── NotSerializable        an argument would not arrive as it was sent
    │   ├── PayloadTooLarge        the arguments are over the limit
    │   ├── InvalidHeaders         a middleware gave the job headers that cannot be
    │   ├── InvalidOption          an option of the call is outside its range
    │   ├── InvalidJobId           an id that cannot be one
    │   ├── JobIdConflict          the id belongs to a job of another task
    │   ├── QueueFull              as many jobs wait as may (``max_queued``)
    │   ├── IdempotencyKeyReused   a request's Idempotency-Key came with other values before
    │   ├── IdempotentJobGone      the job of an Idempotency-Key is gone, and its key is not
    │   ├── NothingToTieTo         there is no response, transaction or outbox here
    │   └── UnknownTask            no task of that name is registered
    ├── JobError                   what a job came to
    │   ├── JobNotFound            there is no such job (any more)
    │   ├── JobFailed              it is dead; carries the last error
    │   ├── JobCancelled           it was cancelled
    │   ├── JobExpired             it could not start in time
    │   └── ResultNotKept          it succeeded, but its result was not stored
    ├── CodecError                 bytes that are not what their type says
    │   ├── UndecodablePayload     a worker could not read a job's arguments
    │   ├── UnstorableResult       a task returned what cannot be stored
    │   └── UndecodableResult      a stored result is not of the expected type
    └── StoreError                 Redis said no, or nothing
        ├── StoreUnavailable       Redis did not answer in time
        ├── StoreRefused           Redis refused the connection's credentials
        ├── StoreFull              Redis has no memory left (``noeviction``)
        └── StoreCorrupt           a key of ours holds something that is not ours

    Retry, Snooze, DoNotRetry      raised *by* a task to say how its attempt ends

A message says what happened, why, and what to do.
"""

from __future__ import annotations

from arq_web.errors._base import ArqWebError
from arq_web.errors._enqueue import (
    EnqueueError,
    IdempotencyKeyReused,
    IdempotentJobGone,
    InvalidArguments,
    InvalidHeaders,
    InvalidJobId,
    InvalidOption,
    JobIdConflict,
    NothingToTieTo,
    NotSerializable,
    PayloadTooLarge,
    QueueFull,
    UnknownTask,
)
from arq_web.errors._from_tasks import DoNotRetry, Retry, Snooze
from arq_web.errors._job import (
    CodecError,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobNotFound,
    ResultNotKept,
    UndecodablePayload,
    UndecodableResult,
    UnstorableResult,
)
from arq_web.errors._setup import (
    ConfigError,
    DefinitionError,
    DevBrokerFailed,
    DuplicateTask,
    ImportFailed,
    InvalidConfig,
    InvalidMiddleware,
    InvalidRedisUrl,
    InvalidRoute,
    InvalidSchedule,
    InvalidTask,
    MissingExtra,
    NoRedisUrl,
)
from arq_web.errors._store import StoreCorrupt, StoreError, StoreFull, StoreRefused, StoreUnavailable

__all__ = [
    "ArqWebError",
    "CodecError",
    "ConfigError",
    "DefinitionError",
    "DevBrokerFailed",
    "DoNotRetry",
    "DuplicateTask",
    "EnqueueError",
    "IdempotencyKeyReused",
    "IdempotentJobGone",
    "ImportFailed",
    "InvalidArguments",
    "InvalidConfig",
    "InvalidHeaders",
    "InvalidJobId",
    "InvalidMiddleware",
    "InvalidOption",
    "InvalidRedisUrl",
    "InvalidRoute",
    "InvalidSchedule",
    "InvalidTask",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobIdConflict",
    "JobNotFound",
    "MissingExtra",
    "NoRedisUrl",
    "NotSerializable",
    "NothingToTieTo",
    "PayloadTooLarge",
    "QueueFull",
    "ResultNotKept",
    "Retry",
    "Snooze",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreRefused",
    "StoreUnavailable",
    "UndecodablePayload",
    "UndecodableResult",
    "UnknownTask",
    "UnstorableResult",
]

for _name in __all__:
    globals()[_name].__module__ = __name__  # where users, logs and pickles find it
