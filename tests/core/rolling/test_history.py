"""Rolling features are those of pandas; events that come again see what they saw."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd
import pytest

import foretell
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.rolling.history import AGAIN, Event, History
from foretell.core.rolling.windows import STATISTICS, Windows
from foretell.errors import BadPackage, InvalidInput
from foretell.transports.stream.windows.past import seconds_of


def feature(statistic: str, **span: float) -> dict[str, Any]:
    (name,) = span
    told = {"name": f"{statistic}_{name}", "field": "x", "statistic": statistic}
    return told | {name: int(span[name]) if name == "events" else span[name]}


DECLARED = {
    "key": "machine",
    "time": "at",
    "features": [feature(one, events=5) for one in STATISTICS]
    + [feature(one, seconds=7.5) for one in STATISTICS],
}


def test_features_are_those_that_pandas_has() -> None:
    draw = np.random.default_rng(3)
    at = np.cumsum(draw.integers(1, 5, 400)).astype(float)
    frame = pd.DataFrame(
        {"machine": draw.integers(0, 3, 400), "at": at, "x": draw.normal(size=400)}
    )
    frame.loc[::17, "x"] = np.nan
    rows = [
        row | {"x": None if row["x"] != row["x"] else row["x"]} for row in frame.to_dict("records")
    ]
    told = foretell.rolling(rows, DECLARED)
    for machine, part in frame.groupby("machine"):
        dated = part.set_index(pd.to_datetime(part["at"], unit="s"))["x"]
        for span, rolled in {
            "events": part["x"].rolling(5, min_periods=1),
            "seconds": dated.rolling("7500ms", min_periods=1),
        }.items():
            expected = {
                "count": rolled.count(),
                "mean": rolled.mean(),
                "min": rolled.min(),
                "max": rolled.max(),
                "std": rolled.std(ddof=0),
            }
            for name, column in expected.items():
                own = np.array(told[f"{name}_{span}"], float)[part.index]
                np.testing.assert_allclose(own, column.to_numpy(), atol=1e-12, err_msg=f"{machine}")


def test_a_rate_is_the_change_from_first_to_last_a_second() -> None:
    rows = [
        {"machine": 1, "at": at, "x": x} for at, x in ((10, 1.0), (12, 5.0), (14, None), (12, 7.0))
    ]
    told = foretell.rolling(rows, DECLARED)
    assert told["rate_events"] == [0.0, 2.0, 2.0, 3.0]
    assert told["rate_seconds"] == [0.0, 2.0, 2.0, 3.0]
    assert foretell.rolling([{"at": 1}], DECLARED)["mean_events"] == [None]
    assert foretell.rolling([{"at": 1}], DECLARED)["count_events"] == [0]


def test_events_that_come_again_see_what_they_saw_and_change_nothing() -> None:
    windows, draw = Windows.from_description(DECLARED, "windows"), random.Random(7)
    history, seen, batches = History(windows), {}, []
    number = 0
    for _ in range(60):
        batch = []
        for _ in range(draw.randint(1, 6)):
            number += 1
            batch.append(Event(number, number * 2.0, (draw.random(),)))
        batches.append(batch)
        for event in batch:
            seen[event.id] = history.features(event)
            assert history.append(event)
        history.finish()
        before = [*history.events]
        for event in (one for batch in batches[-AGAIN:] for one in batch):
            assert history.features(event) == seen[event.id]
            assert not history.append(event)
        assert history.events == before
    assert len(history.events) <= 5 + AGAIN * 6


def test_a_busy_key_keeps_no_more_than_its_bound() -> None:
    windows = Windows.from_description(
        {"features": [feature("mean", seconds=1e6)], "max_events": 50}, "windows"
    )
    history = History(windows)
    for number in range(1000):
        history.append(Event(number, float(number), (1.0,)))
        history.finish()
    assert len(history.events) == 50 + AGAIN - 1
    assert history.features(Event(1000, 1000.0, (2.0,)))["mean_seconds"] == pytest.approx(51 / 50)


@pytest.mark.parametrize("x", [1e308, -1e308, float("inf"), float("nan"), True, "1", [1]])
def test_what_is_no_number_that_can_be_reckoned_with_is_missing(x: object) -> None:
    told = foretell.rolling([{"at": 1, "x": x}, {"at": 2, "x": 3}], DECLARED)
    assert told["mean_events"] == [None, 3.0]
    assert told["std_events"] == [None, 0.0]


def test_times_are_seconds_or_as_rfc_3339_writes_them() -> None:
    assert seconds_of("1970-01-01T00:01:00Z") == seconds_of("1970-01-01T00:01:00") == 60.0
    assert seconds_of("1970-01-01T01:01:00+01:00") == seconds_of(60) == 60.0
    with pytest.raises(InvalidInput, match="field 'at' must be the time") as caught:
        foretell.rolling([{"at": 1}, {"at": "noon"}], DECLARED)
    assert (caught.value.field, caught.value.row) == ("at", 1)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"features": []}, "has no features"),
        ({"features": [feature("median", events=3)]}, "statistic 'median'; there are"),
        ({"features": [feature("mean", events=0)]}, "must be above 0"),
        (
            {"features": [feature("mean", events=3) | {"seconds": 3}]},
            "either 'events' or 'seconds'",
        ),
        ({"features": [feature("mean", events=3)] * 2}, "two features of windows are called"),
        (
            {"features": [feature("mean", events=30)], "max_events": 20},
            "max_events 20, but wants 30",
        ),
        ({"features": [feature("mean", events=3)], "ttl": 3}, "unknown key 'ttl'"),
        ({"features": [feature("mean", events=3)], "max_keys": 1.5}, "whole number"),
        ({"features": [feature("mean", seconds=float("nan"))]}, "finite number"),
    ],
)
def test_what_cannot_be_is_refused_in_words(told: dict[str, Any], words: str) -> None:
    with pytest.raises(BadPackage, match=words):
        Windows.from_description(told, "windows")


def test_a_feature_must_be_an_input_that_a_number_fills() -> None:
    windows = Windows.from_description({"features": [feature("count", events=3)]}, "windows")
    windows.check([Field("count_events", Datatype.INT64)])
    with pytest.raises(BadPackage, match="is no input of the model; the inputs are x"):
        windows.check([Field("x", Datatype.FP64)])
    with pytest.raises(BadPackage, match="cannot fill an input of BYTES"):
        windows.check([Field("count_events", Datatype.BYTES)])
    assert Windows.from_description(windows.describe(), "windows") == windows
