"""A target is what reads clients' bytes for a signature, with good bodies to spoil."""

import json
import struct
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np

from foretell.codecs import messages
from foretell.codecs.features import Features
from foretell.codecs.json_rows import JsonRows
from foretell.codecs.oip_json import OipJson
from foretell.codecs.oip_messages import read_request, tensors_of
from foretell.codecs.scoring import ScoringBodies
from foretell.codecs.tables.columns import flat_names
from foretell.codecs.tables.csv_tables import read_csv
from foretell.codecs.tables.ndjson import read_lines
from foretell.codecs.tensors import Tensors
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.engine.fleet import Loaded
from foretell.transports.stream.message import Message
from foretell.transports.stream.scoring import Choices, Scorer
from tests.codecs import mutations

MOST_ROWS = 1000
OUT = (Field("prediction", Datatype.INT64),)
NUMBERS = Signature(
    (
        Field("a", Datatype.FP64),
        Field("b", Datatype.FP32, nullable=True),
        Field("n", Datatype.INT8),
    ),
    OUT,
)
DENSE = Signature(tuple(Field(name, Datatype.FP32) for name in "abc"), OUT)
MIXED = mutations.SIGNATURE
PLAN = Field("plan", Datatype.BYTES, categories=("basic", "plus"), closed=True)
TYPES = Signature((PLAN, Field("on", Datatype.BOOL), Field("u", Datatype.UINT64)), OUT)
IMAGE = Signature((Field("image", Datatype.FP32, shape=(2, 2)),), OUT)
FREE = Signature((Field("signal", Datatype.FP64, shape=(-1,)),), OUT)
SIGNATURES: dict[Signature, list[dict[str, Any]]] = {
    NUMBERS: [{"a": 0.5, "b": None, "n": 3}, {"a": -1e300, "b": 2.5, "n": -128}],
    DENSE: [{"a": 1.5, "b": 2, "c": -3.25}] * 9,
    MIXED: [
        {"x": None, "n": 2**53, "s": 'tëxt \\ "quoted"', "v": [1.5, 2.5]},
        {"x": 0.1, "n": -1, "s": None, "v": [0, 1e-9]},
    ],
    TYPES: [{"plan": "basic", "on": True, "u": 2**64 - 1}, {"plan": "plus", "on": False, "u": 0}],
    IMAGE: [{"image": [[1.5, 2], [3, 4]]}] * 3,
    FREE: [{"signal": [0.5, 1.5, 2.5]}] * 2,
}


class Target(NamedTuple):
    """`read` takes one of `bodies`, or a spoilt one. `text` says that they are text."""

    name: str
    bodies: Sequence[bytes]
    read: Callable[[bytes], object]
    text: bool = True


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _rows(number: int, signature: Signature, rows: list[dict[str, Any]]) -> list[Target]:
    """The JSON bodies of one signature, its lines and its CSV."""
    codec, scoring = JsonRows(signature), ScoringBodies(signature)
    ordered = [list(row.values()) for row in rows]
    one = [_json(rows[0]), _json({"features": ordered[0]}), _json({"features": rows[0]})]
    many = [_json({"instances": rows}), _json({"instances": ordered})]
    names = list(signature.input_names)
    columns = {name: [row[name] for row in rows] for name in names}
    split = {"columns": names, "index": [0], "data": ordered}
    called = [
        *many,
        _json({"inputs": columns}),
        _json({"dataframe_split": split}),
        _json({"dataframe_records": rows, "params": {}}),
    ]
    lines = b"\n".join(map(_json, [*rows, *({"features": row} for row in ordered)]))
    targets = [
        Target("row", one, codec.decode_row),
        Target("rows", many, lambda body: codec.decode_rows(body, max_rows=MOST_ROWS)),
        Target("v1", called, lambda body: scoring.decode_v1(body, max_rows=MOST_ROWS)),
        Target("mlflow", called, lambda body: scoring.decode_invocation(body, max_rows=MOST_ROWS)),
        Target("ndjson", [lines], lambda body: read_lines(codec, body, max_rows=MOST_ROWS)),
        Target("stream", [*one, _json(ordered[0])], _streamed(signature)),
    ]
    if signature is not FREE:  # which no CSV can hold
        targets += _csv_targets(signature, ordered)
    return [target._replace(name=f"{target.name} {number}") for target in targets]


def _csv_targets(signature: Signature, ordered: list[list[object]]) -> list[Target]:
    names = [name for told in flat_names(signature.inputs).values() for name in told]
    cells = [[cell for value in row for cell in np.ravel(_boxed(value))] for row in ordered]
    rows = "".join(map(_csv, cells)).encode()
    bodies = [_csv(names).encode() + rows, rows]
    return [
        Target(
            f"csv bare={bare}",
            bodies,
            partial(read_csv, signature, max_rows=MOST_ROWS, bare=bare),
        )
        for bare in (False, True)
    ]


def _boxed(value: object) -> Any:
    return np.array(value, dtype=object)


def _csv(row: Sequence[object]) -> str:
    cells = ("" if cell is None else str(cell).replace('"', '""') for cell in row)
    return ",".join(f'"{cell}"' for cell in cells) + "\r\n"


