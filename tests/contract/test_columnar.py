"""Every form of a body, in and out: the same rows get the same answers, and the same refusals."""

import contextlib
import gzip
import json
import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.transports.rest.errors import HttpRefusal
from foretell.transports.rest.tables.forms import negotiated
from tests.codecs.mutations import spoilt
from tests.contract import moody
from tests.contract.conftest import churn_table, plans_table
from tests.contract.tables import COLUMNAR, TYPES, as_text, ask, parquet, read, stream, written
from tests.contract.test_failures import check

pytestmark = pytest.mark.slow

TABLES = {"churn": churn_table(50), "plans": plans_table(), "price": churn_table(20)}


@pytest.mark.parametrize("answer", TYPES)
@pytest.mark.parametrize("form", TYPES)
@pytest.mark.parametrize("model", [*TABLES, "compiled"])
def test_the_answers_of_every_form_are_those_of_json(
    client: httpx.Client, model: str, form: str, answer: str
) -> None:
    table = TABLES["plans" if model == "compiled" else model]
    path = f"/models/{model}/batch_predict"
    known = read("json", ask(client, path, "json", written("json", table)).content)
    reply = ask(client, path, form, written(form, table), answer)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == TYPES[answer]
    if (form, answer) != ("json", "json"):
        assert reply.headers["x-model-version"] in ("1.0.0", "1.10.0")
    assert reply.headers["x-request-id"]
    got = read(answer, reply.content)
    assert got == (as_text(known) if answer == "csv" else known)


@pytest.mark.parametrize("form", COLUMNAR)
def test_an_answer_has_the_form_of_its_request_unless_another_is_asked_for(
    client: httpx.Client, form: str
) -> None:
    body = written(form, TABLES["churn"])
    for accept, kind in {
        "*/*": TYPES[form],
        "": TYPES[form],
        "application/json, text/plain, */*": TYPES["json"],
        "text/html, */*;q=0.1": TYPES[form],
        "text/*": TYPES["csv"],
        "application/vnd.apache.parquet;q=0.5, text/csv;q=0.9": TYPES["csv"],
        "TEXT/CSV; header=present": TYPES["csv"],
        f"{TYPES[form]};q=0, application/json;q=0.2": TYPES["json"],
        "application/jsonl": "application/jsonl",
    }.items():
        reply = ask(client, "/predict", form, body, accept=accept)
        assert (reply.status_code, reply.headers["content-type"]) == (200, kind), accept


def test_a_table_is_many_rows_on_predict_too(client: httpx.Client) -> None:
    for rows in (1, 3):
        table = churn_table(rows)
        for form in COLUMNAR:
            told = ask(client, "/predict", form, written(form, table), "json").json()
            assert next(iter(told)) == ("prediction" if rows == 1 else "predictions")
            told = ask(client, "/batch_predict", form, written(form, table), "json").json()
            assert len(told["predictions"]) == rows
    one = ask(client, "/predict", "json", b'{"features": [35, 24, 65.5, 1572]}', "csv")
    assert one.text.splitlines()[0] == "prediction,probability_0,probability_1"


def test_lines_answer_as_predict_does(client: httpx.Client) -> None:
    table = churn_table(5)
    lines = ask(client, "/predict", "ndjson", written("ndjson", table)).content.splitlines()
    for line, row in zip(map(json.loads, lines), table.to_dict(orient="records"), strict=True):
        known = client.post("/predict", json=row).json()
        assert list(line) == list(known)
        # a batch of several rows may differ in the last bit, as the model's own arithmetic does
        assert line.pop("probability") == pytest.approx(known.pop("probability"), abs=1e-12)
        assert line == known
    told = ask(client, "/predict?verbose=true", "ndjson", written("ndjson", table))
    assert json.loads(told.content.splitlines()[0])["model_name"] == "churn"
    other = ask(client, "/predict?verbose=true", "csv", written("csv", table), "ndjson")
    assert other.content == told.content


@pytest.mark.parametrize("form", COLUMNAR)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_may_be_compressed(client: httpx.Client, form: str, encoding: str) -> None:
    body = written(form, TABLES["churn"])
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    plain = ask(client, "/batch_predict", form, body)
    told = ask(client, "/batch_predict", form, packed, **{"content-encoding": encoding})
    # Probabilities may differ in their last bit with where in memory the rows come to lie.
    got, known = read(form, told.content), read(form, plain.content)
    assert got["predictions"] == known["predictions"]
    assert len(got["probabilities"]) == len(TABLES["churn"])
    bomb = gzip.compress(b" " * 8_000_001)
    reply = ask(client, "/predict", form, bomb, **{"content-encoding": "gzip"})
    check(reply, 413, "too_large", "larger than 8000000 bytes")
    reply = ask(client, "/predict", form, body, **{"content-encoding": "gzip"})
    check(reply, 400, "invalid_input", "not readable as gzip")


