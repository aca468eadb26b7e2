"""How-to: a route that is a job, Litestar."""

# --8<-- [start:app]
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from litestar import Litestar, post
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotAuthorizedException
from litestar.params import FromPath, HeaderParameter, JSONBody

from arq_web.litestar import INJECTED, ArqWeb, Progress, RequestTime, background_job


@dataclass
class Op:
    name: str
    amount: int


@dataclass
class Image:
    id: int
    owner: int
    ops: int


class Database:
    async def save(self, image: Image) -> None: ...


async def current_user_id(x_user: Annotated[int, HeaderParameter(name="X-User")]) -> int:
    if x_user == 0:
        raise NotAuthorizedException
    return x_user


async def get_db() -> AsyncIterator[Database]:
    yield Database()  # opened and closed in the worker, for each job


@post(
    "/images/{image_id:int}/resize",
    status_code=202,
    dependencies={"owner": Provide(current_user_id), "db": Provide(get_db)},
)
@background_job(timeout=600)
async def resize(
    image_id: FromPath[int],
    data: JSONBody[list[Op]],
    owner: RequestTime[int],  # resolved in the request, its value travels
    db: NamedDependency[Database] = INJECTED,  # resolved in the worker
    progress: Progress = INJECTED,
) -> Image:
    await progress(0.5, "half of it")
    image = Image(id=image_id, owner=owner, ops=len(data))
    await db.save(image)
    return image


app = Litestar([resize], plugins=[ArqWeb()])
# --8<-- [end:app]
