"""The same rows in every form a body may have, and the same answers read out of every form."""

import csv
import io
import json
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

TYPES = {
    "json": "application/json",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
}
COLUMNAR = [form for form in TYPES if form != "json"]


def rows_of(table: Any) -> list[dict[str, Any]]:
    """A pandas table as JSON rows, missing values as None."""
    told = table.astype(object).where(table.notna(), None)
    return list(told.to_dict(orient="records"))


def written(form: str, table: Any) -> bytes:
    """A pandas table as a body."""
    if form == "csv":
        text: str = table.to_csv(index=False)
        return text.encode()
    if form == "json":
        return json.dumps({"instances": rows_of(table)}).encode()
    if form == "ndjson":
        return "".join(json.dumps(row) + "\n" for row in rows_of(table)).encode()
    made = pa.Table.from_pandas(table, preserve_index=False)
    return stream(made) if form == "arrow" else parquet(made)


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    out = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(out, table.schema, options=options) as writer:
        writer.write_table(table)
    return out.getvalue()


def parquet(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def read(form: str, body: bytes) -> dict[str, list[Any]]:
    """An answer's predictions and probabilities, by row; in CSV everything is text."""
    if form == "json":
        told = json.loads(body)
        return {key: told[key] for key in ("predictions", "probabilities") if key in told}
    if form == "ndjson":
        lines = [json.loads(line) for line in body.splitlines()]
        names = {"prediction": "predictions", "probability": "probabilities"}
        return {
            many: [line[one] for line in lines] for one, many in names.items() if one in lines[0]
        }
    if form == "csv":
        header, *rows = list(csv.reader(io.StringIO(body.decode(), newline="")))
        assert header[0] == "prediction"
        told = {"predictions": [row[0] for row in rows]}
        if len(header) > 1:
            told["probabilities"] = [row[1:] for row in rows]
        return told
    table = (
        pa.ipc.open_stream(body).read_all()
        if form == "arrow"
        else pq.read_table(pa.py_buffer(body))
    )
    names = {"prediction": "predictions", "probability": "probabilities"}
    return {names[name]: table[name].to_pylist() for name in table.column_names}


def as_text(told: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """What CSV makes of an answer: numbers as Python writes them."""
    return {
        key: [list(map(str, row)) if isinstance(row, list) else str(row) for row in rows]
        for key, rows in told.items()
    }


def ask(
    client: httpx.Client,
    path: str,
    form: str,
    body: bytes,
    answer: str | None = None,
    **headers: str,
) -> httpx.Response:
    """Send a body of `form`, for an answer of the form `answer`."""
    told = {"content-type": TYPES[form], **headers}
    if answer is not None:
        told["accept"] = TYPES[answer]
    return client.post(path, content=body, headers=told)
