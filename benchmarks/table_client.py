"""A client that has a table in memory, and wants the answers there: all of it is what it measures.

    python -m benchmarks.table_client URL ROWS SECONDS

prints one JSON line: what each form took, from the numpy array to the predictions as one.
"""

import http.client
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.wide_model import COLUMNS

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
Matrix = np.ndarray[Any, np.dtype[np.float64]]
LEAST = 3  # times, however long one takes


def _as_json(table: Matrix) -> bytes:
    return json.dumps({"instances": table.tolist()}).encode()


def _from_json(body: bytes) -> Matrix:
    return np.array(json.loads(body)["probabilities"])


def _as_quick_json(table: Matrix) -> bytes:
    return msgspec.json.encode({"instances": table.tolist()})


def _from_quick_json(body: bytes) -> Matrix:
    return np.array(msgspec.json.decode(body)["probabilities"])


def _as_arrow(table: Matrix) -> bytes:
    out, made = io.BytesIO(), _table(table)
    with pa.ipc.new_stream(out, made.schema) as writer:
        writer.write_table(made)
    return out.getvalue()


def _table(table: Matrix) -> pa.Table:
    return pa.table(dict(zip(COLUMNS, table.T, strict=True)))


def _from_arrow(body: bytes) -> Matrix:
    return _shares(pa.ipc.open_stream(body).read_all())


def _shares(table: pa.Table) -> Matrix:
    flat: Matrix = table["probability"].combine_chunks().flatten().to_numpy()
    return flat.reshape(-1, 2)


def _as_parquet(table: Matrix) -> bytes:
    out = io.BytesIO()
    pq.write_table(_table(table), out)
    return out.getvalue()


def _from_parquet(body: bytes) -> Matrix:
    return _shares(pq.read_table(pa.py_buffer(body)))


def _as_csv(table: Matrix) -> bytes:
    out = io.StringIO()
    out.write(",".join(COLUMNS) + "\n")
    out.writelines(",".join(map(repr, row)) + "\n" for row in table.tolist())
    return out.getvalue().encode()


def _from_csv(body: bytes) -> Matrix:
    rows = body.decode().splitlines()[1:]
    return np.array([row.split(",")[1:] for row in rows], dtype=float)


def _as_lines(table: Matrix) -> bytes:
    return b"".join(b'{"features":%s}\n' % json.dumps(row).encode() for row in table.tolist())


def _from_lines(body: bytes) -> Matrix:
    return np.array([json.loads(line)["probability"] for line in body.splitlines()])


FORMS: dict[str, tuple[str, Callable[[Matrix], bytes], Callable[[bytes], Matrix]]] = {
    "JSON": (JSON, _as_json, _from_json),
    "JSON, msgspec in the client": (JSON, _as_quick_json, _from_quick_json),
    "Arrow": (ARROW, _as_arrow, _from_arrow),
    "Parquet": (PARQUET, _as_parquet, _from_parquet),
    "CSV": (CSV, _as_csv, _from_csv),
    "NDJSON": (NDJSON, _as_lines, _from_lines),
}


def main() -> None:
    """Measure each form, and print what it took."""
    url, n_rows, seconds = urlsplit(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    table = np.random.default_rng(5).normal(size=(n_rows, len(COLUMNS)))
    wanted = 1 / (1 + np.exp(-table.sum(axis=1)))
    connection = http.client.HTTPConnection(url.netloc, timeout=120)
    told = []
    for form, (kind, write, read) in FORMS.items():
        took: list[float] = []
        sent = got = b""
        began = time.perf_counter()
        while len(took) < LEAST or time.perf_counter() - began < seconds:
            before = time.perf_counter()
            sent = write(table)
            connection.request("POST", url.path, sent, {"Content-Type": kind})
            reply = connection.getresponse()
            got = reply.read()
            if reply.status != 200:
                sys.exit(f"{form}: {reply.status} {got[:200]!r}")
            shares = read(got)
            took.append(time.perf_counter() - before)
            if not np.allclose(shares[:, 1], wanted, rtol=0, atol=1e-12):
                sys.exit(f"{form}: wrong answers")
        told.append((form, len(sent), len(got), statistics.median(took)))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
