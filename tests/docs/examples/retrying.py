"""How-to: retry and backoff."""

# --8<-- [start:policy]
from datetime import timedelta

from arq_web import Backoff, DoNotRetry, Retry, Snooze, task


class CardDeclined(Exception):
    """The bank said no: it will say no again."""


@task(
    max_tries=5,  # attempts that may end in a failure, the first included
    timeout=30,  # seconds, of each attempt
    retry=Backoff(base_s=1, factor=3, cap_s=3600),  # 1 s, 3 s, 9 s, ... at most 1 h, give or take 20 %
    no_retry_on=CardDeclined,
)
async def charge(order_id: int) -> str:
    return await ask_the_bank(order_id)
    # --8<-- [end:policy]


# --8<-- [start:words]
@task(max_tries=5)
async def send_invoice(order_id: int) -> str:
    status = await ask_the_provider(order_id)
    if status == 429:
        raise Retry("too many requests", delay=timedelta(seconds=30))  # spends a failure
    if status == 425:
        raise Snooze("not ready", delay=60)  # spends nothing
    if status == 404:
        raise DoNotRetry("no such order")  # dead at once
    return "sent"
    # --8<-- [end:words]


# --8<-- [start:own]
def by_error(failures: int, error: BaseException) -> float | None:
    """Seconds to wait after the n-th failure; None gives up."""
    if isinstance(error, ConnectionError):
        return 5.0 * failures
    return None


@task(max_tries=10, retry=by_error)
async def fetch_rates(day: str) -> str:
    return await ask_the_exchange(day)
    # --8<-- [end:own]


answers: dict[str, list[object]] = {}
"""What the outside world says next, for the tests of this page."""


async def ask_the_bank(order_id: int) -> str:
    return str(_next("bank"))


async def ask_the_provider(order_id: int) -> object:
    return _next("provider")


async def ask_the_exchange(day: str) -> str:
    return str(_next("exchange"))


def _next(who: str) -> object:
    answer = answers[who].pop(0)
    if isinstance(answer, Exception):
        raise answer
    return answer
