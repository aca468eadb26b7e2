"""How-to: traces, FastAPI."""

# --8<-- [start:imports]
from fastapi import FastAPI

from arq_web.fastapi import ArqWeb, Queue

# --8<-- [end:imports]
from tests.docs.examples.traced_tasks import resize

# --8<-- [start:app]
app = FastAPI()
ArqWeb(app, tasks=[resize], tracing=True)


@app.post("/pictures")
async def picture(queue: Queue) -> str:
    return (await queue.enqueue(resize, 800)).id
    # --8<-- [end:app]
