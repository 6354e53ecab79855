"""The inference routes of the protocols as the OpenAPI document tells of them."""

from collections.abc import Iterator
from typing import Any

from foretell.core.call import Target
from foretell.core.field import Field
from foretell.engine.fleet import Fleet, Loaded

Schema = dict[str, Any]

_TEXT, _OBJECT = {"type": "string"}, {"type": "object"}
_SIZES = {"type": "array", "items": {"type": "integer", "minimum": 0}}

SCHEMAS: dict[str, Schema] = {
    "Tensor": {
        "type": "object",
        "description": "`data` flat or nested; left out when `binary_data_size` is given",
        "properties": {
            "name": _TEXT,
            "datatype": _TEXT,
            "shape": _SIZES,
            "parameters": _OBJECT,
            "data": {"type": "array"},
        },
        "required": ["name", "datatype", "shape"],
    },
    "InferRequest": {
        "type": "object",
        "properties": {
            "id": _TEXT,
            "parameters": _OBJECT,
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"name": _TEXT, "parameters": _OBJECT},
                    "required": ["name"],
                },
            },
        },
        "required": ["inputs"],
    },
    "InferReply": {
        "type": "object",
        "properties": {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
        "required": ["model_name", "model_version", "outputs"],
    },
    "Predictions": {
        "type": "object",
        "properties": {"predictions": {"type": "array"}},
        "required": ["predictions"],
    },
    "Rows": {
        "type": "object",
        "description": "One of the four; `/invocations` alone takes the two last",
        "properties": {
            "instances": {"type": "array"},
            "inputs": {},
            "dataframe_split": _OBJECT,
            "dataframe_records": {"type": "array"},
        },
    },
}


def operations(fleet: Fleet) -> Iterator[tuple[str, Schema]]:
    """The path and the operation of each model's routes; failures are not told of."""
    for name in fleet.models:
        loaded = fleet.resolve(Target(name))
        yield (
            f"/v2/models/{name}/infer",
            _operation(loaded, "Open Inference Protocol", "Infer", _tensors(loaded)),
        )
        yield f"/v1/models/{name}:predict", _scoring(loaded, "KServe V1, Vertex AI", "instances")
        if name == fleet.default_model:
            yield "/invocations", _scoring(loaded, "MLflow, SageMaker", "dataframe_records")


def _scoring(loaded: Loaded, what: str, key: str) -> Schema:
    row = loaded.signature.example
    if row is None:
        return _operation(loaded, what, "Rows", None)
    named = dict(zip(loaded.signature.input_names, row, strict=True))
    return _operation(loaded, what, "Rows", {key: [named]})


def _operation(loaded: Loaded, what: str, kind: str, example: Schema | None) -> Schema:
    asked, told = ("Rows", "Predictions") if kind == "Rows" else ("InferRequest", "InferReply")
    content: Schema = {"schema": {"$ref": f"#/components/schemas/{asked}"}}
    if example is not None:
        content["example"] = example
    answer = {"schema": {"$ref": f"#/components/schemas/{told}"}}
    return {
        "tags": [f"model {loaded.name}"],
        "summary": f"Predict with {loaded.name} ({what})",
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {
            "200": {"description": "The prediction", "content": {"application/json": answer}}
        },
    }


def _tensors(loaded: Loaded) -> Schema | None:
    row = loaded.signature.example
    if row is None:
        return None
    pairs = zip(loaded.signature.inputs, row, strict=True)
    return {"inputs": [_tensor(field, value) for field, value in pairs]}


def _tensor(field: Field, value: Any) -> Schema:
    shape, part = [1], value
    for _ in field.shape:
        shape.append(len(part))
        part = part[0] if len(part) else ()
    return {
        "name": field.name,
        "datatype": field.datatype.value,
        "shape": shape,
        "data": [value],
    }
