"""The asking side of `oip_messages`: rows into a ModelInferRequest, tensors out of its answer.

Each input is one tensor of raw bytes, which has no place for a missing text or boolean.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from foretell.codecs import messages
from foretell.codecs.tensors import Tensor, datatype_of, from_raw, to_raw
from foretell.core.batch import Batch
from foretell.core.field import Array
from foretell.errors import InvalidInput


def request_of(batch: Batch, *, model: str, version: str | None) -> Any:
    """The ModelInferRequest for accepted rows. Raises InvalidInput for missing texts."""
    request = messages.message("inference.ModelInferRequest")(
        model_name=model, model_version=version or ""
    )
    for field, column in zip(batch.fields, batch.columns, strict=True):
        if column.dtype == object:
            _refuse_missing(field.name, column)
        tensor = Tensor(field.name, field.datatype, column)
        request.inputs.add(name=field.name, datatype=field.datatype.value, shape=column.shape)
        request.raw_input_contents.append(to_raw(tensor))
    return request


def _refuse_missing(name: str, column: Array) -> None:
    for place in np.ndindex(column.shape):
        if column[place] is None:
            raise InvalidInput(
                f"row {place[0]}: '{name}' is missing, which a tensor has no sign for; "
                "send rows with missing texts or booleans over REST",
                field=name,
                row=place[0],
            )


def answered_tensors(response: Any) -> list[Tensor]:
    """The output tensors of a ModelInferResponse. Raises ValueError."""
    parts = zip(response.outputs, response.raw_output_contents, strict=True)
    try:
        return [
            from_raw(part.name, datatype_of(part.datatype, part.name), part.shape, raw)
            for part, raw in parts
        ]
    except InvalidInput as error:
        raise ValueError(error.message) from error
