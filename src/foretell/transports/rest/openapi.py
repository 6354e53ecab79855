"""The OpenAPI document of the inference routes: real fields, types and examples of each model."""

from typing import Any

from foretell.core.call import Target
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.engine.fleet import Fleet, Loaded
from foretell.transports.rest.hot import RestLimits
from foretell.transports.rest.protocols import documented
from foretell.transports.rest.tables.forms import Form

Schema = dict[str, Any]

_FAILURES = {
    400: "The input is not what the signature allows",
    404: "No such model or version",
    406: "Nothing that Accept names is written here",
    413: "The body or the batch is over its limit",
    415: "Not a media type, or an encoding, this route reads",
    429: "The queue is full; come back after Retry-After seconds",
    500: "The model failed",
    503: "The model is not ready; come back after Retry-After seconds",
    504: "The deadline passed",
}

_FORMS_TOLD = (
    "Besides JSON, rows may be sent as a table with one column for each input, and answers be had "
    "as one, by Content-Type and Accept: an Arrow IPC stream "
    "(`application/vnd.apache.arrow.stream`), Parquet (`application/vnd.apache.parquet`), CSV with "
    "a header (`text/csv`), and NDJSON (`application/x-ndjson`), a row of `/predict` a line, which "
    "is answered line by line while it is sent. The header `X-Model-Version` names the version."
)


def with_inference_routes(document: Schema, fleet: Fleet, limits: RestLimits) -> Schema:
    """`document` (FastAPI's) with the inference routes of every loaded version added."""
    schemas = dict(document.get("components", {}).get("schemas", {}))
    paths: dict[str, Schema] = {}
    schemas["Failure"] = _failure_schema()
    for name, versions in fleet.models.items():
        routed = fleet.resolve(Target(name))
        for loaded in versions.values():
            key = f"{name}_{loaded.version}".replace("+", "_")
            schemas |= _model_schemas(key, loaded.signature, limits)
            prefixes = [f"/models/{name}/versions/{loaded.version}"]
            if loaded is routed:
                prefixes.insert(0, f"/models/{name}")
                if name == fleet.default_model:
                    prefixes.insert(0, "")
            for prefix in prefixes:
                for verb, many in (("predict", False), ("batch_predict", True)):
                    paths[f"{prefix}/{verb}"] = {
                        "post": _operation(f"{prefix}/{verb}", key, loaded, many=many)
                    }
    schemas |= documented.SCHEMAS
    for path, operation in documented.operations(fleet):
        failures = {str(status): _failure_response(status) for status in _FAILURES}
        paths[path] = {"post": {**operation, "responses": operation["responses"] | failures}}
    for path, item in document.get("paths", {}).items():
        paths[path] = _with_failure(item)
    for parameter in paths.get("/models/{name}", {}).get("get", {}).get("parameters", ()):
        parameter["schema"] = {"type": "string", "enum": list(fleet.models)}
    return {**document, "paths": paths, "components": {"schemas": schemas}}


def _with_failure(item: Schema) -> Schema:
    """An information route with its failures told in the one shape all failures have."""
    told = {}
    for method, operation in item.items():
        responses = {k: v for k, v in operation["responses"].items() if k != "422"}
        for status in (400, 404, 503):
            responses[str(status)] = _failure_response(status)
        told[method] = {**operation, "responses": responses}
    return told


def _operation(path: str, key: str, loaded: Loaded, *, many: bool) -> Schema:
    example = loaded.signature.example
    body: Schema = {"schema": {"$ref": f"#/components/schemas/{key}_{_kind(many)}Request"}}
    if example is not None:
        row = dict(zip(loaded.signature.input_names, example, strict=True))
        body["example"] = {"instances": [row]} if many else row
    ok = {"schema": {"$ref": f"#/components/schemas/{key}_{_kind(many)}Answer"}}
    return {
        "tags": [f"model {loaded.name}"],
        "summary": f"Predict {'many rows' if many else 'one row'} with {loaded.name}",
        "description": _FORMS_TOLD,
        "operationId": path.strip("/").replace("/", "_"),
        "parameters": [
            {
                "name": "verbose",
                "in": "query",
                "description": "Add model_name and class_labels to the answer.",
                "required": False,
                "schema": {"type": "boolean", "default": False},
            }
        ],
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": {
                "description": "The prediction, in the form of the request or in one of Accept",
                "content": {"application/json": ok, **_other_forms()},
            },
            **{str(status): _failure_response(status) for status in _FAILURES},
        },
    }


