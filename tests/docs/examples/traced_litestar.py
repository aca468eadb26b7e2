"""How-to: traces, Litestar."""

# --8<-- [start:imports]
from litestar import Litestar, post

from arq_web.litestar import ArqWeb, Queue

# --8<-- [end:imports]
from tests.docs.examples.traced_tasks import resize


# --8<-- [start:app]
@post("/pictures")
async def picture(queue: Queue) -> str:
    return (await queue.enqueue(resize, 800)).id


app = Litestar([picture], plugins=[ArqWeb(tasks=[resize], tracing=True)])
# --8<-- [end:app]
