"""The bare application: one FastAPI route that reads the body and calls the model.

As little as FastAPI lets one do: no pydantic model, no batching, no checks. uvicorn with uvloop
and httptools runs it.
"""

import json

import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.peers.apps import churn

app = FastAPI()
predict = churn.load()


@app.get("/health")
async def health() -> Response:
    """Ready: the model is loaded when the module is."""
    return Response()


@app.post("/predict")
async def answer(request: Request) -> Response:
    """One customer's answer."""
    (told,) = churn.answers(predict, [json.loads(await request.body())])
    return Response(json.dumps(told), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=churn.port(),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
