"""An executor is where a model's predictions run: on the event loop, in a thread, in a process.

`run` answers at once or with a future. Each executor has `places`: how many batches may be
out at a time. Which one a model gets is measured when it is warmed (`choosing`), or set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from foretell.core.batch import Batch, Chosen
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.errors import ModelFailed

Predict = Callable[[Batch], Batch]
Outcome = Batch | Exception
"""What became of one request's rows."""


class ProcessDied(Exception):
    """The process a model ran in ended; nothing is known about the rows it had."""


class Executor(Protocol):
    """Where a model runs."""

    @property
    def places(self) -> int:
        """How many batches may be out at a time."""
        ...

    @property
    def most_rows(self) -> int | None:
        """The most rows it runs at a time; None for as many as come."""
        ...

    def run(self, batches: Sequence[Batch]) -> list[Outcome] | asyncio.Future[list[Outcome]]:
        """One outcome for each of `batches`, which are predicted together."""
        ...

    def close(self) -> None:
        """Let go of threads and processes; what is out may still come back."""
        ...


def checked(predict: Predict, fields: Sequence[Field]) -> Predict:
    """`predict`, raising ModelFailed when an answer breaks the signature's output `fields`.

    Rows, shapes and kinds of values must be those of the signature, and numbers finite.
    """
    wanted = [
        (field, _kinds(field), 1 + len(field.shape), field.datatype.is_float) for field in fields
    ]

    def predict_checked(batch: Batch) -> Batch:
        outputs = predict(batch)
        if outputs.n_rows != batch.n_rows:
            raise ModelFailed(f"{outputs.n_rows} rows came back for {batch.n_rows}")
        for (field, kinds, ndim, real), told in zip(wanted, outputs.chosen, strict=True):
            column = told.choices if isinstance(told, Chosen) else told
            if column.dtype.kind not in kinds:
                raise ModelFailed(f"output {field.name!r} is not {field.expected}")
            if column.ndim != ndim or (ndim > 1 and not field.fits(column.shape[1:])):
                raise ModelFailed(f"output {field.name!r} has rows of shape {column.shape[1:]}")
            # of the few numbers of one row, this is asked in half the time of `all`
            if real and b"\0" in np.isfinite(column).tobytes():
                if not field.nullable:
                    raise ModelFailed(f"output {field.name!r} is not finite")
                if np.isinf(column).any():
                    raise ModelFailed(f"output {field.name!r} is infinite")
        return outputs

    return predict_checked


def _kinds(field: Field) -> str:
    """The kinds of numpy's dtypes whose values a field of outputs can have."""
    if field.datatype.is_float:
        return "fiu"
    if field.datatype.is_integer:
        return "iu"
    return "bO" if field.datatype is Datatype.BOOL else "O"


def attempt(predict: Predict, batches: Sequence[Batch]) -> list[Outcome]:
    """Predict `batches` together; if that fails, in halves, until the guilty fail alone."""
    try:
        outputs = predict(Batch.concat(batches))
        return [*outputs.split([batch.n_rows for batch in batches])]
    except ProcessDied as error:
        return [error] * len(batches)
    except BaseException as error:  # noqa: BLE001 - what passes here ends the loop, or its batches
        if len(batches) == 1:
            return [_carried(error)]
        middle = len(batches) // 2
        return attempt(predict, batches[:middle]) + attempt(predict, batches[middle:])


def _carried(error: BaseException) -> Exception:
    """`error` as a future can carry it: any other would end the loop, cancel, or be refused."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    carried = ModelFailed(f"its code raised {type(error).__name__}")
    carried.__cause__ = error
    return carried
