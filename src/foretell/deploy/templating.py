"""Templating is the part of Helm's template language that the chart keeps to, said in Jinja's.

Rules:

1. A template is text with `{{ … }}` in it: `if`, `else`, `range`, `define`, `$name :=`, comments,
   and pipelines of the functions below. Whatever else Helm knows is refused here.
2. Functions and truth are those of Helm. `tests/deploy/test_chart.py` asks both for the same
   objects.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from foretell.errors import BadSettings, MissingExtra

_ACTION = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
_RANGE = re.compile(r"range (?:\$(\w+), )?\$(\w+) := (.+)")
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|-?\d+|\$?\w+|(?:\.\w+)+|[().|])')
_NUMBERED = re.compile(r"[-+.\d]")


class Templates:
    """The named parts of a chart, and its templates, as functions of what they are given."""

    def __init__(self, texts: Iterable[str], files: Mapping[str, str]) -> None:
        """`texts` hold the parts (`define`); `files` is what `.Files.Get` reads.

        Raises MissingExtra.
        """
        try:
            import jinja2
        except ImportError as error:
            raise MissingExtra("install foretell[deploy]: jinja2 is missing") from error
        self._environment = jinja2.Environment(
            autoescape=False,  # noqa: S701 - YAML is no HTML
            undefined=jinja2.StrictUndefined,
            keep_trailing_newline=True,
        )
        self._files = files
        self._parts: dict[str, str] = {}
        for text in texts:
            self._parts |= _said(text)[1]

    def render(self, text: str, told: Mapping[str, Any]) -> str:
        """What a template makes of `told`: Values, Release and Chart. Raises BadSettings."""
        given = dict(told) | {"Files": {"Get": self._files.__getitem__}}

        def include(name: str, _: object) -> str:
            return written(self._parts[name])

        def written(said: str) -> str:
            functions = FUNCTIONS | {"include": include, "toYaml": _yaml}
            return self._environment.from_string(said).render(functions=functions, given=given)

        return written(_said(text)[0])


def _said(text: str) -> tuple[str, dict[str, str]]:
    """A template in Jinja's words, and the parts that are defined in it."""
    parts: dict[str, str] = {}
    here: list[str] = []
    outside, name, ends = here, "", list[str]()
    at = 0
    for found in _ACTION.finditer(text):
        here.append(_plain(text[at : found.start()]))
        at = found.end()
        before, after = "-" * bool(found[1]), "-" * bool(found[3])
        words = found[2].strip()
        if words.startswith("define "):
            name, outside, here = json.loads(words.removeprefix("define ")), here, []
            ends.append("define")
            here.append("{#- -#}" if after else "")
        elif words == "end" and ends[-1] == "define":
            here.append("{#- #}" if before else "")
            parts[name], here = "".join(here), outside
            ends.pop()
        else:
            opened, closed, inner = _statement(words, ends)
            here.append(f"{opened}{before} {inner} {after}{closed}")
    here.append(_plain(text[at:]))
    if ends:
        raise ValueError(f"{ends} has no end")
    return "".join(here), parts


def _plain(text: str) -> str:
    if "{%" in text or "{#" in text or "{{" in text:
        raise ValueError(f"Jinja would read this as its own: {text!r}")
    return text


def _statement(words: str, ends: list[str]) -> tuple[str, str, str]:
    """One action between Jinja's brackets; `ends` is what is open, and changes."""
    statement = ("{%", "%}")
    if words.startswith("/*"):
        return "{#", "#}", ""
    if words.startswith("if "):
        ends.append("endif")
        return *statement, f"if {_pipeline(words[3:])}"
    if words.startswith("else if "):
        return *statement, f"elif {_pipeline(words[8:])}"
    if words == "else":
        return *statement, "else"
    if words == "end":
        return *statement, ends.pop()
    if found := _RANGE.fullmatch(words):
        ends.append("endfor")
        key, value, of = found.groups()
        names = f"_{value}" if key is None else f"_{key}, _{value}"
        walk = "elements" if key is None else "pairs"
        return *statement, f"for {names} in functions['{walk}']({_pipeline(of)})"
    if found := re.fullmatch(r"\$(\w+) := (.+)", words, re.DOTALL):
        return *statement, f"set _{found[1]} = {_pipeline(found[2])}"
    return "{{", "}}", f"functions['text']({_pipeline(words)})"


