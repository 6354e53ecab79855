"""A condition says which results are published: comparisons of outputs, joined by `and`."""

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from foretell.core.batch import Row
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.signature import Signature
from foretell.errors import BadSettings

_COMPARISON = re.compile(r"\s*([^\s=!<>]+)\s*(==|!=|<=|>=|<|>)\s*(.+?)\s*", re.DOTALL)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class _Comparison(NamedTuple):
    place: int
    compare: Callable[[Any, Any], bool]
    value: Any


class Condition:
    """Holds for a row of outputs when all its comparisons do; a missing output holds in none."""

    def __init__(self, text: str, signature: Signature) -> None:
        """Raises BadSettings when `text` is no condition over `signature`'s outputs."""
        self._comparisons = [
            _comparison(part, signature) for part in re.split(r"\sand\s", text.strip())
        ]

    def holds(self, row: Row) -> bool:
        """Whether the result with these outputs is wanted."""
        return all(
            row[place] is not None and compare(row[place], value)
            for place, compare, value in self._comparisons
        )


def _comparison(text: str, signature: Signature) -> _Comparison:
    found = _COMPARISON.fullmatch(text)
    if found is None:
        raise BadSettings(
            f'--when: {text!r} is no comparison; write it as in "prediction == 1", '
            "several with `and` between them"
        )
    name, sign, literal = found.groups()
    names = [field.name for field in signature.outputs]
    if name not in names:
        raise BadSettings(f"--when: there is no output {name!r}; there are {', '.join(names)}")
    place = names.index(name)
    return _Comparison(place, _OPERATORS[sign], _value(literal, signature.outputs[place]))


def _value(literal: str, field: Field) -> Any:
    wanted: tuple[type, ...] = (int, float)
    if field.datatype is Datatype.BYTES:
        wanted = (str,)
    elif field.datatype is Datatype.BOOL:
        wanted = (bool,)
    try:
        value = msgspec.json.decode(literal)
    except msgspec.DecodeError:
        value = None
    if field.shape or type(value) not in wanted:
        what = "a text in double quotes" if wanted == (str,) else "true or false"
        what = "a number" if int in wanted else what
        raise BadSettings(
            f"--when: {literal} cannot be compared with the output {field.name!r}; "
            + ("it is no single value" if field.shape else f"write {what}")
        )
    return value
