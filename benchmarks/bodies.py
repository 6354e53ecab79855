"""A body is a request as one protocol has it, and how the answer to it is read as plain values."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from foretell.codecs import messages

MODEL = "churn"
INFER_PATH = f"/v2/models/{MODEL}/infer"
_KINDS: dict[str, np.dtype[Any]] = {
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
Matrix = npt.NDArray[np.float32]


def predict_message(row: Sequence[float]) -> bytes:
    """A PredictRequest for one row."""
    message: bytes = messages.message("prediction.PredictRequest")(features=row).SerializeToString()
    return message


def predicted(message: bytes) -> dict[str, Any]:
    """What a PredictResponse says, in the words of `POST /predict`."""
    told = _parsed("prediction.PredictResponse", message)
    return {
        "prediction": told.prediction,
        "probability": list(told.probabilities),
        "model_version": told.model_version,
    }


def tensor_body(matrix: Matrix) -> tuple[bytes, Mapping[str, str]]:
    """The Open Inference Protocol's binary body of one tensor, and its headers."""
    raw = matrix.tobytes()
    told = {
        "name": "customers",
        "datatype": "FP32",
        "shape": matrix.shape,
        "parameters": {"binary_data_size": len(raw)},
    }
    parameters = {"binary_data_output": True}
    header = json.dumps({"inputs": [told], "parameters": parameters}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
    }
    return header + raw, headers


def inferred(body: bytes) -> dict[str, Any]:
    """The values of a binary answer, by name."""
    told, at = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    values: dict[str, Any] = {}
    for output in told["outputs"]:
        end = at + output["parameters"]["binary_data_size"]
        values[output["name"]] = _values(output["datatype"], output["shape"], body[at:end])
        at = end
    return values


def infer_message(matrix: Matrix) -> bytes:
    """A ModelInferRequest of one tensor."""
    request = messages.message("inference.ModelInferRequest")(model_name=MODEL)
    request.inputs.add(name="customers", datatype="FP32", shape=matrix.shape)
    request.raw_input_contents.append(matrix.tobytes())
    message: bytes = request.SerializeToString()
    return message


def inferred_by_message(message: bytes) -> dict[str, Any]:
    """The values of a ModelInferResponse, by name."""
    told = _parsed("inference.ModelInferResponse", message)
    return {
        output.name: _values(output.datatype, output.shape, raw)
        for output, raw in zip(told.outputs, told.raw_output_contents, strict=True)
    }


def _parsed(name: str, message: bytes) -> Any:
    return messages.message(name).FromString(message)


def _values(datatype: str, shape: Sequence[int], raw: bytes) -> Any:
    return np.frombuffer(raw, _KINDS[datatype]).reshape(tuple(shape)).tolist()
