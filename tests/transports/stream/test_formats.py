"""What other producers write: JSON, msgpack, texts, Arrow, each as rows of fields."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from foretell import Field, Signature
from foretell.codecs.json_rows import JsonRows
from foretell.core.datatype import Datatype
from foretell.errors import ForetellError, InvalidInput, TooLarge
from foretell.transports.stream.formats import MOST_BYTES, TEXTS, Formats
from foretell.transports.stream.message import Message

SIGNATURE = Signature(
    (Field("x", Datatype.FP64), Field("name", Datatype.BYTES), Field("on", Datatype.BOOL)),
    (Field("prediction", Datatype.INT64),),
)
ARROW = "application/vnd.apache.arrow.stream"


def rows(value: bytes, kind: str = "", chosen: str = "json") -> Any:
    headers = (("Content-Type", kind.encode()),) if kind else ()
    return Formats(SIGNATURE, chosen).rows(Message("t/0/7", value, b"k", headers, 2))


def arrow(**columns: list[Any]) -> bytes:
    table, out = pa.table(columns), io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def failure(told: Any) -> ForetellError:
    ((_, error),) = told
    assert isinstance(error, ForetellError)
    return error


@pytest.mark.parametrize("told", [{"x": 1, "name": "7", "on": True, "n": [1]}, [1.5, "a", False]])
@pytest.mark.parametrize("kind", ["application/msgpack", "application/x-msgpack; v=1", ""])
def test_msgpack_is_what_json_is(told: Any, kind: str) -> None:
    ((_, of_json),) = rows(msgspec.json.encode(told), "application/json", chosen="msgpack")
    ((_, of_msgpack),) = rows(msgspec.msgpack.encode(told), kind, chosen="msgpack")
    assert of_msgpack == of_json == (told if isinstance(told, dict) else of_json)


@pytest.mark.parametrize(
    "value", [b"", b"\xc1", b"\x91" * 5000, b"\x81\x01\x02", b"\xc0", msgspec.msgpack.encode("x")]
)
def test_what_is_no_object_in_msgpack_is_said(value: bytes) -> None:
    assert isinstance(failure(rows(value, "application/msgpack")), InvalidInput)


@pytest.mark.parametrize("value", [b"7", b"null", b'"x"', b"[1]", b"{", b"\xff"])
def test_who_says_texts_may_send_anything(value: bytes) -> None:
    """The content type is one that any producer can write: it must end no consumer."""
    assert isinstance(failure(rows(value, TEXTS)), InvalidInput)


def test_texts_are_numbers_and_booleans_where_the_model_takes_those() -> None:
    ((_, told),) = rows(b'{"x": "1.5", "name": "12", "on": "true", "other": "3"}', TEXTS)
    assert told == {"x": 1.5, "name": "12", "on": True, "other": "3"}


def test_each_row_of_an_arrow_stream_is_a_message_behind_its_position() -> None:
    told = rows(arrow(x=[1.0, 2.0], name=["a", None], n=[1, 2]), ARROW)
    assert [message.position for message, _ in told] == ["t/0/7#0", "t/0/7#1"]
    assert [fields for _, fields in told] == [
        {"x": 1.0, "name": "a", "n": 1},
        {"x": 2.0, "name": None, "n": 2},
    ]
    assert all((message.key, message.deliveries) == (b"k", 2) for message, _ in told)
    assert msgspec.json.decode(told[1][0].value) == told[1][1]


def test_an_arrow_stream_that_cannot_be_read_is_one_dead_letter_with_its_bytes() -> None:
    whole = arrow(x=[1.0])
    for value in (b"", b"{}", whole[:-20], whole[: len(whole) // 2]):
        ((message, error),) = rows(value, ARROW)
        if isinstance(error, ForetellError):
            assert message.value == value
            assert isinstance(error, InvalidInput)
        else:
            assert error == {"x": 1.0}, "the end of the stream alone is missing"
    assert isinstance(failure(rows(arrow(x=[*range(10_001)]), ARROW)), TooLarge)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), True, "1", None, 2**70]
)
def test_what_a_field_refuses_is_refused_in_each_format(value: Any) -> None:
    codec = JsonRows(SIGNATURE)
    told = {"x": value, "name": "a", "on": True, "other": 1}
    if value == 2**70:
        assert codec.accept_told(told) == (float(2**70), "a", True)
        return
    with pytest.raises(InvalidInput):
        codec.accept_told(told)


def test_a_message_that_is_too_large_is_not_decoded() -> None:
    assert isinstance(failure(rows(b"[" * (MOST_BYTES + 1), chosen="msgpack")), TooLarge)


def test_times_of_arrow_are_told_as_texts() -> None:
    ((message, _),) = rows(arrow(x=[1.0], at=[dt.datetime(2026, 1, 2)]), ARROW)
    assert b"2026-01-02" in message.value
