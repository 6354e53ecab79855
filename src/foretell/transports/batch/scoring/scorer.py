"""A scorer makes answers of pieces: the one function of all engines, local, Ray and Spark.

Rules:

1. Values are judged as online: a row whose value its input refuses, or on which the model fails,
   is a bad row; it alone, for the others are answered.
2. A row's answer does not depend on the rows beside it, so pieces may be of any size.
3. It is used by one thread at a time, as the model is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from foretell.codecs.tables.arrow_tables import Columns
from foretell.codecs.tables.columns import boxed
from foretell.core.batch import Batch, Chosen
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field
from foretell.core.signature import Signature
from foretell.engine.executors import Outcome, Predict, ProcessDied, attempt
from foretell.errors import ForetellError, InvalidInput, ModelFailed
from foretell.transports.batch.reading.pieces import BadRow, Piece, chosen
from foretell.transports.batch.scoring.answers import Answers

_AT_ONCE = 16
"""Into so many parts a batch that fails is cut, until the guilty rows are alone."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A bad row, with the values that were read of it."""

    row: BadRow
    values: pa.RecordBatch | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """The answers to a piece, carried columns first, and the rows that got none.

    It stands for `n_rows` rows of the file, from number `start` on.
    """

    start: int
    n_rows: int
    table: pa.RecordBatch
    bad: tuple[Bad, ...] = ()


