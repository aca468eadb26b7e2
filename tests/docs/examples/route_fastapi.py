"""How-to: a route that is a job, FastAPI."""

# --8<-- [start:app]
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

from arq_web.fastapi import INJECTED, ArqWeb, Progress, background_job


class Op(BaseModel):
    name: str
    amount: int


class Image(BaseModel):
    id: int
    owner: int
    ops: int


class Database:
    async def save(self, image: Image) -> None: ...


async def current_user_id(x_user: Annotated[int, Header()]) -> int:
    if x_user == 0:
        raise HTTPException(401)
    return x_user


async def get_db() -> AsyncIterator[Database]:
    yield Database()  # opened and closed in the worker, for each job


User = Annotated[int, Depends(current_user_id)]  # reads the request: resolved there, its value travels
Db = Annotated[Database, Depends(get_db)]  # does not: resolved in the worker

app = FastAPI()
ArqWeb(app)


@app.post("/images/{image_id}/resize", status_code=202)
@background_job(timeout=600)
async def resize(image_id: int, ops: list[Op], owner: User, db: Db = INJECTED, progress: Progress = INJECTED) -> Image:
    await progress(0.5, "half of it")
    image = Image(id=image_id, owner=owner, ops=len(ops))
    await db.save(image)
    return image
    # --8<-- [end:app]
