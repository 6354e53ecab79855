"""Rolling features for the table that a model is trained on: those that a stream will fill in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foretell.core.rolling.history import Event, History, number_of
from foretell.errors import InvalidInput
from foretell.packing.package import read_windows
from foretell.transports.stream.windows.past import time_of


def rolling(
    rows: Sequence[Mapping[str, Any]], windows: str | Path | Mapping[str, Any]
) -> dict[str, list[float | int | None]]:
    """The features of `rows`, by name: what a stream of these events in this order would fill in.

    For training, so that the model learns from what it will see. `rows` are events in the order
    in which they came (`frame.to_dict("records")`), n of them; each list has n entries. Without a
    field of time, events are a second apart. Nothing is forgotten by `ttl_s` or `max_keys`.
    Raises BadPackage, and InvalidInput naming field and row.
    """
    declared = read_windows(windows)
    histories: dict[Any, History] = {}
    told: dict[str, list[float | int | None]] = {one.name: [] for one in declared.features}
    for place, row in enumerate(rows):
        key = None if declared.key is None else row.get(declared.key)
        history = histories.setdefault(key, History(declared))
        try:
            at = float(place) if declared.time is None else time_of(row, declared.time)
        except InvalidInput as error:
            error.row = place
            raise
        values = tuple(number_of(row.get(field)) for field in declared.fields)
        event = Event(place, at, values)
        for name, value in history.features(event).items():
            told[name].append(value)
        history.append(event)
        history.finish()
    return told
