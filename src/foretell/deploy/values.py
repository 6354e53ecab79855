"""Values are what one chooses about a chart: its own, and over them those of files and flags.

Maps are merged, everything else replaces what was there, and null takes a value away, as Helm has
it. What the chart's schema does not know is refused with the nearest valid name.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foretell.errors import BadSettings, MissingExtra

Values = dict[str, Any]


def parsed(text: str, where: str) -> Values:
    """The values that a text of YAML has. Raises BadSettings, MissingExtra."""
    told = _read(text, where)
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise BadSettings(f"{where} has no values: it must be a map, as in image: {{tag: 1.0.0}}")
    return told


def chosen(setting: str) -> Values:
    """The value that `--set a.b=VALUE` tells; VALUE is YAML, a backslash keeps a point."""
    key, found, value = setting.partition("=")
    names = [name.replace("\\.", ".") for name in re.split(r"(?<!\\)\.", key.strip())]
    if not found or not all(names):
        raise BadSettings(f"--set {setting} sets nothing; write it as image.tag=1.0.0")
    told: Any = _read(value, f"--set {setting}") if value else ""
    for name in reversed(names):
        told = {name: told}
    result: Values = told
    return result


def merged(layers: Iterable[Mapping[str, Any]]) -> Values:
    """All layers in one; a later one wins."""
    result: Values = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                below = result.get(key)
                result[key] = merged([below if isinstance(below, Mapping) else {}, value])
            elif value is None:
                result.pop(key, None)
            else:
                result[key] = value
    return result


def check(values: Values, schema: Mapping[str, Any]) -> None:
    """Raises BadSettings with one sentence on the first value that `schema` refuses."""
    try:
        from jsonschema import Draft7Validator
    except ImportError as error:
        raise MissingExtra("install foretell[deploy]: jsonschema is missing") from error
    errors = sorted(
        Draft7Validator(schema).iter_errors(values), key=lambda e: list(map(str, e.path))
    )
    if errors:
        raise BadSettings(_sentence(errors[0]))


def _sentence(error: Any) -> str:
    place = ".".join(map(str, error.absolute_path))
    shown = f"{place} is {json.dumps(error.instance, ensure_ascii=False, default=str)}"
    rule = error.validator_value
    match error.validator:
        case "additionalProperties":
            known = error.schema["properties"]
            name = next(name for name in error.instance if name not in known)
            close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            return f"there is no value {'.'.join(filter(None, (place, str(name))))!r}; {hint}"
        case "required":
            name = next(name for name in rule if name not in error.instance)
            return f"{'.'.join(filter(None, (place, name)))} may not be taken away"
        case "enum":
            close = difflib.get_close_matches(str(error.instance), map(str, rule), n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            return f"{shown}, but must be one of {', '.join(map(str, rule))}{hint}"
        case "type":
            kinds = " or ".join([rule] if isinstance(rule, str) else rule)
            quotes = "; put it in quotes" if kinds == "string" else ""
            return f"{shown}, but must be of type {kinds}{quotes}"
        case "minimum" | "maximum":
            side = "least" if error.validator == "minimum" else "most"
            return f"{shown}, but must be at {side} {rule}"
        case "minItems":
            return f"{place} is empty, but must name one at least"
        case "not":
            return f"{shown}, but must say which one: {rule['const']!r} is another one tomorrow"
        case "pattern":
            return f"{shown}, but must be like {rule}"
    return f"{shown}, but {error.message}"


def _read(text: str, where: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtra("install foretell[deploy]: pyyaml is missing") from error

    # Without times: Helm reads 2026-01-01 as text.
    known = {
        first: [(tag, form) for tag, form in forms if not tag.endswith(":timestamp")]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    loader = type("Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": known})
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise BadSettings(f"{where} is not YAML: {told}") from error


def read(path: Path) -> Values:
    """The values of a file. Raises BadSettings."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"the values file {path} cannot be read: {error}") from error
    return parsed(text, str(path))