class Scorer:
    """Scores pieces with one loaded version; with `first_only` one bad row is enough.

    `close` lets go of what the version holds.
    """

    def __init__(
        self,
        signature: Signature,
        predict: Predict,
        answers: Answers,
        *,
        first_only: bool = False,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.close = close
        self._fields = signature.inputs
        self._predict = predict
        self._answers = answers
        self._first_only = first_only

    def score(self, piece: Piece) -> Scored:
        """The answers to `piece`; none of them is missing, unless a bad row was enough.

        Raises ModelFailed where no row is to blame: its process died, or there was no memory.
        """
        bad = [Bad(one) for one in piece.bad]
        columns, refused = self._accepted(piece)
        bad += refused
        if bad and self._first_only:
            return self._scored(piece, [], bad)
        if refused:
            piece, columns = _without(piece, columns, refused)
        if not piece.inputs.num_rows:
            return self._scored(piece, [], bad)
        batch = Batch.from_columns(self._fields, columns)
        try:
            outputs, failed = self._asked(batch, piece)
        except (ProcessDied, MemoryError) as error:
            raise ModelFailed(_no_row_of(piece, error)) from error
        bad += failed
        if failed and (self._first_only or not outputs.n_rows):
            return self._scored(piece, [], bad)
        if failed:
            piece, _ = _without(piece, [], failed)
        return self._scored(piece, self._answers.columns(outputs), bad)

    def _asked(self, batch: Batch, piece: Piece) -> tuple[Batch, list[Bad]]:
        """What the model answers, and the rows on which it fails."""
        try:
            return self._predict(batch), []
        except (ProcessDied, MemoryError):
            raise
        # A model may raise anything, also what would end the process as if all were done; for
        # which rows it does comes next.
        except (Exception, SystemExit, KeyboardInterrupt):  # noqa: BLE001
            return self._apart(batch, piece)

    def _scored(self, piece: Piece, answers: list[pa.Array], bad: list[Bad]) -> Scored:
        """Without `answers`, no row has any."""
        names = [*piece.carried.schema.names, *self._answers.schema.names]
        bad.sort(key=lambda one: one.row.row)
        if answers:
            table = pa.RecordBatch.from_arrays([*piece.carried.columns, *answers], names)
        else:
            schema = pa.schema([*piece.carried.schema, *self._answers.schema])
            table = pa.RecordBatch.from_pylist([], schema)
        return Scored(piece.start, piece.n_rows, table, tuple(bad))

    def _accepted(self, piece: Piece) -> tuple[list[Array | Chosen], list[Bad]]:
        """The columns of values, and the rows that have one which is refused."""
        refused: dict[int, InvalidInput] = {}
        columns: list[Array | Chosen] = []
        for field, column in zip(self._fields, piece.inputs.columns, strict=True):
            try:
                columns.append(accepted(field, column))
            except InvalidInput:
                columns.append(_judged(field, column, refused))
        return columns, _placed(piece, refused)

    def _apart(self, batch: Batch, piece: Piece) -> tuple[Batch, list[Bad]]:
        """What becomes of the rows of a batch that fails: answers, and those that have none."""
        good: list[Batch] = []
        failed: dict[int, Exception] = {}
        for place, outcome in _outcomes(self._predict, batch, 0):
            if isinstance(outcome, Batch):
                good.append(outcome)
            else:
                failed[place] = outcome
                if self._first_only:
                    break
        nothing = Batch(batch.fields, 0)
        return Batch.concat(good) if good else nothing, _placed(piece, failed)


def in_blocks(predict: Predict, block_rows: int) -> Predict:
    """`predict`, asked for at most so many rows at a time.

    What a graph makes of many rows on the way fills more than the processor's caches: wide one-hot
    columns of 65,536 rows took twice as long as those of 8,192. The number is fixed, because the
    last bit of a sum may depend on it.
    """

    def predict_in_blocks(batch: Batch) -> Batch:
        if batch.n_rows <= block_rows:
            return predict(batch)
        starts = range(0, batch.n_rows, block_rows)
        return Batch.concat([predict(batch.slice(start, start + block_rows)) for start in starts])

    return predict_in_blocks


def accepted(field: Field, column: pa.Array) -> Array | Chosen:
    """The values of a column, as its field accepts them. Raises InvalidInput."""
    is_text = field.datatype is Datatype.BYTES and not field.shape
    if is_text and pa.types.is_dictionary(column.type):
        chosen = _chosen(field, column)
        if chosen is not None:
            return chosen
    return field.accept_column(Columns().values(field, pa.chunked_array([column])))


def _chosen(field: Field, column: pa.Array) -> Chosen | None:
    """A column of few texts as these, accepted; None where each row is to be looked at."""
    if len(column.dictionary) > len(column):
        return None
    choices, indices = column.dictionary.to_pylist(), column.indices
    if indices.null_count:
        indices = indices.cast(pa.int64()).fill_null(len(choices))
        choices.append(None)
    try:
        known = field.accept_column(boxed(choices))
    except InvalidInput:
        return None  # it may be one that no row has
    return Chosen(known, indices.to_numpy(zero_copy_only=False))


def _judged(field: Field, column: pa.Array, refused: dict[int, InvalidInput]) -> Array | Chosen:
    """A column with values that `field` refuses: they are told of, and others stand there."""
    own: dict[int, InvalidInput] = {}
    for place, value in enumerate(column.to_pylist()):
        try:
            field.accept(value)
        except InvalidInput as error:
            own[place] = error
    while len(own) < len(column):
        places = np.arange(len(column))
        places[list(own)] = next(place for place in range(len(column)) if place not in own)
        try:
            made = accepted(field, column.take(pa.array(places)))
        except InvalidInput as error:  # its array is of another size than those before
            if error.row is None or error.row in own:
                raise
            own[error.row] = error
        else:
            refused |= own | refused
            return made
    refused |= own | refused
    return np.zeros(len(column))


def _outcomes(predict: Predict, batch: Batch, first: int) -> Iterator[tuple[int, Outcome]]:
    """What becomes of the rows of a batch that fails, in order: answers, or a row's failure."""
    size = -(-batch.n_rows // _AT_ONCE)
    starts = range(0, batch.n_rows, size)
    parts = [batch.slice(start, start + size) for start in starts]
    for start, part, outcome in zip(starts, parts, attempt(predict, parts), strict=True):
        if isinstance(outcome, ProcessDied | MemoryError):
            raise outcome
        if isinstance(outcome, Batch) or part.n_rows == 1:
            yield first + start, outcome
        else:
            yield from _outcomes(predict, part, first + start)


def _placed(piece: Piece, failures: Mapping[int, Exception]) -> list[Bad]:
    """Failures by their place among the rows of `piece`, with their numbers and values."""
    if not failures:
        return []
    numbers = piece.numbers()
    return [
        Bad(
            BadRow(int(numbers[place]), getattr(error, "field", None), _said(error)),
            values_of(piece, place),
        )
        for place, error in sorted(failures.items())
    ]


def _no_row_of(piece: Piece, error: ProcessDied | MemoryError) -> str:
    """What is said when the model fails on `piece`, and nobody knows for which row."""
    where = f"rows {piece.start} to {piece.stop - 1}"
    if isinstance(error, MemoryError):
        return f"the model had not enough memory for {where}: give it fewer with --batch-rows"
    return f"the model failed on {where}: {error}"


def _said(error: Exception) -> str:
    if isinstance(error, ForetellError):
        return error.message
    return f"the model failed: {type(error).__name__}: {error}"


def values_of(piece: Piece, place: int) -> pa.RecordBatch:
    """The one row at `place`: what is carried of it, and its inputs."""
    carried, inputs = piece.carried, piece.inputs
    columns = {name: carried.column(name) for name in carried.schema.names}
    for name in inputs.schema.names:
        columns.setdefault(name, inputs.column(name))
    return pa.RecordBatch.from_pydict(columns).slice(place, 1)


def _without(
    piece: Piece, columns: list[Array | Chosen], bad: Sequence[Bad]
) -> tuple[Piece, list[Array | Chosen]]:
    """`piece` and the values of its rows, without those that are bad."""
    numbers = piece.numbers()
    keep = ~np.isin(numbers, [one.row.row for one in bad])
    left = replace(
        piece,
        inputs=chosen(piece.inputs, keep),
        carried=chosen(piece.carried, keep),
        bad=tuple(sorted((*piece.bad, *(one.row for one in bad)), key=lambda row: row.row)),
    )
    return left, [column[keep] for column in columns]
