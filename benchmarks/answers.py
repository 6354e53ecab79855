"""An answer is right when it says the same as the expected JSON, to the last digits but few."""

import json
import math
from typing import Any

TOLERANCE = 1e-6


def says(body: bytes, expected: Any) -> bool:
    """Whether `body` is JSON that equals `expected`, floats within TOLERANCE."""
    try:
        return same(json.loads(body), expected)
    except ValueError:  # it is not JSON
        return False


def same(told: Any, expected: Any) -> bool:
    """Whether the parsed JSON `told` equals `expected`, floats within TOLERANCE."""
    match expected:
        case dict():
            keys = isinstance(told, dict) and told.keys() == expected.keys()
            return keys and all(same(told[key], expected[key]) for key in expected)
        case list():
            length = isinstance(told, list) and len(told) == len(expected)
            return length and all(map(same, told, expected))
        case float():
            return isinstance(told, float) and math.isclose(told, expected, abs_tol=TOLERANCE)
        case _:
            return bool(told == expected)
