"""How-to: jobs have owners, FastAPI."""

# --8<-- [start:app]
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request, Security
from fastapi.security import APIKeyHeader

from arq_web.fastapi import ArqWeb, background_job

USERS = {"key-of-ann": "ann", "key-of-ben": "ben"}


async def current_user(key: Annotated[str, Security(APIKeyHeader(name="X-Key"))]) -> str:
    if key not in USERS:
        raise HTTPException(401)
    return USERS[key]


def owner_of(request: Request) -> str | None:
    return USERS.get(request.headers.get("X-Key", ""))


app = FastAPI()
ArqWeb(
    app,
    owner=owner_of,  # noted with each job; to others it is an unknown one
    routes=["status", "result", "events", "cancel", "list", "delete"],
    dependencies=[Depends(current_user)],  # as for a router
)


@app.post("/reports/{month}", status_code=202)
@background_job
async def make_report(month: str, user: Annotated[str, Depends(current_user)]) -> str:
    return f"the report of {month} for {user}"
    # --8<-- [end:app]