@pytest.mark.parametrize("form", ["json", "csv", "ndjson"])
def test_what_is_behind_compressed_data_is_refused_not_lost(
    client: httpx.Client, form: str
) -> None:
    body = written(form, TABLES["churn"])
    packed = gzip.compress(body) + gzip.compress(body)
    reply = ask(client, "/batch_predict", form, packed, **{"content-encoding": "gzip"})
    check(reply, 400, "invalid_input", "more behind the end of the gzip data")


LARGE = {
    "blank lines": ("/predict", "ndjson", b"\n" * 8_000_000, 200),
    "json": (
        "/batch_predict",
        "json",
        b'{"instances": [' + b"[1.0, 2, 3.0, 4.0], " * 99_999 + b"[]]}",
        400,
    ),
    "csv": ("/invocations", "csv", b"1.0,2,3.0,4.0\n" * 99_999 + b"a,2,3.0,4.0\n", 400),
}


@pytest.mark.parametrize(("path", "form", "body", "status"), LARGE.values(), ids=LARGE)
def test_large_bodies_leave_others_their_turn(
    client: httpx.Client, path: str, form: str, body: bytes, status: int
) -> None:
    packed = gzip.compress(body)  # it is there at once, and all that takes time is reading it
    others = 0
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=client.base_url) as other:
        asked = pool.submit(ask, client, path, form, packed, **{"content-encoding": "gzip"})
        while not asked.done():
            assert other.get("/health/live").status_code == 200
            others += 1
    assert asked.result().status_code == status
    assert others > 10


BAD = {
    "text for a number": ({"age": ["a", "b"]}, 0, "age", "must be a number"),
    "a missing number": ({"age": [1.0, None]}, 1, "age", "is null, but must be a number"),
    "half a month": ({"tenure": [1, 2.5]}, 1, "tenure", "must be a whole number"),
    "an unknown column": ({"agee": [1, 2]}, None, "agee", "agee"),
}


@pytest.mark.parametrize("answer", TYPES)
@pytest.mark.parametrize("form", TYPES)
@pytest.mark.parametrize(("change", "row", "field", "words"), BAD.values(), ids=BAD)
def test_bad_rows_are_refused_alike(
    client: httpx.Client,
    form: str,
    answer: str,
    change: dict[str, Any],
    row: int | None,
    field: str,
    words: str,
) -> None:
    table = churn_table(2).assign(**{k: pd.Series(v, dtype=object) for k, v in change.items()})
    if field == "tenure":
        table = table.astype({"tenure": float})
    reply = ask(client, "/batch_predict", form, written(form, table), answer)
    if form == answer == "ndjson":
        told = [json.loads(line) for line in reply.content.splitlines()]
        failed = [line for line in told if "error" in line]
        assert reply.status_code == 200
        assert failed[0]["field"] == field
        assert failed[0]["row"] == (0 if row is None else row)
        assert words in failed[0]["error"]
        return
    if row is None and form in ("json", "ndjson"):
        row = 0  # there, the column is a field of the first row
    check(reply, 400, "invalid_input", words, field=field, row=row)


@pytest.mark.parametrize("form", COLUMNAR)
def test_a_missing_column_and_no_rows_are_refused(client: httpx.Client, form: str) -> None:
    body = written(form, churn_table(2).drop(columns="tenure"))
    reply = ask(client, "/batch_predict", form, body, "json")
    check(reply, 400, "invalid_input", "missing", field="tenure")
    empty = written(form, churn_table(2).head(0))
    words = "the body is empty" if form == "ndjson" else "there are no rows"
    check(ask(client, "/batch_predict", form, empty, "json"), 400, "invalid_input", words)
    words = f"the body is empty; send {TYPES[form]}"
    check(ask(client, "/batch_predict", form, b" ", "json"), 400, "invalid_input", words)


