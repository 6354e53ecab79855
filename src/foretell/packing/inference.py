"""Inference finds a model's signature: drafted, tried on the model, with an example it answers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from foretell.core.batch import Batch
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.manifest import Step
from foretell.core.signature import Signature
from foretell.errors import BadPackage, InvalidInput
from foretell.packing.inputs import Draft, draft_inputs
from foretell.packing.outputs import onnx_labels, output_fields
from foretell.packing.sample import Frame, batch_of, frame_of
from foretell.packing.trial import Trial, settle
from foretell.runtimes.estimators import EstimatorStage
from foretell.runtimes.stages import Stage, answering, line_of
from foretell.runtimes.tables import TableForm, common_dtype

_TRIED_ROWS = 200
_ADVICE = "; show rows as the model gets them with --sample rows.csv"


@dataclass(frozen=True, slots=True)
class Inferred:
    """A signature, the forms of table to prove it with, and rows to prove it on.

    `marker` is what stands for a missing text when the model itself is asked.
    """

    signature: Signature
    forms: tuple[TableForm, ...]
    marker: float | None
    rows: Frame


def infer(
    stages: tuple[Stage, ...], steps: tuple[Step, ...], folder: Path, sample: Frame | None
) -> Iterator[Inferred]:
    """The signatures a model may have, the likeliest first. Raises BadPackage.

    They differ in what stands for a missing text, which only a proof can decide.
    """
    _check_places(stages)
    first, last = steps[0].files[0], steps[-1].files[0]
    draft = draft_inputs(stages[0], first, sample)
    labels = stages[-1].known.class_labels
    if steps[-1].runtime == "onnx":
        labels = onnx_labels(folder / last)
    for form in _markers(draft):
        options = {**steps[0].options, **(form.describe() if form else {})}
        trial = Trial(stages, options)
        declared = stages[0].known.signature
        if declared is None:
            signature = replace(_signature(trial, draft, sample, first, last), class_labels=labels)
        else:
            signature = _with_example(trial, declared, sample, first, last)
        rows = sample if sample is not None else _rows(signature)
        forms = _proposals(form, signature, stages)
        marker = draft.form.marker if draft.form else None
        yield Inferred(signature, forms, marker, rows)


def _check_places(stages: tuple[Stage, ...]) -> None:
    """Raise BadPackage unless all transform but the last, which predicts."""
    *front, last = stages
    for stage in front:
        if isinstance(stage, EstimatorStage) and not stage.transforms:
            raise stage.cannot_transform()
    for before, after in pairwise(stages):
        _check_order(before, after)
    if isinstance(last, EstimatorStage) and not last.predicts:
        raise last.cannot_predict()


def _check_order(before: Stage, after: Stage) -> None:
    """Raise BadPackage when `after` was trained on the same columns in another order."""
    wanted = after.known.names
    if wanted is None or not isinstance(before, EstimatorStage):
        return
    if not hasattr(before.estimator, "get_feature_names_out"):
        return
    given = tuple(map(str, before.estimator.get_feature_names_out()))
    if given != wanted and sorted(given) == sorted(wanted):
        raise BadPackage(
            f"{before.file} gives {', '.join(given[:8])}, but the next file was trained on "
            f"{', '.join(wanted[:8])}; train it on the columns in the order they come"
        )


def _markers(draft: Draft) -> list[TableForm | None]:
    """The draft's form, then the same with the other marker of a missing text."""
    form = draft.form
    if form is None or not any(field.datatype is Datatype.BYTES for field in draft.fields):
        return [form]
    return [form, replace(form, missing="nan" if form.missing == "none" else "none")]


def _proposals(
    form: TableForm | None, signature: Signature, stages: tuple[Stage, ...]
) -> tuple[TableForm, ...]:
    """The forms to prove, the fastest first: numbers may do without their DataFrame."""
    if form is None:
        return ()
    numbers = common_dtype(signature.inputs) is not None and not form.categorical
    booleans = any(field.datatype is Datatype.BOOL for field in signature.inputs)
    if form.kind == "frame" and numbers and not booleans:
        return (replace(form, kind="bare"), form)
    return (form,)


