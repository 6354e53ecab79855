"""A package in a Spark job of your own: `foretell.spark.predict(frame, package)`.

Whole data sets of files are scored by `foretell batch --engine spark`, which can be resumed.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from foretell.app.batching.jobs import package_of
from foretell.errors import InvalidInput
from foretell.transports.batch.dataset import Form, Source
from foretell.transports.batch.engines.elsewhere import Unpacked, files_of
from foretell.transports.batch.job import BatchOptions, OnBadRow, Probabilities
from foretell.transports.batch.mapping import Choices, plan_of
from foretell.transports.batch.parts import batch_rows_of
from foretell.transports.batch.preparing import answers_of
from foretell.transports.batch.reading.columnar import piece_of
from foretell.transports.batch.reading.pieces import Layout, Wanted
from foretell.transports.batch.reading.typed import row_of
from foretell.transports.batch.scoring.loading import bulk_of, is_graph, scorer_of
from foretell.transports.batch.scoring.scorer import Scored
from foretell.transports.batch.writing import Style

__all__ = ["predict"]


def predict(
    frame: DataFrame,
    package: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    keep: Sequence[str] | None = None,
    probabilities: Probabilities = "positive",
    on_bad_row: OnBadRow = "fail",
) -> DataFrame:
    """`frame` with the answers of `package` beside its columns, in the order of its rows.

    `package` is a package, a model file, or a repository of one model; it travels to the executors,
    which need Foretell and nothing of the model beforehand. `columns` maps inputs to columns of
    another name, `keep` are the columns that stay (None: all). A bad row ends the job, or is left
    out with `skip`. Nothing is computed before Spark needs it, but raises InvalidInput at once,
    which tells all columns that do not fit, and BadPackage.
    """
    if on_bad_row == "quarantine":
        raise InvalidInput("a DataFrame has no place for bad rows; on_bad_row is fail or skip")
    found = package_of(Path(package))
    kept = None if keep is None else tuple(keep)
    options = BatchOptions(dict(columns or {}), kept, probabilities, on_bad_row)
    now = datetime.now(UTC)
    answers = answers_of(found, options, _STYLE, now)
    source = Source("the DataFrame", 0, "", Form.ARROW, ())
    zone = frame.sparkSession.conf.get("spark.sql.session.timeZone")
    layout = Layout(to_arrow_schema(frame.schema, timezone=zone))
    choices = Choices(options.columns, options.keep, folders=False)
    plan = plan_of(found.manifest.signature, [(source, layout)], choices, answers.schema, _all_fits)
    schema = pa.schema([told.with_type(_plain(told.type)) for told in plan.schema])
    most = batch_rows_of(plan.wanted[0], layout.widths, careful=not is_graph(found))
    bulk = bulk_of(found, most) is not None
    told = (files_of(found), options, now, plan.wanted[0], bulk, most)
    shared = frame.sparkSession.sparkContext.broadcast(pickle.dumps(told))
    return frame.mapInArrow(_scorer(shared, schema), from_arrow_schema(schema))


_STYLE = Style(Form.ARROW, None, 1)


def _all_fits(_: pa.Schema) -> tuple[str, ...]:
    return ()


def _plain(told: pa.DataType) -> pa.DataType:
    """Spark knows no dictionaries."""
    return told.value_type if pa.types.is_dictionary(told) else told


def _scorer(
    shared: Any, schema: pa.Schema
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What scores a partition, in a process of an executor."""

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        files, options, now, wanted, bulk, most = pickle.loads(shared.value)  # noqa: S301 - made by `predict`
        unpacked = Unpacked(files)
        answers = answers_of(unpacked.package, options, _STYLE, now)
        scorer = scorer_of(unpacked.package, options, answers, bulk=bulk)
        for piece in _pieces(batches, wanted, most):
            scored = scorer.score(piece)
            if options.on_bad_row == "fail":
                _refuse(scored)
            yield scored.table.cast(schema)

    return score


def _pieces(batches: Iterator[pa.RecordBatch], wanted: Wanted, most: int) -> Iterator[Any]:
    start = 0
    for batch in batches:
        yield from piece_of(batch, wanted, start).cut(most)
        start += batch.num_rows


def _refuse(scored: Scored) -> None:
    for bad in scored.bad:
        values = {} if bad.values is None else row_of(bad.values)
        raise InvalidInput(
            f"row {values}: {bad.row.reason}; correct it, or leave such rows out with "
            "on_bad_row='skip'",
            field=bad.row.column,
        )