def test_a_column_twice_is_refused(client: httpx.Client) -> None:
    whole = pa.Table.from_pandas(churn_table(2))
    twice = whole.append_column("age", whole["age"])
    text = b"age,age,tenure,monthly_charges,total_charges\n1,1,1,1,1\n"
    for form, body in (("arrow", stream(twice)), ("parquet", parquet(twice)), ("csv", text)):
        reply = ask(client, "/predict", form, body)
        check(reply, 400, "invalid_input", "two columns are called 'age'", field="age")


@pytest.mark.parametrize("form", COLUMNAR)
def test_a_model_that_fails_does_so_in_every_form(client: httpx.Client, form: str) -> None:
    body = written(form, pd.DataFrame({"x": [1.0, moody.RAISE]}))
    reply = ask(client, "/models/moody/batch_predict", form, body, "csv")
    check(reply, 500, "model_failed", "RuntimeError")
    fine = written(form, pd.DataFrame({"x": [1.0, 2.0]}))
    assert ask(client, "/models/moody/predict", form, fine, "csv").status_code == 200


def test_in_lines_only_the_guilty_fail(client: httpx.Client) -> None:
    rows = [
        '{"x": 1}',
        "{",
        "",
        '{"x": 666}',
        "  ",
        '{"y": 1}',
        "[1]",
        '{"features": [2]}',
        '{"x": 3}',
    ]
    reply = ask(client, "/models/moody/predict", "ndjson", "\n".join(rows).encode())
    told = [json.loads(line) for line in reply.content.splitlines()]
    assert [line.get("prediction") for line in told] == [2, None, None, None, None, 4, 6]
    assert [line.get("row") for line in told] == [None, 1, 2, 3, 4, None, None]
    assert [line.get("code") for line in told][1:5] == [
        "invalid_input",
        "model_failed",
        "invalid_input",
        "invalid_input",
    ]
    assert {line["request_id"] for line in told if "row" in line} == {reply.headers["x-request-id"]}
    assert "secret" not in reply.text


def test_a_line_that_is_too_long_is_told_and_the_next_one_answered(client: httpx.Client) -> None:
    long = b'{"x": ' + b" " * 2**20 + b"1}"
    body = b'{"x": 1}\n' + long + b'\n{"x": 2}\n' + long
    told = ask(client, "/models/moody/predict", "ndjson", body).content.splitlines()
    lines = [json.loads(line) for line in told]
    assert [line.get("prediction") for line in lines] == [2, None, 4, None]
    assert [(line["code"], line["row"]) for line in lines[1::2]] == [
        ("too_large", 1),
        ("too_large", 3),
    ]


@pytest.mark.parametrize("form", TYPES)
def test_too_many_rows_and_bytes_are_refused(client: httpx.Client, form: str) -> None:
    table = pd.DataFrame({"x": np.zeros(100_001)})
    reply = ask(client, "/models/moody/batch_predict", form, written(form, table), "csv")
    check(reply, 413, "too_large", "rows in one request, but the limit is 100000")
    reply = ask(client, "/models/moody/batch_predict", form, b" " * 8_000_001, "csv")
    check(reply, 413, "too_large", "larger than 8000000 bytes")


def test_what_would_grow_over_the_limit_is_refused_before_it_does(client: httpx.Client) -> None:
    usage = pa.array(np.zeros(10))
    long = pa.array(["a" * 9_000_000] * 10)
    active = pa.array([True] * 10)
    plans = pa.table({"usage": usage, "plan": long, "active": active})
    for form, body in (
        ("arrow", stream(plans, "zstd")),
        ("parquet", parquet(plans, compression="zstd", use_dictionary=False)),
    ):
        assert len(body) < 100_000
        reply = ask(client, "/models/plans/predict", form, body)
        check(reply, 413, "too_large", "unpacks to more than 8000000 bytes")
    rows = pa.table({"x": np.zeros(10_000_000)})
    body = parquet(rows, compression="zstd")
    assert len(body) < 100_000
    reply = ask(client, "/models/moody/predict", "parquet", body)
    check(reply, 413, "too_large", "10000000 rows in one request")
    told = struct.pack("<q", 77_777)
    body = stream(pa.table({"x": pa.nulls(77_777)})).replace(told, struct.pack("<q", 2**40))
    reply = ask(client, "/models/moody/predict", "arrow", body)
    check(reply, 413, "too_large", "rows in one request")


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_a_text_that_repeats_counts_each_time(client: httpx.Client, form: str) -> None:
    """As a model gets it: its framework makes a text of each row."""
    n_rows = 1000
    places = pa.array(np.zeros(n_rows, np.int32))
    for length, status in ((5000, 200), (9000, 413)):
        plan = pa.DictionaryArray.from_arrays(places, pa.array(["a" * length]))
        table = pa.table({"usage": np.zeros(n_rows), "plan": plan, "active": [True] * n_rows})
        body = stream(table) if form == "arrow" else parquet(table)
        assert len(body) < 100_000
        reply = ask(client, "/models/plans/predict", form, body)
        assert reply.status_code == status, reply.text


