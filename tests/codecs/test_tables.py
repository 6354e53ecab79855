"""Tables: Arrow, Parquet, CSV and NDJSON say the same rows as JSON does, or refuse them."""

import io
import json
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.codecs.json_rows import JsonRows
from foretell.codecs.tables import arrow_tables, csv_tables, ndjson
from foretell.codecs.tables.arrow_tables import TableLimits
from foretell.codecs.tables.expansion import Records, unpacked_size
from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import ForetellError, InvalidInput, MissingExtra, TooLarge

LIMITS = TableLimits(max_rows=1000, max_bytes=2**20)
MIXED = Signature(
    (
        Field("age", Datatype.FP64, nullable=True),
        Field("tenure", Datatype.INT64),
        Field("plan", Datatype.BYTES, nullable=True),
        Field("city, or so", Datatype.BYTES),
        Field("tiny", Datatype.INT8),
        Field("huge", Datatype.UINT64),
        Field("half", Datatype.FP32),
        Field("active", Datatype.BOOL),
        Field("asked", Datatype.BOOL, nullable=True),
        Field("place", Datatype.FP64, shape=(2,)),
        Field("grid", Datatype.INT64, shape=(2, 2)),
    ),
    (Field("prediction", Datatype.INT64),),
)
NAMES = MIXED.input_names
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
VALUES = {
    "age": NUMBER | st.none(),
    "tenure": st.integers(-(2**63), 2**63 - 1),
    "plan": TEXT.filter(bool) | st.none(),
    "city, or so": TEXT,
    "tiny": st.integers(-128, 127),
    "huge": st.integers(0, 2**64 - 1),
    "half": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "active": st.booleans(),
    "asked": st.booleans() | st.none(),
    "place": st.lists(NUMBER, min_size=2, max_size=2),
    "grid": st.lists(
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2), min_size=2, max_size=2
    ),
}
ROWS = st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=8)

Read = Callable[[bytes], Batch]
Write = Callable[[Batch], bytes]
FORMS: dict[str, tuple[Read, Write]] = {
    "arrow": (
        lambda body: arrow_tables.read_stream(MIXED, body, LIMITS),
        arrow_tables.write_stream,
    ),
    "parquet": (
        lambda body: arrow_tables.read_parquet(MIXED, body, LIMITS),
        arrow_tables.write_parquet,
    ),
    "csv": (
        lambda body: csv_tables.read_csv(MIXED, body, max_rows=1000),
        csv_tables.write_csv,
    ),
}


def plain(batch: Batch) -> list[Any]:
    """A batch as Python values of which equal ones are the same rows."""
    columns = [
        column.astype(known.datatype.numpy) if known.datatype is not Datatype.BOOL else column
        for known, column in zip(batch.fields, batch.columns, strict=True)
    ]
    return [
        [None if value is None or value != value else value for value in column.tolist()]  # noqa: PLR0124
        for column in columns
    ]


def as_json(rows: list[dict[str, Any]]) -> Batch:
    body = json.dumps({"instances": rows}).encode()
    return JsonRows(MIXED).decode_rows(body, max_rows=1000)


@settings(deadline=None)
@pytest.mark.parametrize("form", FORMS)
@given(rows=ROWS)
def test_what_is_written_is_read_again_as_json_has_it(form: str, rows: list[Any]) -> None:
    read, write = FORMS[form]
    batch = as_json(rows)
    assert plain(read(write(batch))) == plain(batch)
    for known, column in zip(MIXED.inputs, read(write(batch)).columns, strict=True):
        boxed = known.datatype is Datatype.BOOL and known.nullable  # if a value is missing
        assert boxed or column.dtype == known.datatype.numpy


@settings(deadline=None)
@given(rows=ROWS)
def test_lines_are_rows_as_json_has_them(rows: list[Any]) -> None:
    body = "\n \n".join(map(json.dumps, rows)).encode()
    assert plain(ndjson.read_lines(JsonRows(MIXED), body, max_rows=1000)) == plain(as_json(rows))


