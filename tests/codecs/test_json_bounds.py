"""A JSON body becomes no more in memory than its rows need, and legitimate ones all pass."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.codecs import json_bounds
from foretell.codecs.json_bounds import LOOKED_AT_BYTES, JsonBounds
from foretell.codecs.json_rows import JsonRows
from foretell.codecs.oip_json import OipJson
from foretell.codecs.scoring import ScoringBodies
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import ForetellError, InvalidInput, TooLarge

OUT = (Field("prediction", Datatype.FP64),)
NUMBERS = Signature(tuple(Field(name, Datatype.FP64) for name in "abcd"), OUT)
TEXTS = Signature((Field("a", Datatype.BYTES), Field("b", Datatype.BYTES)), OUT)
IMAGES = Signature((Field("image", Datatype.FP32, shape=(3, 4)),), OUT)
FREE = Signature((Field("signal", Datatype.FP64, shape=(-1,)),), OUT)
ROWS = 10_000

Decode = Callable[[Signature, bytes], Any]
DECODERS: dict[str, tuple[bytes, Decode]] = {
    "predict": (b'{"features":[%s]}', lambda s, b: JsonRows(s).decode_row(b)),
    "batch": (b'{"instances":[%s]}', lambda s, b: JsonRows(s).decode_rows(b, max_rows=ROWS)),
    "v1": (b'{"inputs":[%s]}', lambda s, b: ScoringBodies(s).decode_v1(b, max_rows=ROWS)),
    "split": (
        b'{"dataframe_split":{"data":[%s]}}',
        lambda s, b: ScoringBodies(s).decode_invocation(b, max_rows=ROWS),
    ),
    "oip": (
        b'{"inputs":[{"name":"a","datatype":"FP64","shape":[1],"data":[%s]}]}',
        lambda s, b: OipJson(s).decode(b, None, max_rows=ROWS),
    ),
    "parameters": (
        b'{"inputs":[],"parameters":{"a":[%s]}}',
        lambda s, b: OipJson(s).decode(b, None, max_rows=ROWS),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("signature", [NUMBERS, TEXTS, IMAGES, FREE], ids=repr)
@pytest.mark.parametrize("unit", [b"[]", b"{}", b"[0]", b"[[[]]]", b'{"a":[]}'])
@pytest.mark.parametrize("door", DECODERS)
def test_millions_of_arrays_are_refused_before_they_are_made(
    door: str, unit: bytes, signature: Signature
) -> None:
    body, decode = DECODERS[door]
    sent = body % b",".join([unit] * (2**22 // (len(unit) + 1)))
    tracemalloc.start()
    try:
        with pytest.raises(ForetellError):
            decode(signature, sent)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(sent)


@pytest.mark.parametrize("unit", [b'"a"', b"0.5", b"0"])
@pytest.mark.parametrize("door", DECODERS)
def test_more_values_than_the_rows_have_are_refused_before_they_are_made(
    door: str, unit: bytes
) -> None:
    body, decode = DECODERS[door]
    sent = body % b",".join([unit] * 2**20)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="more arrays, objects or values than"):
            decode(NUMBERS, sent)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(sent)


@pytest.mark.parametrize("by_name", [False, True])
def test_as_many_rows_as_are_allowed_pass_and_one_more_is_told_of_as_ever(by_name: bool) -> None:
    rows: list[Any] = [[0.5, 1.5, 2.5, 3.25]] * (ROWS + 1)
    if by_name:
        rows = [dict(zip("abcd", row, strict=True)) for row in rows]
    codec = JsonRows(NUMBERS)
    body = json.dumps({"instances": rows[1:]}).encode()
    assert codec.decode_rows(body, max_rows=ROWS).n_rows == ROWS
    with pytest.raises(TooLarge, match="10001 rows in one request"):
        codec.decode_rows(json.dumps({"instances": rows}).encode(), max_rows=ROWS)


def test_tensors_may_be_nested_as_they_may_be() -> None:
    def decoded(signature: Signature, *inputs: dict[str, Any]) -> int:
        body = json.dumps({"inputs": inputs}).encode()
        return OipJson(signature).decode(body, None, max_rows=ROWS).batch.n_rows

    shaped = {"name": "image", "datatype": "FP32", "shape": [ROWS, 3, 4]}
    assert decoded(IMAGES, {**shaped, "data": [[[0.5] * 4] * 3] * ROWS}) == ROWS
    column = {"datatype": "FP64", "shape": [ROWS, 1], "data": [[0.5]] * ROWS}
    assert decoded(NUMBERS, *({**column, "name": name} for name in "abcd")) == ROWS
    free = {"name": "signal", "datatype": "FP64", "shape": [2, 50_000], "data": [0.5] * 100_000}
    assert decoded(FREE, free) == 2


def test_texts_may_be_full_of_brackets_and_commas() -> None:
    rows = [['[{,"\\', "\\" + ",[" * 300]] * 1000
    body = json.dumps({"instances": rows}).encode()
    assert body.count(b"[") > 100_000
    assert JsonRows(TEXTS).decode_rows(body, max_rows=1000).rows[0] == tuple(rows[0])
    one = {"features": [",[" * 200_000, "x"]}
    assert JsonRows(TEXTS).decode_row(json.dumps(one).encode())[1] == "x"


@given(
    st.lists(st.one_of(st.text(), st.lists(st.text(max_size=3))), max_size=20),
    st.integers(0, 200),
)
def test_what_stands_outside_of_texts_is_counted(found: list[Any], most: int) -> None:
    body = json.dumps(found, ensure_ascii=False).encode()
    arrays = 1 + sum(isinstance(one, list) for one in found)
    bounds = JsonBounds(FREE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_bounds, "LOOKED_AT_BYTES", 0)
        patch.setattr(json_bounds, "_AROUND", most - 65)
        patch.setattr(bounds, "_arrays", 65)
        if arrays <= most:
            bounds.check(body, max_rows=1)
        else:
            with pytest.raises(TooLarge):
                bounds.check(body, max_rows=1)


@pytest.mark.parametrize("body", [b'{"a":"', b'"' * 1001, b'{"instances":["\\'])
def test_texts_without_an_end_are_left_to_the_decoder(body: bytes) -> None:
    long = body + b'\\"[' * LOOKED_AT_BYTES
    with pytest.raises(InvalidInput, match="not valid JSON"):
        JsonRows(TEXTS).decode_rows(long, max_rows=ROWS)