@pytest.mark.parametrize(
    ("headers", "status", "code", "words"),
    [
        (
            {"content-type": "application/xml"},
            415,
            "unsupported_media_type",
            "this route reads appl",
        ),
        ({"accept": "text/html"}, 406, "not_acceptable", "this route writes application/json"),
        ({"accept": "text/csv;q=0"}, 406, "not_acceptable", "this route writes application/json"),
        ({"accept": "image/*, application/pdf"}, 406, "not_acceptable", "text/csv"),
    ],
)
def test_forms_that_there_are_not(
    client: httpx.Client, headers: dict[str, str], status: int, code: str, words: str
) -> None:
    check(client.post("/predict", content=b"{}", headers=headers), status, code, words)


def test_verbose_is_refused_where_it_has_no_place(client: httpx.Client) -> None:
    body = written("csv", churn_table(2))
    reply = ask(client, "/predict?verbose=true", "csv", body)
    check(reply, 400, "invalid_input", "verbose is for answers in JSON", field="verbose")
    told = ask(client, "/predict?verbose=true", "csv", body, "json").json()
    assert told["class_labels"] == [0, 1]


@pytest.mark.parametrize("form", COLUMNAR)
def test_garbage_is_refused(client: httpx.Client, form: str) -> None:
    for body in (
        b"\0",
        b"\xff" * 100,
        b"PAR1",
        b"PAR1" + b"\0" * 50 + b"PAR1",
        b"{",
        b"ARROW1\0\0",
    ):
        reply = ask(client, "/predict", form, body, "parquet")
        assert (reply.status_code, reply.json()["code"]) == (400, "invalid_input")


def test_deadlines_and_request_ids_hold_for_tables(client: httpx.Client) -> None:
    body = written("csv", churn_table(2))
    reply = ask(client, "/predict", "csv", body, **{"x-request-id": "mine"})
    assert reply.headers["x-request-id"] == "mine"
    for form in ("csv", "ndjson"):
        reply = ask(client, "/predict", form, body, **{"x-request-timeout-ms": "soon"})
        check(reply, 400, "invalid_input", "must be a whole number of milliseconds")


@pytest.mark.parametrize("form", COLUMNAR)
def test_spoilt_bodies_get_a_refusal_of_the_one_shape(client: httpx.Client, form: str) -> None:
    """tests/codecs/test_garbage.py has thousands; these go all the way."""
    body, draw = written(form, churn_table(30)), random.Random(form)
    seen = set()
    for _ in range(150):
        reply = ask(client, "/batch_predict", form, spoilt(body, draw) or b"\0", "json")
        seen.add(reply.status_code)
        if reply.status_code != 200:
            told = reply.json()
            assert (reply.status_code, told["code"]) in ((400, "invalid_input"), (413, "too_large"))
            assert told["request_id"] == reply.headers["x-request-id"]
    assert 400 in seen
    assert ask(client, "/batch_predict", form, body).status_code == 200


@pytest.mark.parametrize("accept", [",,,", ",", " , ,\t", "", " "])
def test_an_accept_of_empty_elements_leaves_the_choice(accept: str) -> None:
    told = {b"content-type": b"text/csv", b"accept": accept.encode()}
    assert negotiated(told).content_type == b"text/csv"


@pytest.mark.parametrize("accept", [", application/json,", "text/html,,application/json"])
def test_empty_elements_of_an_accept_are_passed_over(accept: str) -> None:
    told = {b"content-type": b"text/csv", b"accept": accept.encode()}
    assert negotiated(told).content_type == b"application/json"


@given(accept=st.text("abjson/*;q=0.1, text/csv", max_size=40) | st.text(max_size=20))
def test_whatever_accept_says_there_is_a_form_or_a_refusal(accept: str) -> None:
    told = {b"content-type": b"text/csv", b"accept": accept.encode()}
    with contextlib.suppress(HttpRefusal):
        forms = negotiated(told)
        assert forms.content_type in forms.wanted.value