def _pipeline(words: str) -> str:
    """A pipeline as an expression of Jinja: each command is the next one's last argument."""
    tokens, at = [], 0
    words = words.strip()
    while at < len(words):
        found = _TOKEN.match(words, at)
        if found is None:
            raise ValueError(f"this is not understood: {words[at:]!r} in {words!r}")
        tokens.append(found[1])
        at = found.end()
    said = _commands(tokens)
    if tokens:
        raise ValueError(f"a bracket too many in {words!r}")
    return said


def _commands(tokens: list[str]) -> str:
    said: str | None = None
    while True:
        terms = [] if said is None else [said]
        command: list[str] = []
        while tokens and tokens[0] not in ("|", ")"):
            command.append(_term(tokens))
        said = _called(command, terms)
        if not tokens or tokens[0] == ")":
            return said
        tokens.pop(0)


def _term(tokens: list[str]) -> str:
    word = tokens.pop(0)
    if word == "(":
        inner = _commands(tokens)
        if not tokens:
            raise ValueError("a bracket is not closed")
        tokens.pop(0)
        return f"({inner})"
    if word == ".":
        return "given"
    if word.startswith("."):
        path = "".join(f", '{name}'" for name in word[1:].split("."))
        return f"functions['path'](given{path})"
    if word.startswith("$"):
        return f"_{word[1:]}"
    if word[0] == '"' or word.lstrip("-").isdigit():
        return word
    if word not in FUNCTIONS and word not in ("include", "toYaml"):
        raise ValueError(f"there is no function {word!r} here")
    return f"functions['{word}']"


def _called(command: list[str], piped: list[str]) -> str:
    first, arguments = command[0], command[1:] + piped
    is_function = first.startswith("functions['") and not first.startswith("functions['path']")
    if is_function or arguments:
        return f"{first}({', '.join(arguments)})"
    return first


def _path(given: Any, *names: str) -> Any:
    for name in names:
        given = given.get(name)
    return given


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else _json(value)


def _json(value: Any) -> str:
    """As Go writes it: whole numbers without a point, keys in order."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_json(k)}:{_json(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    said = json.dumps(value, ensure_ascii=False)
    for sign in "<>&":
        said = said.replace(sign, f"\\u{ord(sign):04x}")
    return re.sub(r"e-0(\d)$", r"e-\1", said) if isinstance(value, float) else said


def _yaml(value: Any) -> str:
    import yaml

    dumper = type("Dumper", (yaml.SafeDumper,), {})

    def string(to: Any, text: str) -> Any:
        # PyYAML leaves some texts bare that Go reads as numbers.
        style = '"' if _NUMBERED.match(text) else None
        return to.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    dumper.add_representer(str, string)  # type: ignore[attr-defined] # SafeDumper's
    said: str = yaml.dump(value, Dumper=dumper, allow_unicode=True, width=10_000)
    return said.rstrip("\n")


def _indent(spaces: int, text: str) -> str:
    return " " * spaces + text.replace("\n", "\n" + " " * spaces)


def _required(sentence: str, value: Any) -> Any:
    if value is None or value == "":
        raise BadSettings(sentence)
    return value


def _elements(value: Any) -> list[Any]:
    return [value[key] for key in sorted(value)] if isinstance(value, Mapping) else value or []


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda *numbers: sum(map(int, numbers)),
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "default": lambda otherwise, value: value or otherwise,
    "elements": _elements,
    "eq": lambda one, other: one == other,
    "hasPrefix": lambda start, text: text.startswith(start),
    "ne": lambda one, other: one != other,
    "nindent": lambda spaces, text: "\n" + _indent(spaces, text),
    "not": lambda value: not value,
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "pairs": lambda value: [(key, value[key]) for key in sorted(value or {})],
    "path": _path,
    "printf": lambda form, *values: form % values,
    "quote": lambda value: json.dumps(_text(value), ensure_ascii=False),
    "required": _required,
    "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "ternary": lambda yes, no, which: yes if which else no,
    "text": _text,
    "toJson": _json,
    "toString": _text,
    "trimSuffix": lambda end, text: text.removesuffix(end),
    "trunc": lambda most, text: text[:most],
}
