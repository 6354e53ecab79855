"""NDJSON is a row of JSON a line: the rows of `/predict` one below the other, and its answers.

Rules:

1. A line is a row in the forms `/predict` takes. Blank lines don't count.
2. `row` in a complaint counts the lines that are rows, from 0: it is the line of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from foretell.codecs.json_rows import JsonRows
from foretell.codecs.tables.columns import check_count, too_many
from foretell.core.batch import Batch, Row
from foretell.errors import InvalidInput


def read_lines(codec: JsonRows, body: bytes, *, max_rows: int) -> Batch:
    """The rows of a whole body, accepted. Raises InvalidInput with the row, TooLarge."""
    rows: list[Row] = []
    for line in _lines(body):
        if len(rows) == max_rows:
            raise too_many(f"more than {max_rows}", max_rows)
        try:
            rows.append(codec.decode_row(line))
        except InvalidInput as error:
            raise error.at_row(len(rows)) from None
    check_count(len(rows), max_rows)
    return Batch.from_accepted(codec.signature.inputs, rows)


def _lines(body: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(body):
        stop = body.find(b"\n", start)
        if stop < 0:
            stop = len(body)
        line = body[start:stop].strip()
        start = stop + 1
        if line:
            yield line


def write_lines(codec: JsonRows, outputs: Batch, version: str, *, model: str | None) -> bytes:
    """An answer of `/predict` for each row of outputs, a line each."""
    rows = outputs.split([1] * outputs.n_rows)
    return b"".join(codec.encode_row(row, version, model=model) + b"\n" for row in rows)
