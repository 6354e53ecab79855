"""The doors: each asks a running server for predictions of a table, in its own form.

A door is a function of the server's URL, a model, a table and seconds; it returns the outputs
by name as plain values, or raises `Refused`. A new one is a row in DOORS.
"""

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import foretell
from foretell.client.predictions import Predictions
from foretell.codecs import messages
from foretell.codecs.tensors import Tensor, from_raw, to_raw
from foretell.core.datatype import Datatype
from foretell.errors import ForetellError
from tests.stubs import details, stub

Outputs = dict[str, list[Any]]
Ask = Callable[[str, str, pd.DataFrame, float | None], Outputs]


class Refused(Exception):
    """What a door said instead of an answer; `row` and `field` where they were told."""

    def __init__(self, code: str, words: str, field: str | None, row: int | None) -> None:
        super().__init__(words)
        self.code, self.words, self.field, self.row = code, words, field, row


class Door(NamedTuple):
    """`single`: it takes no more than one row. `says`: the outputs it has a place for.

    `texts` and `missing`: it can carry such values. `names`: its columns have names, so that one
    of them can be missing.
    """

    ask: Ask
    single: bool = False
    says: tuple[str, ...] = ("prediction", "probability")
    texts: bool = True
    missing: bool = True
    exact: bool = True


def plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as JSON has them."""
    told = table.astype(object).where(table.notna(), None)
    return list(told.to_dict(orient="records"))


def posted(url: str, body: bytes, timeout_s: float | None, **headers: str) -> httpx.Response:
    """The reply, which must be good. Raises Refused."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if timeout_s is not None:
        sent["x-request-timeout-ms"] = str(int(timeout_s * 1000))
    reply = httpx.post(url, content=body, headers=sent, timeout=60)
    if reply.status_code != 200:
        told = reply.json()
        raise Refused(told["code"], told["error"], told.get("field"), told.get("row"))
    return reply


JSON = "application/json"


