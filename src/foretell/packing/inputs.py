"""The inputs of a model, drafted from what its file knows and from a sample.

Rules:

1. Names: the model's own; else the sample's header when it has as many columns; else x0, x1, …
   Columns of the sample that the model does not know (a target, an id) are left out.
2. Datatypes: the sample's (see there what few rows of CSV say); else text where an encoder
   knows texts, FP64 otherwise.
3. A draft says nothing of bounds, missing values or closed categories: those are tried out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foretell.core.datatype import Datatype
from foretell.core.field import Field, Scalar, spoken
from foretell.errors import BadPackage
from foretell.packing.encoders import Seen, seen_by, takes_texts
from foretell.packing.sample import Frame, check_column, field_of, plain_column
from foretell.runtimes.estimators import EstimatorStage
from foretell.runtimes.python_class import PythonStage
from foretell.runtimes.stages import Stage
from foretell.runtimes.tables import TableForm


@dataclass(frozen=True, slots=True)
class Draft:
    """Inputs before they are tried: fields, and the table's form where the runtime has any."""

    fields: tuple[Field, ...]
    form: TableForm | None = None

    @property
    def names(self) -> list[str]:
        return [known.name for known in self.fields]


def draft_inputs(stage: Stage, file: str, sample: Frame | None) -> Draft:
    """The inputs that the first stage, read from `file`, seems to take. Raises BadPackage."""
    known = stage.known
    if known.signature is not None:
        return Draft(known.signature.inputs)
    if known.fields is not None:
        return _declared(known.fields, file, sample)
    if isinstance(stage, PythonStage):
        return _columns(file, sample)
    estimator = stage.estimator if isinstance(stage, EstimatorStage) else None
    if estimator is not None and takes_texts(estimator):
        return _texts(file, sample)
    names = _names(known.names, known.n_features, file, sample)
    seen = seen_by(estimator, names) if estimator is not None else {}
    categories: Mapping[str, Sequence[Scalar]] = getattr(stage, "categories", {})
    for name, values in categories.items():
        _check_known(name, values, file, sample)
    fields = [_field(name, sample, seen.get(name), categories.get(name)) for name in names]
    categorical = _categorical(names, sample, categories)
    named = estimator is not None and (known.names is not None or known.n_features is None)
    form = TableForm(
        "frame" if named or categorical else "array",
        "none" if any(column.has_none for column in seen.values()) else "nan",
        categorical,
    )
    return Draft(tuple(fields), form)


def _declared(fields: tuple[Field, ...], file: str, sample: Frame | None) -> Draft:
    """Inputs the file declares itself; a sample of as many columns may name the unnamed."""
    if sample is not None and not all(known.name in sample.columns for known in fields):
        if all(known.name == f"x{place}" for place, known in enumerate(fields)):
            names = _names(None, len(fields), file, sample)
            fields = tuple(
                replace(known, name=name) for known, name in zip(fields, names, strict=True)
            )
        else:
            _names(tuple(known.name for known in fields), None, file, sample)
    return Draft(fields)


def _columns(file: str, sample: Frame | None) -> Draft:
    if sample is None:
        raise BadPackage(
            f"{file} does not say what it takes; give its class a signature, or show rows with "
            "--sample rows.csv"
        )
    return Draft(tuple(field_of(str(name), sample[name]) for name in sample.columns))


def _texts(file: str, sample: Frame | None) -> Draft:
    name = "text"
    if sample is not None:
        if len(sample.columns) != 1:
            raise BadPackage(
                f"{file} takes one column of texts, but the sample has {len(sample.columns)} "
                "columns; give a sample with the texts only"
            )
        name = str(sample.columns[0])
    return Draft((Field(name, Datatype.BYTES),), TableForm("texts", "none"))


def _names(
    names: tuple[str, ...] | None, count: int | None, file: str, sample: Frame | None
) -> list[str]:
    for name in names or ():
        check_column(name, file)
    if sample is None:
        if names is None and count is None:
            raise BadPackage(
                f"{file} does not say what it takes; show it with --sample rows.csv, a table of "
                "rows as the model gets them"
            )
        return list(names or [f"x{place}" for place in range(count or 0)])
    header = [str(name) for name in sample.columns]
    if names is not None:
        absent = [name for name in names if name not in header]
        if absent and len(header) != len(names):
            raise BadPackage(
                f"{file} was trained on a column {absent[0]!r}, which the sample lacks; "
                f"it has {', '.join(header[:12])}"
            )
        if absent:
            raise BadPackage(
                f"{file} was trained on columns {', '.join(names[:12])}, but the sample has "
                f"{', '.join(header[:12])}"
            )
        return list(names)
    if count is not None and len(header) != count:
        hint = ""
        if len(header) == count + 1:
            hint = f"; if {header[-1]!r} is the target, leave it out"
        raise BadPackage(
            f"{file} takes {count} values in a row, but the sample has {len(header)} columns{hint}"
        )
    return header


def _field(
    name: str,
    sample: Frame | None,
    seen: Seen | None,
    categories: Sequence[Scalar] | None,
) -> Field:
    if sample is not None:
        known = field_of(name, sample[name])
    elif (seen is not None and seen.is_text) or (categories and isinstance(categories[0], str)):
        known = Field(name, Datatype.BYTES)
    else:
        known = Field(name, Datatype.FP64)
    values = categories or (seen.values if seen is not None else None)
    if values is None:
        return known
    fits: Callable[[object], bool] = (
        (lambda value: isinstance(value, str))
        if known.datatype is Datatype.BYTES
        else (lambda value: isinstance(value, int | float) and not isinstance(value, bool))
    )
    if known.datatype is Datatype.BOOL or not all(map(fits, values)):
        return known
    return replace(known, categories=tuple(values))


def _check_known(name: str, known: Sequence[Scalar], file: str, sample: Frame | None) -> None:
    """Raise BadPackage unless the model can tell the categories of column `name`."""
    if not known:
        raise BadPackage(
            f"XGBoost keeps the categories of column {name!r} in {file} cut, because they are not "
            "ASCII; train it on ASCII texts, or on numbers that an encoder in front makes of them"
        )
    if sample is None or name not in sample.columns:
        return
    given = plain_column(sample[name])
    strange = [value for value in given if not _is_missing(value) and value not in known]
    if strange:
        told = ", ".join(map(repr, known[:10])) + (", …" if len(known) > 10 else "")
        raise BadPackage(
            f"column {name!r} of the sample has {spoken(strange[0])}, which is none of the "
            f"categories that {file} was trained on: {told}"
        )


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _categorical(
    names: list[str], sample: Frame | None, categories: Mapping[str, Any]
) -> tuple[str, ...]:
    """The columns that must reach the model with a category dtype."""
    if sample is None:
        return tuple(name for name in names if name in categories)
    return tuple(name for name in names if name in categories or hasattr(sample[name], "cat"))