def _with_example(
    trial: Trial, declared: Signature, sample: Frame | None, first: str, last: str
) -> Signature:
    """The signature a class declares, its example tried and its answers compared with it."""
    row = declared.example
    if row is None:
        row = _good_row(trial, Draft(declared.inputs), sample, first, last)[0]
    else:
        row = declared.accept_row(row)
        _check_answers(trial, declared.inputs, row, f"{last} does not answer its example", "")
    answers = trial.answers(declared.inputs, [row, row]) or {}
    for field in declared.outputs:
        given = answers.get(field.name)
        if given is None or Datatype.of(given.dtype) is not field.datatype:
            raise BadPackage(
                f"{last} declares an output {field.name!r} of {field.datatype}, but answers "
                f"{', '.join(f'{name!r} of {part.dtype}' for name, part in answers.items())}"
            )
    return replace(declared, example=tuple(map(_json_ready, row)))


def _signature(
    trial: Trial, draft: Draft, sample: Frame | None, first: str, last: str
) -> Signature:
    row, fields = _good_row(trial, draft, sample, first, last)
    fields = settle(trial, fields, row, sample)
    answers = trial.answers(fields, [row, row])
    if answers is None:
        raise BadPackage(f"{last} does not answer the same row twice")
    example = tuple(_json_ready(value) for value in row)
    return Signature(fields, output_fields(answers, 2, last), example=example)


def _good_row(
    trial: Trial, draft: Draft, sample: Frame | None, first: str, last: str
) -> tuple[tuple[Any, ...], tuple[Field, ...]]:
    """A row the model answers, and the fields it is a row of."""
    fields = draft.fields
    if sample is None:
        row = tuple(_made_up(field) for field in fields)
        _check_answers(
            trial, fields, row, f"{first} cannot answer a made-up row", "; give --sample"
        )
        return row, fields
    whole = sample[draft.names].dropna().head(1)
    if len(whole):
        row = _plain(batch_of(whole, fields).rows[0], fields)
        if trial.accepts(fields, [row, row]):
            return row, fields
    nullable = tuple(
        field if field.datatype.is_integer else replace(field, nullable=True) for field in fields
    )
    for row in batch_of(sample[draft.names].head(_TRIED_ROWS), nullable).rows:
        if trial.accepts(nullable, [row, row]):
            return row, nullable
    row = batch_of(sample.head(1), nullable).rows[0]
    _check_answers(trial, nullable, row, f"{last} answers no row of the sample", "")
    return row, nullable


def _check_answers(
    trial: Trial, fields: tuple[Field, ...], row: tuple[Any, ...], what: str, advice: str
) -> None:
    """Raise BadPackage with the model's own complaint unless it answers `row`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answering(trial.stages, fields, trial.options)(Batch.from_rows(fields, [row, row]))
    except (BadPackage, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise BadPackage(f"{what}: {line_of(error)}{advice}") from error
    if not trial.accepts(fields, [row, row]):
        raise BadPackage(f"{what} with finite numbers{advice}")


def _made_up(field: Field) -> Any:
    if field.shape:
        size = tuple(1 if part < 0 else part for part in field.shape)
        return _nested(size, _made_up(replace(field, shape=())))
    if field.categories:
        return field.categories[0]
    match field.datatype:
        case Datatype.BYTES:
            return ""
        case Datatype.BOOL:
            return False
    return 0 if field.datatype.is_integer else 0.0


def _nested(sizes: tuple[int, ...], leaf: Any) -> Any:
    return leaf if not sizes else [_nested(sizes[1:], leaf)] * sizes[0]


def _plain(row: tuple[Any, ...], fields: tuple[Field, ...]) -> tuple[Any, ...]:
    try:
        return tuple(field.accept(value) for field, value in zip(fields, row, strict=True))
    except InvalidInput as error:
        raise BadPackage(f"the sample's first whole row is unusable: {error.message}") from error


def _json_ready(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if isinstance(value, float) and math.isnan(value) else value


def _rows(signature: Signature) -> Frame:
    example = signature.example
    if example is None:
        raise BadPackage("the signature has no example and there is no --sample to prove it with")
    return frame_of([example, example], signature.inputs)
