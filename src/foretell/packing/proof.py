"""A proof is the comparison of a written package with the model it was made of.

The model is asked the way its owner asks it: scikit-learn's own calls on the sample as pandas
read it. The package is asked the way a door does: rows accepted by the signature, a batch, the
servable. Both must give the same values, bit for bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

from foretell.core.batch import Batch, column_values
from foretell.core.datatype import Datatype
from foretell.core.field import Array, Field
from foretell.core.servable import Servable
from foretell.core.signature import Signature
from foretell.errors import BadPackage, ForetellError, InvalidInput
from foretell.packing.sample import Frame, batch_of
from foretell.runtimes.estimators import EstimatorStage
from foretell.runtimes.stages import Stage, line_of
from foretell.runtimes.tables import TableForm

MOST_ROWS = 1000
Asked = tuple[TableForm | None, float | None]
"""How the model itself is asked: the form of its table, what stands for a missing text."""


def fitting_rows(frame: Frame, signature: Signature) -> Frame:
    """The rows of `frame` that `signature` accepts, at most 1,000. Raises BadPackage for none."""
    frame = frame.head(MOST_ROWS)
    batch = batch_of(frame, [_loose(field) for field in signature.inputs])
    fits: list[bool] = []
    first: InvalidInput | None = None
    for row in batch.rows:
        try:
            signature.accept_row(row)
        except InvalidInput as error:
            first = first or error
            fits.append(False)
        else:
            fits.append(True)
    if first is not None and not any(fits):
        raise BadPackage(f"the model answers no row of the sample: {first.message}") from first
    return frame[fits]


def _loose(field: Field) -> Field:
    if field.datatype.is_integer:
        return field
    return Field(field.name, field.datatype, shape=field.shape, nullable=True)


def original_answers(
    stages: tuple[Stage, ...], frame: Frame, signature: Signature, asked: Asked
) -> Mapping[str, Array]:
    """The answers of the model itself to the rows of `frame`. Raises BadPackage."""
    form, marker = asked
    try:
        if form is None:
            table = stages[0].tabulator(signature.inputs, {})(batch_of(frame, signature.inputs))
        else:
            table = _table(frame, signature.inputs, form, marker)
        for stage in stages[:-1]:
            table = stage.transform(table)
        last = stages[-1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(last, EstimatorStage):
                return last.predict_plainly(table)
            return {name: column_values(column) for name, column in last.predict(table).items()}
    except (ForetellError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise BadPackage(f"the model cannot predict the sample: {line_of(error)}") from error


def _table(frame: Frame, inputs: tuple[Field, ...], form: TableForm, marker: float | None) -> Frame:
    """`frame` as its owner would hand it to the model."""
    import pandas as pd

    columns = {field.name: frame[field.name] for field in inputs}
    for field in inputs:
        column = columns[field.name]
        if hasattr(column, "cat"):
            continue
        if field.name in form.categorical:
            columns[field.name] = _categories_of_its_own(column, field)
        elif marker is None and field.datatype is Datatype.BYTES:
            columns[field.name] = column.astype(object).where(column.notna(), None)
    table = pd.DataFrame(columns)
    if form.kind == "frame":
        return table
    array = np.ascontiguousarray(table.to_numpy())
    return array[:, 0] if form.kind == "texts" else array


def _categories_of_its_own(column: Frame, field: Field) -> Frame:
    """`column` with the categories it has itself, which the model has to find among its own."""
    import pandas as pd

    known = field.categories or ()
    own = sorted(set(column.dropna().tolist()))
    if all(isinstance(value, int) for value in known) and all(value == int(value) for value in own):
        own = [int(value) for value in own]  # floats only for the gaps among them
    return column.astype(pd.CategoricalDtype(own or list(known)))


def prove(
    servable: Servable, frame: Frame, expected: Mapping[str, Array], *, nameless: bool = False
) -> None:
    """Raise BadPackage unless `servable` answers the rows of `frame` exactly as `expected`.

    With `nameless` the model was robbed of its feature names and must not miss them.
    """
    signature = servable.signature
    batch = batch_of(frame, signature.inputs)
    columns = [
        field.accept_column(column)
        for field, column in zip(signature.inputs, batch.columns, strict=True)
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if nameless:
                warnings.filterwarnings("error", message=".*feature names", category=UserWarning)
            answers = servable.predict(Batch.from_columns(signature.inputs, columns))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise BadPackage(f"the packed model fails on the sample: {line_of(error)}") from error
    for field, answer in zip(signature.outputs, answers.columns, strict=True):
        differing = _differing(answer, expected[field.name])
        if differing is not None:
            raise BadPackage(
                f"the packed model answers row {differing} of the sample with {field.name} "
                f"{answer[differing]}, but the model itself says {expected[field.name][differing]}"
            )


def _differing(answer: Array, expected: Array) -> int | None:
    """The first row in which two answers differ, or None."""
    if answer.shape != expected.shape or answer.dtype != expected.dtype:
        return 0
    same = answer == expected
    if answer.dtype.kind == "f":
        same |= np.isnan(answer) & np.isnan(expected)
    rows = np.asarray(same, dtype=bool).reshape(len(answer), -1).all(axis=1)
    return None if rows.all() else int(np.argmin(rows))