def _other_forms() -> dict[str, Schema]:
    """The forms of answers besides JSON, which OpenAPI can only name."""
    names = [form.value[0].decode() for form in Form if form is not Form.JSON]
    return {name: {"schema": {"type": "string", "format": "binary"}} for name in names}


def _kind(many: bool) -> str:
    return "Batch" if many else "Row"


def _model_schemas(key: str, signature: Signature, limits: RestLimits) -> dict[str, Schema]:
    inputs = [_field_schema(field) for field in signature.inputs]
    names = list(signature.input_names)
    by_name: Schema = {
        "type": "object",
        "properties": dict(zip(names, inputs, strict=True)),
        "required": names,
        "additionalProperties": False,
    }
    in_order: Schema = {
        "type": "array",
        "prefixItems": inputs,
        "items": False,
        "minItems": len(inputs),
        "maxItems": len(inputs),
    }
    row = {"$ref": f"#/components/schemas/{key}_Row"}
    array = {"$ref": f"#/components/schemas/{key}_Array"}
    accepted = [row]
    if "features" not in names:
        accepted.append(_object({"features": {"anyOf": [row, array]}}))
    rows = {
        "type": "array",
        "items": {"anyOf": [row, array]},
        "minItems": 1,
        "maxItems": limits.max_rows,
    }
    return {
        f"{key}_Row": by_name,
        f"{key}_Array": in_order,
        f"{key}_RowRequest": {"anyOf": accepted},
        f"{key}_BatchRequest": _object({"instances": rows}),
        f"{key}_RowAnswer": _answer_schema(signature, many=False),
        f"{key}_BatchAnswer": _answer_schema(signature, many=True),
    }


def _object(properties: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties | (optional or {}),
        "required": list(properties),
        "additionalProperties": False,
    }


def _field_schema(field: Field) -> Schema:
    """JSON Schema of one field's value."""
    schema: Schema
    if field.datatype is Datatype.BOOL:
        schema = {"type": "boolean"}
    elif field.datatype is Datatype.BYTES:
        schema = {"type": "string"}
    else:
        low, high = field.bounds
        kind = "integer" if field.datatype.is_integer else "number"
        schema = {"type": kind, "minimum": low, "maximum": high}
    if field.closed:
        schema = {"enum": list(field.categories or ())}
    elif field.categories is not None:
        schema["examples"] = list(field.categories[:10])
    if field.nullable:
        schema = {"anyOf": [schema, {"type": "null"}]}
    for size in reversed(field.shape):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
    return schema


def _answer_schema(signature: Signature, *, many: bool) -> Schema:
    def value(field: Field) -> Schema:
        schema = _field_schema(field)
        return {"type": "array", "items": schema} if many else schema

    outputs = {field.name: field for field in signature.outputs}
    probabilities = [f for name, f in outputs.items() if name.split("_")[0] == "probability"]
    others = {
        name: value(field)
        for name, field in outputs.items()
        if name != "prediction" and field not in probabilities
    }
    told: dict[str, Schema] = {}
    predicted = "predictions" if many else "prediction"
    if "prediction" in outputs:
        told[predicted] = value(outputs["prediction"])
        if others:
            told["outputs"] = _object(others)
    else:
        told[predicted] = next(iter(others.values())) if len(others) == 1 else _object(others)
    if len(probabilities) == 1:
        told["probabilities" if many else "probability"] = value(probabilities[0])
    elif probabilities:
        # One array of class probabilities for each target (and each row).
        schema: Schema = {"type": "array", "items": {"type": "array"}}
        told["probabilities" if many else "probability"] = (
            {"type": "array", "items": schema} if many else schema
        )
    told["model_version"] = {"type": "string"}
    return _object(told, {"model_name": {"type": "string"}, "class_labels": {"type": "array"}})


def _failure_schema() -> Schema:
    return _object(
        {
            "error": {"type": "string", "description": "One sentence that says what to do"},
            "code": {"type": "string", "description": "A stable slug"},
            "request_id": {"type": "string"},
        },
        {"field": {"type": "string"}, "row": {"type": "integer", "minimum": 0}},
    )


def _failure_response(status: int) -> Schema:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
    return {"description": _FAILURES[status], "content": content}
