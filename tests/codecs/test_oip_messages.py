"""Tensors in protobuf: raw or typed, never both, and no more than their shape says."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from foretell.codecs import messages
from foretell.codecs.oip_messages import (
    parameter,
    read_request,
    response_of,
    tensors_of,
    write_response,
)
from foretell.codecs.tensors import Tensor
from foretell.core.datatype import Datatype
from foretell.errors import InvalidInput

REQUEST = messages.message("inference.ModelInferRequest")
NUMBERS = [one for one in Datatype if one is not Datatype.BYTES]


def request_of(datatype: str, shape: list[int], raw: bytes | None = None, **contents: Any) -> Any:
    request = REQUEST(model_name="m")
    part = request.inputs.add(name="x", datatype=datatype, shape=shape)
    for name, values in contents.items():
        getattr(part.contents, name).extend(values)
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


def read(request: Any) -> list[Tensor]:
    return tensors_of(request, request.raw_input_contents)


@given(
    st.lists(st.binary(max_size=200), max_size=4),
    st.integers(0, 3),
    st.text(max_size=300),
    st.booleans(),
)
def test_a_long_request_is_read_as_protobuf_reads_it(
    contents: list[bytes], at: int, name: str, more: bool
) -> None:
    told = REQUEST(model_name="m", id=name, raw_input_contents=contents)
    told.inputs.add(name=name, datatype="FP32", shape=[2**40])
    long = REQUEST(raw_input_contents=[bytes(2**17)]).SerializeToString()
    parts = [told.SerializeToString(), long, REQUEST(id="later").SerializeToString() * more]
    parts.insert(at, b"\x7a\x80\x01" + bytes(128))  # a field that nobody knows
    written = b"".join(parts)
    expected = REQUEST.FromString(written)
    request, raw = read_request(written)
    assert [bytes(one) for one in raw] == list(expected.raw_input_contents)
    expected.ClearField("raw_input_contents")
    assert request == expected


@pytest.mark.parametrize("cut", [1, 2**17, 2**17 + 3])
def test_a_long_request_that_is_cut_is_refused(cut: int) -> None:
    written = REQUEST(model_name="m", raw_input_contents=[bytes(2**18)]).SerializeToString()
    with pytest.raises(DecodeError):
        read_request(written[:-cut])


@pytest.mark.parametrize(
    "written",
    [
        b"\x0a\x01m" * 2**16,
        b"\x0b\x0c" * 2**16,
        b"\x10\x01" * 2**16,
        b"\x82\x01\x00" * 2**15,
    ],
    ids=["many", "groups", "numbers", "far tags"],
)
def test_protobuf_judges_what_others_write(written: bytes) -> None:
    request, raw = read_request(written)
    assert request == REQUEST.FromString(written)
    assert not raw


@given(st.data(), st.sampled_from(NUMBERS))
def test_what_was_written_raw_is_read_again(data: Any, datatype: Datatype) -> None:
    shapes = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0)
    values = data.draw(arrays.arrays(datatype.numpy, shapes))
    written = response_of([Tensor("x", datatype, values)], model="m", version="1", request_id="id")
    request = request_of(datatype, list(values.shape), written.raw_output_contents[0])
    (found,) = read(request)
    assert found.values.dtype == datatype.numpy
    np.testing.assert_array_equal(found.values, values)


@given(
    st.lists(st.integers(0, 300), max_size=3),
    st.text(max_size=3),
)
def test_a_response_is_written_as_protobuf_writes_it(sizes: list[int], name: str) -> None:
    tensors = [Tensor(name, Datatype.INT64, np.arange(size)) for size in sizes]
    told = {"model": "m", "version": "1", "request_id": name}
    written = messages.message("inference.ModelInferResponse").FromString(
        b"".join(write_response(tensors, **told))
    )
    assert written == response_of(tensors, **told)


@given(st.lists(st.text(), max_size=6))
def test_texts_are_read_again(texts: list[str]) -> None:
    boxed = np.empty(len(texts), dtype=object)
    boxed[:] = texts
    tensor = Tensor("x", Datatype.BYTES, boxed)
    written = response_of([tensor], model="m", version="1", request_id="")
    (found,) = read(request_of("BYTES", [len(texts)], written.raw_output_contents[0]))
    assert found.values.tolist() == texts
    typed = request_of("BYTES", [len(texts)], bytes_contents=[one.encode() for one in texts])
    assert read(typed)[0].values.tolist() == texts


@pytest.mark.parametrize(
    ("datatype", "contents", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [0.5, -1.0]),
        ("FP64", "fp64_contents", [0.1, float("inf")]),
    ],
)
def test_typed_contents_are_read(datatype: str, contents: str, values: Any) -> None:
    told: dict[str, Any] = {contents: values}
    (found,) = read(request_of(datatype, [2, 1], **told))
    assert found.values.tolist() == [[value] for value in values]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (request_of("FP32", [2], b"1234567"), "has 7 bytes, but FP32 of shape [2] are 8"),
        (request_of("FP32", [2**40, 2**40], b""), "has 0 bytes"),
        (request_of("FP32", [-1], b""), "the shape of 'x' is [-1]"),
        (request_of("FP32", [1] * 70, b"1234"), "the shape of 'x'"),
        (request_of("FP31", [1], b"1234"), "the datatype of 'x' is 'FP31'"),
        (request_of("FP32", [1], b"1234", fp32_contents=[1.0]), "send one of both"),
        (request_of("FP16", [1], fp32_contents=[1.0]), "raw_input_contents only"),
        (request_of("FP32", [2], fp32_contents=[1.0]), "has 1 fp32_contents"),
        (request_of("FP32", [1], fp64_contents=[1.0]), "has 0 fp32_contents"),
        (request_of("INT8", [1], int_contents=[128]), "out of range for INT8"),
        (request_of("FP32", [0, 2**62, 2**62]), "which is too large"),
        (request_of("BYTES", [0, 2**62, 2**62]), "which is too large"),
        (request_of("BYTES", [2], b"\1\0\0\0a\0\0\0"), "ends within the length"),
        (request_of("BYTES", [1], b"\5\0\0\0ab"), "ends after its bytes do"),
        (request_of("BYTES", [1], b"\5\0"), "too few for the"),
        (request_of("BYTES", [2], b"\1\0\0\0a"), "too few for the"),
        (request_of("BYTES", [1], b"\1\0\0\0\xff"), "not UTF-8"),
        (request_of("BYTES", [1], bytes_contents=[b"\xff"]), "not UTF-8"),
        (request_of("BYTES", [2**40], b"\1\0\0\0a"), "too few for the"),
    ],
)
def test_what_does_not_fit_is_refused(request_: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as told:
        read(request_)
    assert words in told.value.message
    assert told.value.field == "x"


def test_raw_contents_are_one_for_each_input() -> None:
    request = request_of("FP32", [1], b"1234")
    request.raw_input_contents.append(b"1234")
    with pytest.raises(InvalidInput, match="2 raw_input_contents for 1 inputs"):
        read(request)


def test_a_parameter_is_its_plain_value() -> None:
    request = REQUEST()
    request.parameters["a"].int64_param = 5
    request.parameters["b"].bool_param = False
    assert parameter(request.parameters["a"]) == 5
    assert parameter(request.parameters["b"]) is False
    assert parameter(request.parameters["c"]) is None