def predict(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """One row by name."""
    (row,) = plain(table)
    told = posted(
        f"{url}/models/{model}/predict", json.dumps(row).encode(), timeout_s, content_type=JSON
    ).json()
    return {name: [told[name]] for name in ("prediction", "probability") if name in told}


def _batch(url: str, model: str, rows: list[Any], timeout_s: float | None) -> Outputs:
    body = json.dumps({"instances": rows}).encode()
    path = f"{url}/models/{model}/batch_predict"
    told = posted(path, body, timeout_s, content_type=JSON).json()
    names = {"prediction": "predictions", "probability": "probabilities"}
    return {name: told[key] for name, key in names.items() if key in told}


def by_name(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """Rows by name."""
    return _batch(url, model, plain(table), timeout_s)


def in_order(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """Rows as arrays."""
    return _batch(url, model, [list(row.values()) for row in plain(table)], timeout_s)


def tensors(table: pd.DataFrame) -> list[Tensor]:
    """One tensor a column; a missing number is NaN, of other missing values there are none."""
    made = []
    for name in table.columns:
        values = table[name].to_numpy()
        made.append(Tensor(name, Datatype.of(values.dtype), values))
    return made


def oip_json(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """The Open Inference Protocol in JSON, `null` for what is missing."""
    rows = plain(table)
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": [len(table)],
            "data": [row[tensor.name] for row in rows],
        }
        for tensor in tensors(table)
    ]
    body = json.dumps({"inputs": inputs}).encode()
    told = posted(f"{url}/v2/models/{model}/infer", body, timeout_s).json()
    return {
        one["name"]: np.reshape(np.array(one["data"], dtype=object), one["shape"]).tolist()
        for one in told["outputs"]
    }


def oip_binary(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """The same with raw tensors behind the JSON, both ways."""
    raw = [to_raw(tensor) for tensor in tensors(table)]
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": [len(table)],
            "parameters": {"binary_data_size": len(one)},
        }
        for tensor, one in zip(tensors(table), raw, strict=True)
    ]
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    reply = posted(
        f"{url}/v2/models/{model}/infer",
        b"".join([header, *raw]),
        timeout_s,
        inference_header_content_length=str(len(header)),
    )
    length = int(reply.headers["inference-header-content-length"])
    at, answers = length, {}
    for one in json.loads(reply.content[:length])["outputs"]:
        end = at + one["parameters"]["binary_data_size"]
        datatype = Datatype(one["datatype"])
        answers[one["name"]] = from_raw(
            one["name"], datatype, one["shape"], reply.content[at:end]
        ).values.tolist()
        at = end
    assert at == len(reply.content)
    return answers


def _called(call: Any, request: Any, timeout_s: float | None, **options: Any) -> Any:
    try:
        return call(request, timeout=timeout_s or 60, **options)
    except grpc.RpcError as error:
        told = details(error)
        metadata = told["ErrorInfo"].metadata if "ErrorInfo" in told else {}
        row = metadata.get("row")
        code = told["ErrorInfo"].reason.lower() if told else str(error.code())
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:  # the client's own clock may be first
            code = "deadline_exceeded"
        raise Refused(
            code, str(error.details()), metadata.get("field"), None if row is None else int(row)
        ) from None


def grpc_raw(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """The Open Inference Protocol over gRPC, raw contents."""
    request = messages.message("inference.ModelInferRequest")(model_name=model)
    for tensor in tensors(table):
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[len(table)])
        request.raw_input_contents.append(to_raw(tensor))
    return _inferred(url, request, timeout_s)


_TYPED = {
    Datatype.FP64: "fp64_contents",
    Datatype.INT64: "int64_contents",
    Datatype.BOOL: "bool_contents",
    Datatype.BYTES: "bytes_contents",
}


def grpc_typed(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """The same with typed contents."""
    request = messages.message("inference.ModelInferRequest")(model_name=model)
    for tensor in tensors(table):
        part = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[len(table)])
        values = tensor.values.tolist()
        if tensor.datatype is Datatype.BYTES:
            values = [str(value).encode() for value in values]
        getattr(part.contents, _TYPED[tensor.datatype]).extend(values)
    return _inferred(url, request, timeout_s)


def _inferred(url: str, request: Any, timeout_s: float | None) -> Outputs:
    with grpc.insecure_channel(urlsplit(url).netloc) as channel:
        infer = stub(channel, "inference.GRPCInferenceService").ModelInfer
        response = _called(infer, request, timeout_s)
    parts = zip(response.outputs, response.raw_output_contents, strict=True)
    return {
        one.name: from_raw(one.name, Datatype(one.datatype), one.shape, raw).values.tolist()
        for one, raw in parts
    }


def grpc_features(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """The brief's service: 32-bit numbers both ways."""
    kind = messages.message("prediction.PredictRequest")
    request = messages.message("prediction.BatchPredictRequest")(
        instances=[kind(features=row) for row in table.to_numpy(float)]
    )
    with grpc.insecure_channel(urlsplit(url).netloc) as channel:
        batch = stub(channel, "prediction.PredictionService").BatchPredict
        response = _called(batch, request, timeout_s, metadata=[("model-name", model)])
    return {
        "prediction": list(response.predictions),
        "probability": [list(part.values) for part in response.probabilities],
    }


def v1(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """KServe's V1 contract, which has room for predictions only."""
    body = json.dumps({"instances": plain(table)}).encode()
    told = posted(f"{url}/v1/models/{model}:predict", body, timeout_s).json()
    return {"prediction": told["predictions"]}


def arrow(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """An Arrow stream, both ways."""
    sent = pa.Table.from_pandas(table, preserve_index=False)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, sent.schema) as writer:
        writer.write_table(sent)
    kind = "application/vnd.apache.arrow.stream"
    path = f"{url}/models/{model}/batch_predict"
    reply = posted(path, sink.getvalue(), timeout_s, content_type=kind, accept=kind)
    outputs: Outputs = pa.ipc.open_stream(reply.content).read_all().to_pydict()
    return outputs


def parquet(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """A Parquet file, both ways."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), sink)
    kind = "application/vnd.apache.parquet"
    path = f"{url}/models/{model}/batch_predict"
    reply = posted(path, sink.getvalue(), timeout_s, content_type=kind, accept=kind)
    outputs: Outputs = pq.read_table(io.BytesIO(reply.content)).to_pydict()
    return outputs


def csv(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """CSV in, JSON out."""
    body = table.to_csv(index=False).encode()
    path = f"{url}/models/{model}/batch_predict"
    told = posted(path, body, timeout_s, content_type="text/csv", accept=JSON).json()
    names = {"prediction": "predictions", "probability": "probabilities"}
    return {name: told[key] for name, key in names.items() if key in told}


def ndjson(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """A JSON row a line, JSON out."""
    body = "\n".join(json.dumps(row) for row in plain(table)).encode()
    path = f"{url}/models/{model}/batch_predict"
    told = posted(path, body, timeout_s, content_type="application/x-ndjson", accept=JSON).json()
    names = {"prediction": "predictions", "probability": "probabilities"}
    return {name: told[key] for name, key in names.items() if key in told}


def _told(answer: Predictions) -> Outputs:
    return {name: values.tolist() for name, values in answer.outputs.items()}


def client(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """Foretell's own client."""
    with foretell.Client(url) as asking:
        try:
            return _told(asking.predict(model, table, timeout_s=timeout_s))
        except ForetellError as error:
            raise Refused(error.code, error.message, error.field, error.row) from None


def async_client(url: str, model: str, table: pd.DataFrame, timeout_s: float | None) -> Outputs:
    """The same on an event loop."""

    async def main() -> Outputs:
        async with foretell.AsyncClient(url) as asking:
            return _told(await asking.predict(model, table, timeout_s=timeout_s))

    try:
        return asyncio.run(main())
    except ForetellError as error:
        raise Refused(error.code, error.message, error.field, error.row) from None


def over_grpc(ask: Ask) -> Ask:
    """The same client over gRPC."""
    return lambda url, *rest: ask(url.replace("http://", "grpc://"), *rest)


DOORS = {
    "predict": Door(predict, single=True),
    "rows by name": Door(by_name),
    "rows in order": Door(in_order),
    "OIP JSON": Door(oip_json),
    "OIP binary": Door(oip_binary),
    "gRPC raw": Door(grpc_raw),
    "gRPC typed": Door(grpc_typed),
    "gRPC features": Door(grpc_features, texts=False, missing=False, exact=False),
    "KServe V1": Door(v1, says=("prediction",)),
    "Arrow": Door(arrow),
    "Parquet": Door(parquet),
    "CSV": Door(csv),
    "NDJSON": Door(ndjson),
    "client": Door(client),
    "client over gRPC": Door(over_grpc(client)),
    "async client": Door(async_client),
    "async client over gRPC": Door(over_grpc(async_client)),
}