def _streamed(signature: Signature) -> Callable[[bytes], object]:
    def predict(batch: Batch) -> Batch:
        return Batch.from_rows(OUT, [(1,)] * batch.n_rows)

    manifest = SimpleNamespace(name="m", version="1", files=())
    told = SimpleNamespace(
        signature=signature, name="m", version="1", predict=predict, manifest=manifest
    )
    scorer = Scorer(cast("Loaded", told), Choices(merged=True))

    def read(body: bytes) -> None:
        scored = scorer.score([Message("m:0", body)])
        assert len(scored.results) + len(scored.dead) == 1
        for record in (*scored.results, *scored.dead):
            json.loads(record.value)

    return read


def _tensors(number: int, signature: Signature, rows: list[dict[str, Any]]) -> list[Target]:
    """Both forms of the Open Inference Protocol for one signature."""
    codec, tensors = OipJson(signature), Tensors(signature)
    request = messages.message("inference.ModelInferRequest")
    typed, raw = request(model_name="m", id="1"), request(model_name="m")
    plain: list[dict[str, Any]] = []
    binary: list[dict[str, Any]] = []
    tail = b""
    for field in signature.inputs:
        values = [row[field.name] for row in rows]
        shape = list(np.shape(values))
        packed = _packed(field.datatype, values)
        part = {"name": field.name, "datatype": field.datatype.value, "shape": shape}
        plain.append({**part, "data": values})
        binary.append({**part, "parameters": {"binary_data_size": len(packed)}})
        tail += packed
        typed.inputs.add(name=field.name, datatype=field.datatype.value, shape=shape)
        _fill(typed.inputs[-1].contents, field.datatype, values)
        raw.inputs.add(name=field.name, datatype=field.datatype.value, shape=shape)
        raw.raw_input_contents.append(packed)
    outputs = [{"name": "prediction", "parameters": {"binary_data": True, "classification": 1}}]
    head = _json({"inputs": binary, "outputs": outputs})
    full = _json({"id": "7", "inputs": plain, "parameters": {"timeout": 9}, "outputs": outputs})

    def read_json(body: bytes) -> object:
        return codec.decode(body, None, max_rows=MOST_ROWS)

    def read_binary(body: bytes) -> object:
        return codec.decode(body, len(head), max_rows=MOST_ROWS)

    def read_bare(body: bytes) -> object:
        return codec.decode(body, 0, max_rows=MOST_ROWS)

    def read_message(body: bytes) -> object:
        asked, contents = read_request(body)
        tensors.refuse_others((part.name for part in asked.inputs), len(asked.inputs))
        return tensors.accept(tensors_of(asked, contents), max_rows=MOST_ROWS)

    sent = [typed.SerializeToString(), raw.SerializeToString()]
    told = [
        Target(f"oip {number}", [full], read_json),
        Target(f"oip binary {number}", [head + tail], read_binary, text=False),
        Target(f"oip message {number}", sent, read_message, text=False),
    ]
    if signature in (DENSE, IMAGE):
        told.append(Target(f"oip bare {number}", [tail], read_bare, text=False))
    return told


def _packed(datatype: Datatype, values: list[Any]) -> bytes:
    if datatype is Datatype.BYTES:
        texts = [(value or "").encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(_flat(values), dtype=datatype.numpy).tobytes()


def _flat(values: list[Any]) -> list[Any]:
    found: list[Any] = np.array(values, dtype=object).ravel().tolist()
    return [0 if value is None else value for value in found]


def _fill(contents: Any, datatype: Datatype, values: list[Any]) -> None:
    if datatype is Datatype.BYTES:
        contents.bytes_contents.extend((value or "").encode() for value in values)
        return
    kinds = {"f": "fp64", "i": "int", "u": "uint", "b": "bool"}
    kind = kinds[datatype.numpy.kind]
    if datatype is Datatype.FP32:
        kind = "fp32"
    elif datatype in (Datatype.INT64, Datatype.UINT64):
        kind += "64"
    getattr(contents, f"{kind}_contents").extend(_flat(values))


def _features(number: int, signature: Signature) -> list[Target]:
    codec = Features(signature)
    if codec.refusal is not None:
        return []
    one = messages.message("prediction.PredictRequest")(features=[1.0, 2.0, 3.0])
    many = messages.message("prediction.BatchPredictRequest")()
    for _ in range(20):
        many.instances.add(features=[1.0, 2.0, 3.0])
    return [
        Target(f"features {number}", [one.SerializeToString()], codec.read_one, text=False),
        Target(
            f"features of many {number}",
            [many.SerializeToString()],
            lambda body: codec.read_many(body, max_rows=MOST_ROWS),
            text=False,
        ),
    ]


def _table(read: Callable[..., object], body: bytes) -> object:
    return read(MIXED, body, mutations.LIMITS)


def _tables() -> list[Target]:
    """Arrow and Parquet."""
    bodies: dict[Any, list[bytes]] = {}
    for read, body in mutations.bodies().values():
        bodies.setdefault(read, []).append(body)
    return [
        Target(
            read.__name__,
            told,
            partial(_table, read),
            text=False,
        )
        for read, told in bodies.items()
    ]


def targets() -> list[Target]:
    """All of them."""
    found: list[Target] = []
    for number, (signature, rows) in enumerate(SIGNATURES.items()):
        found += _rows(number, signature, rows)
        found += _tensors(number, signature, rows)
        found += _features(number, signature)
    return [*found, *_tables()]
