"""Windows are what a package says about the past its model sees: features over recent events.

Rules:

1. Events have a key (a machine, an account): each sees its own past only, in the order in which
   its events come. A window ends with the event that is scored, and that one is in it.
2. A feature is a statistic of one field over the last `events` of its key, or over those of the
   last `seconds`. Values that are missing, no numbers, or beyond 1e100 are not in it.
3. A feature fills the input of its name where a message lacks that; the signature stays.
4. The past is bounded: a key is forgotten when nothing came for `ttl_s`, a key has at most
   `max_events`, and of more than `max_keys` the oldest are forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foretell.core.described import as_list, as_name, as_number, as_object, as_whole
from foretell.core.field import Field
from foretell.errors import BadPackage

STATISTICS = ("count", "mean", "min", "max", "std", "rate")
"""`std` divides by n; `rate` is the change from the first value to the last, a second."""

_MOST_EVENTS = 10_000
_LEAST, _MOST = 1, 1 << 31


@dataclass(frozen=True, slots=True)
class Feature:
    """An input of the model that is a statistic of `field` over `events`, or over `seconds`."""

    name: str
    field: str
    statistic: str
    events: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Windows:
    """The rolling features of a model.

    `key` names the field of a message whose past it is, and `time` the one that has the time of
    the event: seconds since 1970, or RFC 3339. Where they are None, it is the message's own key,
    and the time its broker gave it.
    """

    features: tuple[Feature, ...]
    key: str | None = None
    time: str | None = None
    max_events: int = 1000
    max_keys: int = 100_000
    ttl_s: float = 86_400

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields whose values are kept, each once."""
        return tuple(dict.fromkeys(feature.field for feature in self.features))

    def check(self, inputs: Sequence[Field]) -> None:
        """Raises BadPackage when a feature is no input that a number may fill."""
        known = {field.name: field for field in inputs}
        for feature in self.features:
            field = known.get(feature.name)
            if field is None:
                raise BadPackage(
                    f"the window's feature {feature.name!r} is no input of the model; "
                    f"the inputs are {', '.join(known)}"
                )
            whole = feature.statistic == "count" and field.datatype.is_numeric
            if field.shape or not (field.datatype.is_float or whole):
                raise BadPackage(
                    f"the window's feature {feature.name!r} cannot fill an input of "
                    f"{field.datatype} and shape {list(field.shape)}"
                )

    def describe(self) -> dict[str, Any]:
        """These windows as JSON-ready data."""
        features = []
        for feature in self.features:
            told: dict[str, Any] = {"name": feature.name, "field": feature.field}
            told["statistic"] = feature.statistic
            span = "seconds" if feature.events is None else "events"
            features.append(told | {span: getattr(feature, span)})
        return {
            "features": features,
            "key": self.key,
            "time": self.time,
            "max_events": self.max_events,
            "max_keys": self.max_keys,
            "ttl_s": self.ttl_s,
        }

    @classmethod
    def from_description(cls, told: object, what: str) -> Windows:
        """The windows that `told` describes. Raises BadPackage."""
        told = as_object(told, what, ("features",), [*_BOUNDS, "key", "time"])
        features = [
            _feature(one, f"a feature of {what}") for one in as_list(told["features"], what)
        ]
        if not features:
            raise BadPackage(f"{what} has no features")
        names = [feature.name for feature in features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise BadPackage(f"two features of {what} are called {twice[0]!r}")
        bounds = {
            name: _bounded(read(told[name], f"{name} of {what}"), f"{name} of {what}", most)
            for name, (read, most) in _BOUNDS.items()
            if name in told
        }
        named: dict[str, Any] = {
            name: as_name(told[name], f"the {name} of {what}")
            for name in ("key", "time")
            if told.get(name) is not None
        }
        windows = cls(tuple(features), **named, **bounds)
        longest = max((feature.events or 0 for feature in features), default=0)
        if longest > windows.max_events:
            raise BadPackage(f"{what} has max_events {windows.max_events}, but wants {longest}")
        return windows


_BOUNDS: Mapping[str, tuple[Callable[[object, str], Any], int]] = {
    "max_events": (as_whole, _MOST_EVENTS),
    "max_keys": (as_whole, _MOST),
    "ttl_s": (as_number, _MOST),
}


def _bounded(number: Any, what: str, most: int) -> Any:
    if not 0 < number <= most or (isinstance(number, int) and number < _LEAST):
        raise BadPackage(f"{what} is {number}, but must be above 0 and at most {most}")
    return number


def _feature(told: object, what: str) -> Feature:
    told = as_object(told, what, ("name", "field", "statistic"), ("events", "seconds"))
    statistic = as_name(told["statistic"], f"the statistic of {what}")
    if statistic not in STATISTICS:
        raise BadPackage(f"{what} has the statistic {statistic!r}; there are {STATISTICS}")
    events, seconds = told.get("events"), told.get("seconds")
    if (events is None) == (seconds is None):
        raise BadPackage(f"{what} needs either 'events' or 'seconds'")
    if events is not None:
        events = _bounded(as_whole(events, f"events of {what}"), f"events of {what}", _MOST_EVENTS)
    else:
        seconds = float(
            _bounded(as_number(seconds, f"seconds of {what}"), f"seconds of {what}", _MOST)
        )
    name, field = (as_name(told[part], f"the {part} of {what}") for part in ("name", "field"))
    return Feature(name, field, statistic, events, seconds)
