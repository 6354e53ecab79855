"""A form is how a file holds its rows, and each has a reader of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from foretell.transports.batch.dataset import Form, Source
from foretell.transports.batch.reading.columnar import ArrowReader, ParquetReader
from foretell.transports.batch.reading.csv_files import CsvReader
from foretell.transports.batch.reading.ndjson_files import NdjsonReader
from foretell.transports.batch.reading.pieces import Layout, Piece, Wanted


class Reader(Protocol):
    """What every form can do; both raise InvalidInput, which names the file."""

    def look(self, source: Source) -> Layout:
        """What the file tells before its rows are read."""
        ...

    def read(
        self, source: Source, wanted: Wanted, start: int, stop: int | None, batch_rows: int
    ) -> Iterator[Piece]:
        """The rows with numbers from `start` to `stop` (None: all), in order.

        No piece has more than `batch_rows` rows, and no more is kept in memory than a few pieces.
        """
        ...


READERS: dict[Form, Reader] = {
    Form.PARQUET: ParquetReader(),
    Form.ARROW: ArrowReader(),
    Form.CSV: CsvReader(),
    Form.NDJSON: NdjsonReader(),
}
