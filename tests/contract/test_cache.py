"""The result cache at every door: the same bytes again, and who is told where they came from."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import pandas as pd
import pytest

from foretell.codecs import messages
from foretell.codecs.tensors import Tensor, to_raw
from foretell.core.datatype import Datatype
from foretell.packing import pack
from tests.contract.doors import DOORS, Door
from tests.servers import Server, running
from tests.stubs import stub

pytestmark = pytest.mark.slow
HIT, MISS = "foretell; hit", "foretell; fwd=miss"
_numbers = itertools.count(2)


def fresh() -> float:
    """A number that no test has asked for."""
    return float(next(_numbers))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cached")
    here = Path(__file__).parent
    for name in ("counting", "plain"):
        pack(["counting:Counting"], name=name, repository=folder / "models", python_path=here)
    told = "[models.counting.cache]\nstore = 'memory'\nmax_rows = 100\n"
    (folder / "foretell.toml").write_text(f"default_model = 'counting'\n{told}")
    with running(folder / "models", cwd=folder) as server:
        yield server


def answered(server: Server, path: str, body: Any, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = httpx.post(server.url + path, content=content, headers=sent, timeout=30)
    assert reply.status_code == 200, reply.text
    return reply


def tensors(x: float) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [x]}]}


BODIES: dict[str, Any] = {
    "/predict": lambda x: {"x": x},
    "/batch_predict": lambda x: {"instances": [[x]]},
    "/v2/models/counting/infer": tensors,
    "/v1/models/counting:predict": lambda x: {"instances": [[x]]},
    "/invocations": lambda x: {"instances": [[x]]},
}


@pytest.mark.parametrize("path", BODIES)
def test_the_same_row_gets_the_same_bytes_and_is_told_so(server: Server, path: str) -> None:
    body = BODIES[path](fresh())
    first, again = answered(server, path, body), answered(server, path, body)
    assert (first.headers["cache-status"], again.headers["cache-status"]) == (MISS, HIT)
    assert first.content == again.content
    anew = answered(server, path, body, cache_control="no-cache")
    assert anew.headers["cache-status"] == "foretell; fwd=request"
    assert anew.content != first.content
    assert answered(server, path, body).content == anew.content
    past = answered(server, path, body, cache_control="max-age=0, No-Store")
    assert past.headers["cache-status"] == "foretell; fwd=bypass"
    assert answered(server, path, body).content == anew.content


@pytest.mark.parametrize(
    "kind", ["text/csv", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"]
)
def test_tables_are_answered_from_it_row_by_row(server: Server, kind: str) -> None:
    rows = [fresh() for _ in range(4)]
    answered(server, "/batch_predict", {"instances": [[row] for row in rows[:3]]})
    body = {"instances": [[row] for row in rows]}
    told = [
        answered(server, "/batch_predict", body, content_type="application/json", accept=kind)
        for _ in range(2)
    ]
    assert told[0].headers["cache-status"] == 'foretell; fwd=partial; detail="3 of 4 rows hit"'
    assert told[1].headers["cache-status"] == HIT
    assert told[0].content == told[1].content


@pytest.mark.parametrize("name", DOORS)
def test_every_door_answers_from_it_as_without_it(server: Server, name: str) -> None:
    door: Door = DOORS[name]
    if name.startswith("prediction") or not door.missing:
        table = pd.DataFrame({"x": [fresh()]})
    else:
        table = pd.DataFrame({"x": [fresh()] if door.single else [fresh(), fresh()]})
    told = [door.ask(server.url, "counting", table, None) for _ in range(2)]
    anew = [door.ask(server.url, "plain", table, None) for _ in range(2)]
    assert told[0] == told[1]
    assert anew[0] != anew[1]


def test_one_row_is_found_whichever_door_asked_for_it_first(server: Server) -> None:
    x = fresh()
    told = answered(server, "/predict", {"x": x}).json()["prediction"]
    assert answered(server, "/predict", {"features": [int(x)]}).json()["prediction"] == told
    assert answered(server, "/v2/models/counting/infer", tensors(x)).json()["outputs"][0][
        "data"
    ] == [told]
    lines = answered(
        server,
        "/predict",
        b'{"x": %f}\n' % x,
        content_type="application/x-ndjson",
        accept="application/x-ndjson",
    )
    assert lines.json()["prediction"] == told


def test_outputs_that_are_left_out_are_kept_all_the_same(server: Server) -> None:
    body = tensors(fresh())
    one = answered(
        server, "/v2/models/counting/infer", {**body, "outputs": [{"name": "share"}]}
    ).json()
    both = answered(server, "/v2/models/counting/infer", body)
    assert both.headers["cache-status"] == HIT
    assert both.json()["outputs"][1] == one["outputs"][0]


def test_a_model_without_a_cache_says_nothing_of_one(server: Server) -> None:
    for _ in range(2):
        reply = answered(server, "/models/plain/predict", {"x": 1.0}, cache_control="no-cache")
        assert "cache-status" not in reply.headers


def test_failures_are_not_kept(server: Server) -> None:
    for _ in range(2):
        reply = httpx.post(f"{server.url}/predict", json={"x": -1.0})
        assert reply.status_code == 500
        assert "cache-status" not in reply.headers


def test_several_headers_of_cache_control_are_one_list(server: Server) -> None:
    body = {"x": fresh()}
    answered(server, "/predict", body)
    for sent in (["no-store", "max-age=3"], ["max-age=3", "no-store"]):
        headers = [("cache-control", one) for one in sent]
        reply = httpx.post(f"{server.url}/predict", json=body, headers=headers)
        assert reply.headers["cache-status"] == "foretell; fwd=bypass"
        request = messages.message("prediction.PredictRequest")(features=[body["x"]])
        with grpc.insecure_channel(urlsplit(server.url).netloc) as channel:
            ask = stub(channel, "prediction.PredictionService").Predict
            _, ended = ask.with_call(request, metadata=headers)
        assert ("cache-status", "foretell; fwd=bypass") in ended.trailing_metadata()


def test_grpc_tells_it_in_trailing_metadata(server: Server) -> None:
    x = fresh()
    one = messages.message("prediction.PredictRequest")(features=[x])
    many = messages.message("prediction.BatchPredictRequest")()
    many.instances.add(features=[x])
    infer = messages.message("inference.ModelInferRequest")(model_name="counting")
    infer.inputs.add(name="x", datatype="FP64", shape=[1])
    infer.raw_input_contents.append(to_raw(Tensor("x", Datatype.FP64, np.array([x]))))
    with grpc.insecure_channel(urlsplit(server.url).netloc) as channel:
        oip = stub(channel, "inference.GRPCInferenceService")
        own = stub(channel, "prediction.PredictionService")
        calls = [(oip.ModelInfer, infer)]
        told = []
        for call, request in calls * 2:
            _, ended = call.with_call(request)
            told.append(dict(ended.trailing_metadata()).get("cache-status"))
        assert told == [MISS, HIT]
        for call, request in calls:
            _, ended = call.with_call(request, metadata=[("cache-control", "no-cache")])
            assert ("cache-status", "foretell; fwd=request") in ended.trailing_metadata()
        (streamed,) = oip.ModelStreamInfer(iter([infer]))
        assert streamed.infer_response.parameters["cache-status"].string_param == HIT
        # which answers whole numbers only, of a model that has no others
        _, ended = own.Predict.with_call(one)
        assert ("cache-status", HIT) in ended.trailing_metadata()
        _, ended = own.BatchPredict.with_call(many)
        assert ("cache-status", HIT) in ended.trailing_metadata()


def test_what_comes_at_once_runs_once_and_is_counted(server: Server) -> None:
    def counted() -> dict[str, float]:
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines)
            if name.startswith(("foretell_cache_", "prediction_total"))
        }

    version = 'model="counting",model_version="1.0.0"'

    def rows(result: str) -> str:
        return f'foretell_cache_rows_total{{{version},result="{result}"}}'

    before, body = counted(), {"x": fresh()}
    with ThreadPoolExecutor(16) as threads:
        told = list(threads.map(lambda _: answered(server, "/predict", body).content, range(64)))
    after = counted()
    assert len(set(told)) == 1
    grew = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert grew[rows("miss")] == 1
    assert grew[rows("hit")] + grew[rows("coalesced")] == 63
    assert grew[f"foretell_cache_entries{{{version}}}"] == 1
    assert after[f"foretell_cache_bytes{{{version}}}"] > 0
    assert grew[f'prediction_total{{{version},status="success"}}'] == 64
    assert not [name for name in after if "cache" in name and "plain" in name]
