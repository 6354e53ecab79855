"""Raw tensors, over HTTP and in messages: what one side writes, the other one reads."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given

from foretell.codecs import messages
from foretell.codecs.asking import tensor_bodies
from foretell.codecs.asking.messages import answered_tensors, request_of
from foretell.codecs.oip_json import OipJson
from foretell.codecs.oip_messages import response_of, tensors_of
from foretell.codecs.tensors import Tensors
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput
from tests.codecs.asking.test_json_bodies import NAMES, assert_same, batches

OUTPUTS = (Field("prediction", Datatype.FP64),)
DENSE = Batch.from_rows(
    (Field("a", Datatype.FP32), Field("b", Datatype.FP32)), [(1.5, 2.5), (3.5, 4.5)]
)


def is_whole(batch: Batch) -> bool:
    """Whether there are no missing texts or booleans in it."""
    return not any(None in column.ravel().tolist() for column in batch.columns)


@given(batches(NAMES))
def test_requests_over_http_are_read_as_they_were(inputs: Batch) -> None:
    server = OipJson(Signature(inputs.fields, OUTPUTS))
    body, length = tensor_bodies.write(inputs)
    asked = server.decode(body, length, max_rows=10)
    assert_same(Batch.from_columns(inputs.fields, asked.batch.columns), inputs)


def test_a_dense_models_rows_are_one_matrix() -> None:
    body, length = tensor_bodies.write(DENSE)
    assert body[:length].count(b'"name"') == 1
    asked = OipJson(Signature(DENSE.fields, OUTPUTS)).decode(body, length, max_rows=10)
    assert asked.batch.matrix.tolist() == [[1.5, 2.5], [3.5, 4.5]]


@given(batches(NAMES))
def test_answers_over_http_are_read_as_they_were(outputs: Batch) -> None:
    signature = Signature(DENSE.fields, outputs.fields)
    server = OipJson(signature)
    asked = server.decode(*tensor_bodies.write(DENSE), max_rows=10)
    body, length = server.encode(outputs, asked, model="m", version="1.0")
    told = tensor_bodies.read(body, length)
    assert told.version == "1.0"
    if is_whole(outputs):
        got = Batch.from_columns(outputs.fields, list(told.outputs.values()))
        assert_same(got, outputs)
    else:
        assert not tensor_bodies.suits(signature)


@given(batches(NAMES))
def test_messages_are_read_as_they_were(batch: Batch) -> None:
    if not is_whole(batch):
        with pytest.raises(InvalidInput, match="has no sign for"):
            request_of(batch, model="m", version=None)
        return
    request = request_of(batch, model="m", version=None)
    sent = messages.message("inference.ModelInferRequest").FromString(request.SerializeToString())
    tensors = tensors_of(sent, sent.raw_input_contents)
    read = Tensors(Signature(batch.fields, OUTPUTS)).accept(tensors, max_rows=10)
    assert_same(Batch.from_columns(batch.fields, read.columns), batch)
    tensors = Tensors(Signature(DENSE.fields, batch.fields)).give(batch)
    response = response_of(tensors, model="m", version="1", request_id="")
    for tensor, column in zip(answered_tensors(response), batch.columns, strict=True):
        np.testing.assert_array_equal(tensor.values, column)
        if (
            tensor.datatype is not Datatype.BOOL
        ):  # nullable ones are objects, of which none is missing
            assert tensor.values.dtype == column.dtype


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", 2),
        (b"\xff", 1),
        (b'{"model_name": "m"}', None),
        (b'{"model_name": "m", "model_version": "1", "outputs": [{"name": "a"}]}', None),
    ],
)
def test_a_body_that_is_no_reply_is_told(body: bytes, length: int | None) -> None:
    with pytest.raises(ValueError, match=r".+"):
        tensor_bodies.read(body, length)


@pytest.mark.parametrize(
    "output",
    [
        {"datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 15}},
        {"datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 8}},
        {"datatype": "FP99", "shape": [2], "parameters": {"binary_data_size": 16}},
        {"datatype": "FP64", "shape": [2]},
        {"datatype": "FP64", "shape": [2], "data": [1.0]},
    ],
)
def test_an_output_that_is_not_what_it_says_is_told(output: dict[str, Any]) -> None:
    told = {"model_name": "m", "model_version": "1", "outputs": [{"name": "a", **output}]}
    header = msgspec.json.encode(told)
    with pytest.raises(ValueError, match="a"):
        tensor_bodies.read(header + bytes(15), len(header))
