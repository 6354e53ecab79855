"""Made rows and what they become in each protocol; the server's own codecs read them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.codecs import messages
from foretell.codecs.json_rows import JsonRows
from foretell.core.batch import Batch
from foretell.core.field import Datatype, Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput
from foretell.loadtest.payloads import Asked, Protocol, batches_of, payload_of
from foretell.loadtest.rows import made

ANSWERS = (Field("prediction", Datatype.INT64), Field("probability", Datatype.FP64, shape=(2,)))
NUMBERS = Signature(
    tuple(Field(name, Datatype.FP64) for name in ("age", "tenure", "monthly", "total")),
    ANSWERS,
    class_labels=(0, 1),
    example=(35.0, 24.0, 65.5, 1572.0),
)
MIXED = Signature(
    (
        Field("age", Datatype.FP64, minimum=0.25, maximum=0.5),
        Field("plan", Datatype.BYTES, categories=("basic", "pro"), closed=True),
        Field("note", Datatype.BYTES, nullable=True),
        Field("old", Datatype.BOOL),
        Field("count", Datatype.UINT8),
        Field("vector", Datatype.FP32, shape=(-1,)),
    ),
    ANSWERS,
)


def asked(signature: Signature, rows: int, count: int = 3) -> Asked:
    batches = batches_of(made(signature, rows * count), rows)
    return Asked("a model", None, signature, batches)


def test_made_rows_are_the_same_each_time_and_lie_around_the_example() -> None:
    rows = made(NUMBERS, 500)
    assert rows.rows == made(NUMBERS, 500).rows
    assert rows.rows != made(NUMBERS, 500, seed=1).rows
    middle = np.array(NUMBERS.example)
    assert (np.abs(rows.matrix - middle) <= 0.5005 * middle).all()
    assert all(float(f"{value:.4g}") == value for value in rows.matrix.ravel().tolist())


def test_made_rows_keep_to_bounds_categories_and_shapes() -> None:
    rows = made(MIXED, 200)
    columns = dict(zip(MIXED.input_names, rows.columns, strict=True))
    assert set(columns["plan"]) == {"basic", "pro"}
    assert columns["age"].min() >= 0.25
    assert columns["age"].max() <= 0.5
    assert set(columns["old"].tolist()) == {True, False}
    assert columns["vector"].shape == (200, 1)


@settings(deadline=None)
@given(
    datatype=st.sampled_from([one for one in Datatype if one.is_numeric]),
    low=st.integers(0, 50),
    width=st.integers(0, 50),
)
def test_made_numbers_are_accepted_whatever_the_bounds(
    datatype: Datatype, low: int, width: int
) -> None:
    field = Field("x", datatype, minimum=low, maximum=low + width)
    assert len(made(Signature((field,), ANSWERS), 20)) == 20


def test_a_sample_is_sent_in_order_and_begins_anew() -> None:
    batch = Batch.from_accepted(MIXED.inputs[1:2], [("a",), ("b",), ("c",), ("d",), ("e",)])
    told = [[row[0] for row in one.rows] for one in batches_of(batch, 2)]
    assert told == [["a", "b"], ["c", "d"], ["e", "a"]]
    (whole,) = batches_of(batch, 7)
    assert [row[0] for row in whole.rows] == ["a", "b", "c", "d", "e", "a", "b"]


@pytest.mark.parametrize("rows", [1, 3])
def test_json_is_what_the_server_reads(rows: int) -> None:
    told = asked(MIXED, rows)
    payload = payload_of(Protocol.REST, told)
    codec = JsonRows(MIXED)
    assert payload.what == f"/models/a%20model/{'predict' if rows == 1 else 'batch_predict'}"
    for request, batch in zip(payload.requests, told.batches, strict=True):
        if rows == 1:
            assert codec.decode_row(request.body)[:5] == batch.rows[0][:5]
        else:
            read = codec.decode_rows(request.body, max_rows=10)
            assert [row[:5] for row in read.rows] == [row[:5] for row in batch.rows]


def test_grpc_is_the_small_service_where_numbers_survive_it() -> None:
    payload = payload_of(Protocol.GRPC, asked(NUMBERS, 1))
    assert payload.what == "/prediction.PredictionService/Predict"
    assert payload.request_bytes == 18  # four numbers of 32 bits
    message = messages.message("prediction.PredictRequest").FromString(payload.requests[0].body)
    assert list(message.features) == pytest.approx(made(NUMBERS, 1).rows[0])
    many = payload_of(Protocol.GRPC, asked(NUMBERS, 5))
    assert many.what == "/prediction.PredictionService/BatchPredict"
    assert payload_of(Protocol.GRPC, asked(MIXED, 1)).what.endswith("/ModelInfer")
    assert payload_of(Protocol.GRPC_INFER, asked(NUMBERS, 1)).what.endswith("/ModelInfer")


def test_grpc_is_not_the_small_service_where_numbers_would_change() -> None:
    large = Field("x", Datatype.INT64, minimum=2**24 + 1, maximum=2**24 + 1)
    told = asked(Signature((large,), ANSWERS), 1)
    assert payload_of(Protocol.GRPC, told).what.endswith("/ModelInfer")


def test_a_version_is_asked_by_each_protocol() -> None:
    batches = batches_of(made(NUMBERS, 2), 1)
    told = Asked("m", "2.0", NUMBERS, batches)
    assert payload_of(Protocol.REST, told).what == "/models/m/versions/2.0/predict"
    assert payload_of(Protocol.BINARY, told).what == "/v2/models/m/versions/2.0/infer"
    assert payload_of(Protocol.GRPC, told).requests[0].headers["model-version"] == "2.0"
    body = payload_of(Protocol.GRPC_INFER, told).requests[0].body
    message = messages.message("inference.ModelInferRequest").FromString(body)
    assert (message.model_name, message.model_version) == ("m", "2.0")


def test_binary_is_refused_where_answers_may_be_missing() -> None:
    text = Signature(NUMBERS.inputs, (Field("prediction", Datatype.BYTES, nullable=True),))
    with pytest.raises(InvalidInput, match="leave 'binary' out"):
        payload_of(Protocol.BINARY, asked(text, 1))