def stream(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    told = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(out, table.schema, options=told) as writer:
        writer.write_table(table, max_chunksize=2)
    return out.getvalue()


def parquet(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


SIMPLE = Signature(
    (
        Field("x", Datatype.FP64, nullable=True),
        Field("n", Datatype.INT64),
        Field("s", Datatype.BYTES, nullable=True),
        Field("v", Datatype.FP64, shape=(2,)),
    ),
    (Field("prediction", Datatype.INT64),),
)
X, N, S = [1.5, None, 3.0], [1, 2, 3], ["a", None, "a"]
V = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
GOOD = {"x": pa.array(X), "n": pa.array(N), "s": pa.array(S), "v": pa.array(V)}
SAME = {
    "as it is": {},
    "large text": {"s": pa.array(S, pa.large_string())},
    "views of text": {"s": pa.array(S, pa.string_view())},
    "dictionary": {"s": pa.array(S).dictionary_encode()},
    "dictionary of numbers": {"n": pa.array(N).dictionary_encode()},
    "small numbers": {"n": pa.array(N, pa.uint8()), "x": pa.array(X, pa.float16())},
    "whole floats": {"n": pa.array(N, pa.float32())},
    "integers": {"x": pa.array([1, None, 3]), "want x": [1.0, None, 3.0]},
    "NaN": {"x": pa.array([1.5, math.nan, 3.0])},
    "nothing at all": {"s": pa.nulls(3), "want s": [None] * 3},
    "fixed lists": {"v": pa.array(V, pa.list_(pa.float64(), 2))},
    "large lists": {"v": pa.array(V, pa.large_list(pa.float32()))},
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
@pytest.mark.parametrize(
    "form", ["arrow", "zstd", "lz4", "parquet", "plain parquet", "v2", "table"]
)
def test_the_types_that_are_read(form: str, change: dict[str, Any]) -> None:
    told = GOOD | {name: column for name, column in change.items() if name in GOOD}
    table = pa.table(dict(reversed(told.items())))
    if form == "table":
        batch = arrow_tables.batch_of(SIMPLE, table)
    elif "parquet" in form or form == "v2":
        table = table.cast(pa.schema(map(_as_parquet_can, table.schema)))
        options: dict[str, Any] = {
            "parquet": {},
            "plain parquet": {"use_dictionary": False, "compression": "none"},
            "v2": {"data_page_version": "2.0", "compression": "zstd", "row_group_size": 2},
        }[form]
        batch = arrow_tables.read_parquet(SIMPLE, parquet(table, **options), LIMITS)
    else:
        body = stream(table, compression=None if form == "arrow" else form)
        batch = arrow_tables.read_stream(SIMPLE, body, LIMITS)
    want = [
        change.get(f"want {name}", value) for name, value in zip("xnsv", (X, N, S, V), strict=True)
    ]
    assert plain(batch) == want


def _as_parquet_can(field: pa.Field) -> pa.Field:
    """Views are text in Parquet."""
    return field.with_type(pa.string()) if pa.types.is_string_view(field.type) else field


def test_a_dictionary_may_have_a_null_itself() -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int8()), pa.array(["a", None]))
    body = stream(pa.table(GOOD | {"s": texts}))
    assert plain(arrow_tables.read_stream(SIMPLE, body, LIMITS))[2] == S


def test_sliced_and_chunked_tables_are_read_as_what_they_show() -> None:
    whole = pa.table({**GOOD, "s": pa.array(S, pa.string_view())})
    twice = pa.concat_tables([whole, whole])
    batch = arrow_tables.batch_of(SIMPLE, twice.slice(1, 4), LIMITS)
    assert plain(batch)[1] == [2, 3, 1, 2]
    assert plain(batch)[2:] == [[None, "a", "a", None], [V[1], V[2], V[0], V[1]]]


@pytest.mark.parametrize(
    ("nullable", "kind", "words"),
    [(True, TooLarge, "unpacks to more than"), (False, InvalidInput, "is null, but must be")],
)
def test_nulls_that_take_no_bytes_are_not_made_into_any(
    nullable: bool, kind: type[ForetellError], words: str
) -> None:
    field = Field("v", Datatype.FP64, shape=(-1,), nullable=nullable)
    offsets = pa.array([0, 2**24], pa.int32())
    body = stream(pa.table({"v": pa.ListArray.from_arrays(offsets, pa.nulls(2**24))}))
    with pytest.raises(kind, match=words):
        arrow_tables.read_stream(Signature((field,), SIMPLE.outputs), body, LIMITS)


def test_bytes_that_several_buffers_show_count_for_each_of_them() -> None:
    records = Records(1, [(0, 100), (0, 100), (100, 120)], compressed=False)
    assert unpacked_size(records, memoryview(bytes(120))) == 220


REFUSED = {
    "a decimal": ({"x": pa.array([1, 2, 3], pa.decimal128(9, 2))}, "x", None, "decimal128"),
    "a timestamp": ({"n": pa.array(N, pa.timestamp("us"))}, "n", None, "timestamp"),
    "a date": ({"n": pa.array(N, pa.date32())}, "n", None, "date32"),
    "bytes": ({"s": pa.array([b"a", b"b", b"c"])}, "s", None, "binary"),
    "a struct": ({"x": pa.array([{"a": 1}] * 3)}, "x", None, "struct"),
    "lists for numbers": ({"x": pa.array(V)}, "x", None, "list<"),
    "numbers for lists": ({"v": pa.array(X)}, "v", None, "double, but must be an array of 2"),
    "lists of lists": ({"v": pa.array([[[1.0]]] * 3)}, "v", None, "list<"),
    "text for numbers": ({"x": pa.array(["1", "2", "3"])}, "x", 0, 'is "1", but must be a number'),
    "booleans for numbers": ({"n": pa.array([True] * 3)}, "n", 0, "true, but must be a whole"),
    "numbers for text": ({"s": pa.array(N)}, "s", 0, "is 1, but must be a string"),
    "no whole numbers": ({"n": pa.array([1.0, 2.5, 3.0])}, "n", 1, "is 2.5, but must be a whole"),
    "a missing integer": ({"n": pa.array([1, 2, None])}, "n", 2, "is null, but must be a whole"),
    "infinity": ({"x": pa.array([1.0, math.inf, 2.0])}, "x", 1, "must be between"),
    "a missing list": ({"v": pa.array([V[0], None, V[2]])}, "v", 1, "is null"),
    "a missing element": ({"v": pa.array([V[0], [1.0, None], V[2]])}, "v", 1, "is null"),
    "a short list": ({"v": pa.array([V[0], V[1], [1.0]])}, "v", 2, "an array of 1, but must be"),
    "short lists": ({"v": pa.array([[1.0]] * 3, pa.list_(pa.float64(), 1))}, "v", 0, "of 1"),
    "a column too many": ({"extra": pa.array(N)}, "extra", None, "no input 'extra'"),
}


@pytest.mark.parametrize(("change", "field", "row", "words"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_what_is_refused_with_field_and_row(
    form: str, change: dict[str, Any], field: str, row: int | None, words: str
) -> None:
    table = pa.table(GOOD | change)
    write, read = {
        "arrow": (stream, arrow_tables.read_stream),
        "parquet": (parquet, arrow_tables.read_parquet),
    }[form]
    body = write(table)
    with pytest.raises(InvalidInput) as refused:
        read(SIMPLE, body, LIMITS)
    assert words in refused.value.message
    assert (refused.value.field, refused.value.row) == (field, row)


def test_names_come_once_each_and_all_of_them() -> None:
    twice = pa.Table.from_arrays([*GOOD.values(), GOOD["x"]], [*GOOD, "x"])
    for body, read in (
        (stream(twice), arrow_tables.read_stream),
        (parquet(twice), arrow_tables.read_parquet),
        (stream(pa.table(GOOD).drop("n")), arrow_tables.read_stream),
        (parquet(pa.table(GOOD).drop("n")), arrow_tables.read_parquet),
    ):
        with pytest.raises(InvalidInput, match=r"two columns are called 'x'|column 'n' is missing"):
            read(SIMPLE, body, LIMITS)


@pytest.mark.parametrize("rows", [0, 1001])
def test_no_rows_and_too_many_rows_are_refused(rows: int) -> None:
    kind = InvalidInput if rows == 0 else TooLarge
    signature = Signature((Field("x", Datatype.FP64),), SIMPLE.outputs)
    table = pa.table({"x": np.zeros(rows)})
    lines = b'{"x": 0}\n' * rows
    attempts: list[Callable[[], object]] = [
        lambda: arrow_tables.read_stream(signature, stream(table), LIMITS),
        lambda: arrow_tables.read_parquet(signature, parquet(table), LIMITS),
        lambda: csv_tables.read_csv(signature, b"x\n" + b"0\n" * rows, max_rows=1000),
        lambda: ndjson.read_lines(JsonRows(signature), lines, max_rows=1000),
    ]
    for attempt in attempts:
        with pytest.raises(kind, match="no rows" if rows == 0 else "the limit is 1000"):
            attempt()


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    body = stream(pa.table(GOOD))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"foretell\[columnar\]"):
        arrow_tables.read_stream(SIMPLE, body, LIMITS)


def test_an_arrow_file_is_told_from_a_stream() -> None:
    out = io.BytesIO()
    with pa.ipc.new_file(out, pa.table(GOOD).schema) as writer:
        writer.write_table(pa.table(GOOD))
    with pytest.raises(InvalidInput, match="is an Arrow file; send an Arrow stream"):
        arrow_tables.read_stream(SIMPLE, out.getvalue(), LIMITS)


CSV = Signature(
    (
        Field("x", Datatype.FP64, nullable=True),
        Field("n", Datatype.INT64),
        Field("s", Datatype.BYTES, nullable=True),
        Field("t", Datatype.BYTES),
        Field("b", Datatype.BOOL),
    ),
    SIMPLE.outputs,
)


@pytest.mark.parametrize(
    "body",
    [
        "x,n,s,t,b\n1.5,24,a,,true\n,-3,,b,False\n",
        "\ufeffx,n,s,t,b\r\n1.5,24.0,a,,TRUE\r\n\r\n,-3,,b,false",
        "b, n ,t, x,s\ntrue, 24 ,, 1.5,a\nfalse,-3,b, ,\n",
        'x,n,"s",t,b\n"1.5","24","a","","true"\n"",-3e0,"",b,false\n',
    ],
)
def test_csv_is_typed_by_the_signature(body: str) -> None:
    batch = csv_tables.read_csv(CSV, body.encode(), max_rows=10)
    assert plain(batch) == [[1.5, None], [24, -3], ["a", None], ["", "b"], [True, False]]


@pytest.mark.parametrize(
    ("body", "words", "field", "row"),
    [
        (b"x,n,s,t,b", "no rows", None, None),
        (b"\n\n", "the body is empty", None, None),
        (b"x,n,s,t\n1,1,a,b\n", "column 'b' is missing", "b", None),
        (b"x,n,s,t,b,c\n", "no input 'c'", "c", None),
        (b"x,n,s,t,b,x\n1,1,a,b,true,1\n", "two columns are called 'x'", "x", None),
        (b"x,n,s,t,b\n1,1,a,b,true\n1,2\n", "has 2 values, but the header has 5", None, 1),
        (b"x,n,s,t,b\n" + b"1,2\n" * 11, "has 2 values, but the header has 5", None, 0),
        (b"x,n,s,t,b\n1,1,a,b,true\n1,,a,b,true\n", "is null, but must be a whole", "n", 1),
        (b"x,n,s,t,b\n1,1.5,a,b,true\n", "is 1.5, but must be a whole number", "n", 0),
        (b"x,n,s,t,b\n1,1_0,a,b,true\n", 'is "1_0", but must be a whole number', "n", 0),
        (b"x,n,s,t,b\n1,9223372036854775808,a,b,true\n", "must be between", "n", 0),
        (b"x,n,s,t,b\nnone,1,a,b,true\n", 'is "none", but must be a number', "x", 0),
        (b"x,n,s,t,b\ninf,1,a,b,true\n", 'is "inf", but must be a number', "x", 0),
        (b"x,n,s,t,b\n1e999,1,a,b,true\n", "must be between", "x", 0),
        (b"x,n,s,t,b\n" + b"1" * 5000 + b",1,a,b,true\n", "but must be a number", "x", 0),
        (b"x,n,s,t,b\n1,1,a,b,1\n", 'is "1", but must be true or false', "b", 0),
        (b"x,n,s,t,b\n1,1,a,b,\n", "is null, but must be true or false", "b", 0),
        (b'x,n,s,t,b\n1,1,"a"b,b,true\n', "line 2 is not readable as CSV", None, None),
        (b'x,n,s,t,b\n1,1,"a', "not readable as CSV", None, None),
        (b"x,n,s,t,b\n1,1,\xff,b,true\n", "not UTF-8", None, None),
        (b"x,n,s,t,b\n1,1," + b"a" * 200_000 + b",b,true\n", "not readable as CSV", None, None),
    ],
)
def test_bad_csv(body: bytes, words: str, field: str | None, row: int | None) -> None:
    with pytest.raises(InvalidInput) as refused:
        csv_tables.read_csv(CSV, body, max_rows=10)
    assert words in refused.value.message
    assert (refused.value.field, refused.value.row) == (field, row)


def test_csv_takes_no_field_of_any_size_and_says_so() -> None:
    signature = Signature((Field("v", Datatype.FP64, shape=(-1,)),), SIMPLE.outputs)
    with pytest.raises(InvalidInput, match="which no CSV can hold; send JSON"):
        csv_tables.read_csv(signature, b"v_0\n1\n", max_rows=10)


def test_probabilities_are_called_by_their_labels_in_csv() -> None:
    fields = (Field("prediction", Datatype.BYTES), Field("probability", Datatype.FP64, shape=(2,)))
    batch = Batch.from_rows(fields, [("no", [0.25, 0.75]), ("yes, sir", [1e-9, 1.0])])
    labels = {"probability": ("no", "yes, sir")}
    assert csv_tables.write_csv(batch, labels).decode() == (
        'prediction,probability_no,"probability_yes, sir"\r\n'
        'no,0.25,0.75\r\n"yes, sir",1e-09,1.0\r\n'
    )
    told = {"probability": (1, "1")}  # two columns would have one name
    assert csv_tables.write_csv(batch, told).startswith(b"prediction,probability_0,probability_1")


@settings(deadline=None, max_examples=300)
@given(
    cells=st.lists(
        st.text("0123456789+-.eE _naif", max_size=8)
        | st.from_regex(r"-?[0-9]{1,25}", fullmatch=True),
        min_size=1,
        max_size=4,
    ),
    kind=st.sampled_from([Datatype.INT64, Datatype.FP64]),
)
def test_numbers_in_csv_are_python_numbers_of_plain_digits_or_refused(
    cells: list[str], kind: Datatype
) -> None:
    """The quick way and the one cell by cell are one rule: that of int() and float()."""
    field = Field("x", kind, nullable=kind.is_float)
    signature = Signature((field, Field("y", Datatype.INT64)), SIMPLE.outputs)
    body = "x,y\n" + "".join(f"{cell},0\n" for cell in cells)
    rows: list[Any] = []
    for cell in cells:
        told: Any = cell.strip()
        for number in (int, float):
            if not set(told) & set("_naif "):
                try:
                    told = number(told)
                    break
                except ValueError:
                    continue
        rows.append((None if str(told).lower() in ("", "nan", "null") else told, 0))
    try:
        want = [[f.accept(v) for f, v in zip(signature.inputs, row, strict=True)] for row in rows]
    except InvalidInput:
        with pytest.raises(InvalidInput):
            csv_tables.read_csv(signature, body.encode(), max_rows=10)
    else:
        got = csv_tables.read_csv(signature, body.encode(), max_rows=10)
        assert plain(got)[0] == [None if v is None or v != v else v for v, _ in want]  # noqa: PLR0124


def test_columns_of_text_are_judged_as_single_values_are() -> None:
    closed = Field("s", Datatype.BYTES, categories=("a", "b"), closed=True, nullable=True)
    column = np.array(["a", None, "b"], dtype=object)
    assert closed.accept_column(column).tolist() == ["a", None, "b"]
    for wrong, row in ((["a", "c"], 1), (["a", 1], 1), ([True], 0)):
        with pytest.raises(InvalidInput) as refused:
            closed.accept_column(np.array(wrong, dtype=object))
        assert refused.value.row == row
    kept = Field("s", Datatype.BYTES)
    with pytest.raises(ForetellError, match="row 1: 's' is null"):
        kept.accept_column(column)
    flags = Field("b", Datatype.BOOL).accept_column(np.array([True, False], dtype=object))
    assert flags.dtype == np.bool_


@pytest.mark.parametrize("narrow", [np.float16, np.float32])
def test_an_infinite_number_of_a_narrower_dtype_is_infinite_all_the_same(narrow: Any) -> None:
    for kind in (Datatype.FP64, Datatype.INT64):
        with pytest.raises(InvalidInput, match="row 1: 'x' is inf, but must be"):
            Field("x", kind).accept_column(np.array([1, np.inf], narrow))
