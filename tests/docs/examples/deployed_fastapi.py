# --8<-- [start:app]
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException

from arq_web.fastapi import ArqWeb, Queue, task


@task
async def send_welcome(user_id: int) -> str:
    return f"sent a welcome to user {user_id}"


def from_inside(x_forwarded_for: Annotated[str, Header()] = "") -> None:
    if x_forwarded_for:  # your ingress sets it: autoscaler and probes come without
        raise HTTPException(404)


app = FastAPI()
ArqWeb(app, tasks=[send_welcome], health_path="/-/jobs", health_dependencies=[Depends(from_inside)])


# --8<-- [end:app]
@app.post("/signup/{user_id}")
async def signup(user_id: int, queue: Queue) -> dict[str, str]:
    job = await queue.enqueue(send_welcome, user_id)
    return {"job": job.id}
