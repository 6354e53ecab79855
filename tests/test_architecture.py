"""The house rules, read from the source: who may import whom, and how large things may grow.

`python tests/test_architecture.py` prints the import table as it stands in ARCHITECTURE.md.
"""

import ast
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
ANYTHING = ("*",)
FRAMEWORKS = (
    "joblib lightgbm llvmlite mlflow numba numpy onnxruntime pandas scipy sklearn skops xgboost"
)
TELEMETRY = "numpy opentelemetry prometheus_client pyarrow structlog"
DOOR = "core codecs engine"
PACKING = "numpy onnx onnxmltools pandas pyarrow skl2onnx sklearn skops"
CORE_STDLIB = "__future__ collections dataclasses enum hashlib itertools json math typing"


class Room(NamedTuple):
    """What the modules of one room may import; `stdlib` None is all of it."""

    rooms: tuple[str, ...]
    third_party: tuple[str, ...]
    stdlib: tuple[str, ...] | None = None


def _room(rooms: str, third_party: str, stdlib: str | None = None) -> Room:
    allowed = None if stdlib is None else tuple(stdlib.split())
    return Room(tuple(rooms.split()), tuple(sorted(third_party.split())), allowed)


# `foretell` is the top-level __init__.py. Everyone may import errors.
ROOMS = {
    "errors": _room("", "", "__future__ typing"),
    "core": _room("", "msgspec numpy", CORE_STDLIB),
    "codecs": _room("core", "google msgspec numpy pyarrow"),
    "runtimes": _room("core", FRAMEWORKS),
    "packing": _room("core runtimes", PACKING),
    "engine": _room("core runtimes", "fsspec msgspec numpy redis"),
    "transports.asgi": _room("core", "jwt starlette"),
    "transports.rest": _room(
        f"{DOOR} transports.asgi", "fastapi fastapi_offline msgspec numpy starlette"
    ),
    "transports.grpc": _room(f"{DOOR} transports.asgi", "google numpy starlette"),
    "transports.stream": _room(DOOR, "aio_pika confluent_kafka msgspec nats numpy paho redis"),
    "transports.batch": _room(DOOR, "fsspec msgspec numpy pyarrow pyspark ray"),
    "client": _room("core codecs", "google grpc httpx numpy pandas pyarrow"),
    "telemetry": _room("core engine.hooks", TELEMETRY),
    "deploy": _room("core", "jinja2 jsonschema numpy packaging yaml"),
    "loadtest": _room("core codecs client", "hdrh hpack numpy"),
    "console": _room("core engine transports", "numpy"),
    "testing": _room("core engine transports", "numpy"),
    "app": _room("*", "*"),
    "spark": _room("app transports", "pyarrow pyspark"),
    "faststream": _room("app engine transports", "msgspec"),
    "foretell": _room("*", "numpy"),
}
GROUPS = {room.split(".")[0] for room in ROOMS if "." in room}  # their __init__ imports nothing
HEADER = "| room | may import (besides errors) | third party |"

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS, MAX_FILES, MAX_PUBLIC = 400, 60, 8, 12, 12
FORBIDDEN_NAMES = {"utils", "common", "base", "misc", "helpers"}
ENVIRON = {"environ", "environb", "getenv"}
FORBIDDEN_CLASS = re.compile(r"(Manager|Handler|Helper)s?$")
TYPE_IGNORE = re.compile(r"#\s*type:\s*ignore")

# "<rule> <file>[::<function>]": why. One line each; one that is no longer needed fails.
EXCEPTABLE = ("file-lines", "function-lines", "parameters", "files", "type-ignore")
EXCEPTIONS: dict[str, str] = {
    "parameters foretell/client/clients.py::__init__": "one keyword for each option of a client",
    "parameters foretell/packing/package.py::pack": "one keyword for each flag of foretell pack",
    "parameters foretell/app/cli.py::pack": "one parameter for each flag of foretell pack",
    "parameters foretell/app/image_command.py::image": "one parameter for each flag",
    "parameters foretell/app/gateway/command.py::gateway": "one parameter for each flag",
    "parameters foretell/app/streaming/command.py::stream": "one parameter for each flag",
    "parameters foretell/app/streaming/streams.py::stream": "one keyword for each flag",
    "parameters foretell/app/cli.py::predict": "one parameter for each flag of foretell predict",
}


class Violation(NamedTuple):
    """One broken rule; `subject` is what an exception would name."""

    rule: str
    subject: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.subject.split('::')[0]}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Source:
    """One parsed module of a tree; `file` is relative to the tree."""

    file: str
    module: str
    text: str
    parsed: ast.Module

    @property
    def package(self) -> str:
        """What a relative import starts from."""
        return self.module if self.file.endswith("__init__.py") else self.module.rpartition(".")[0]

    @property
    def functions(self) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
        """Every function, and whether it is a method."""
        for parent in ast.walk(self.parsed):
            for node in ast.iter_child_nodes(parent):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield node, isinstance(parent, ast.ClassDef)

    def broken(self, rule: str, line: int, text: str, within: str = "") -> Violation:
        return Violation(rule, f"{self.file}::{within}" if within else self.file, line, text)


def read(tree: Path) -> list[Source]:
    """Every module of the package `foretell` in the folder `tree`."""
    sources = []
    for path in sorted((tree / "foretell").rglob("*.py")):
        place = path.relative_to(tree)
        parts = place.with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        sources.append(Source(place.as_posix(), module, text, ast.parse(text, str(path))))
    return sources


def room_of(module: str) -> str | None:
    inner = module.partition(".")[2].replace("__main__", "app")  # `python -m foretell` is app's
    within = (r for r in ROOMS if inner == r or inner.startswith(f"{r}."))
    return next(within, None) if inner else "foretell"


def imports(source: Source, modules: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each import's absolute target and line, wherever in the file it stands."""
    for node in ast.walk(source.parsed):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield alias.name, node.lineno
            case ast.ImportFrom(module=inner, names=names, level=level):
                above = source.package.rsplit(".", level - 1)[0] if level else None
                origin = ".".join(filter(None, (above, inner)))
                for alias in names:
                    whole = f"{origin}.{alias.name}"
                    known = whole in modules or (origin == "foretell" and alias.name in ROOMS)
                    yield (whole if known else origin), node.lineno
            case ast.Call(func=ast.Name(id=f) | ast.Attribute(attr=f), args=[first, *_]):
                if f in ("__import__", "import_module") and isinstance(first, ast.Constant):
                    yield str(first.value), node.lineno


def _may_import(room: str, target: str) -> bool:
    allowed = ROOMS[room]
    top, _, inner = target.partition(".")
    if top in sys.stdlib_module_names:
        return allowed.stdlib is None or top in allowed.stdlib
    if top != "foretell":
        return allowed.third_party == ANYTHING or top in allowed.third_party
    if allowed.rooms == ANYTHING or (inner == "errors" and room != "errors"):
        return True
    return any(inner == r or inner.startswith(f"{r}.") for r in (room, *allowed.rooms))


def import_table(sources: list[Source]) -> Iterator[Violation]:
    modules = {source.module for source in sources}
    for source in sources:
        room = room_of(source.module)
        group = source.module.partition(".")[2] in GROUPS
        if room is None and not group:
            yield source.broken("room", 1, "this room is not in the import table")
            continue
        for target, line in imports(source, modules):
            if room is None or not _may_import(room, target):
                yield source.broken("import", line, f"{room or 'a group'} may not import {target}")


def type_checking(sources: list[Source]) -> Iterator[Violation]:
    for source in sources:
        for node in ast.walk(source.parsed):
            match node:
                case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
                    if source.module != "foretell":
                        text = "TYPE_CHECKING hides imports"
                        yield source.broken("type-checking", node.lineno, text)


def cycles(sources: list[Source]) -> Iterator[Violation]:
    """The shortest way back to each module that imports itself through others."""
    by_module = {source.module: source for source in sources}
    graph: dict[str, dict[str, int]] = {}
    for source in sources:
        edges = graph.setdefault(source.module, {})
        for target, line in imports(source, by_module):
            if target in by_module:
                edges.setdefault(target, line)
    told: set[frozenset[str]] = set()
    for start in graph:
        ways: deque[tuple[str, ...]] = deque([(start,)])
        seen: set[str] = set()
        while ways:
            way = ways.popleft()
            if start in graph[way[-1]]:
                if frozenset(way) not in told:
                    told.add(frozenset(way))
                    line = graph[start][(*way, start)[1]]
                    text = f"import cycle: {' -> '.join((*way, start))}"
                    yield by_module[start].broken("cycle", line, text)
                break
            ways.extend((*way, step) for step in graph[way[-1]] if step not in seen)
            seen.update(graph[way[-1]])


def _parameters(args: ast.arguments, method: bool) -> int:
    named = [*args.posonlyargs, *args.args]
    rest = [*args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))]
    return len(named) + len(rest) - (method and named[0].arg in ("self", "cls") if named else 0)


def sizes(sources: list[Source]) -> Iterator[Violation]:
    folders: dict[str, list[Source]] = {}
    for source in sources:
        folders.setdefault(source.file.rpartition("/")[0], []).append(source)
        lines = len(source.text.splitlines())
        if lines > MAX_FILE_LINES:
            text = f"{lines} lines, at most {MAX_FILE_LINES}"
            yield source.broken("file-lines", MAX_FILE_LINES + 1, text)
        for node, method in source.functions:
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                text = f"{node.name} has {lines} lines, at most {MAX_FUNCTION_LINES}"
                yield source.broken("function-lines", node.lineno, text, node.name)
            if (count := _parameters(node.args, method)) > MAX_PARAMETERS:
                text = f"{node.name} has {count} parameters, at most {MAX_PARAMETERS}"
                yield source.broken("parameters", node.lineno, text, node.name)
    for folder, members in folders.items():
        if (count := len(members)) > MAX_FILES:
            yield Violation("files", folder, 1, f"{count} files, at most {MAX_FILES}")


def names(sources: list[Source]) -> Iterator[Violation]:
    for source in sources:
        if bad := FORBIDDEN_NAMES.intersection(source.module.split(".")):
            yield source.broken("name", 1, f"nothing is called {bad.pop()!r}")
        for node in ast.walk(source.parsed):
            match node:
                case ast.ClassDef(name=name) if FORBIDDEN_CLASS.search(name):
                    yield source.broken("name", node.lineno, f"no class is called {name}")
                case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=public)):
                    if source.module == "foretell" and len(public) > MAX_PUBLIC:
                        text = f"{len(public)} public names, at most {MAX_PUBLIC}"
                        yield source.broken("name", node.lineno, text)


def manners(sources: list[Source]) -> Iterator[Violation]:
    """Only app reads the environment and prints; core opens no file and ignores no type."""
    for source in sources:
        room = room_of(source.module)
        for node in ast.walk(source.parsed):
            match node:
                case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv"):
                    told = "only app reads the environment"
                case ast.ImportFrom(module="os", names=found) if ENVIRON & {a.name for a in found}:
                    told = "only app reads the environment"
                case ast.Call(func=ast.Name(id="print")):
                    told = "only app prints"
                case ast.Call(func=ast.Name(id="open")) if room == "core":
                    told = "core opens no file"
                case _:
                    continue
            if room != "app":
                yield source.broken("manners", node.lineno, told)
        for number, line in enumerate(source.text.splitlines(), 1):
            if room == "core" and TYPE_IGNORE.search(line):
                yield source.broken("type-ignore", number, "core ignores no type")


CHECKS = (import_table, type_checking, cycles, sizes, names, manners)


def every_violation(sources: list[Source]) -> list[Violation]:
    return [violation for check in CHECKS for violation in check(sources)]


def excepted(found: list[Violation], exceptions: Iterable[str]) -> tuple[list[str], list[str]]:
    """The violations that no exception covers, and the exceptions that cover none."""
    keys = [f"{violation.rule} {violation.subject}" for violation in found]
    left = [str(v) for v, key in zip(found, keys, strict=True) if key not in exceptions]
    return left, [key for key in exceptions if key not in keys or not key.startswith(EXCEPTABLE)]


def as_markdown() -> str:
    """The import table as ARCHITECTURE.md prints it."""
    lines = [HEADER, "|---|---|---|"]
    for name, room in ROOMS.items():
        rooms = "everything" if room.rooms == ANYTHING else ", ".join(room.rooms)
        third = "anything" if room.third_party == ANYTHING else ", ".join(room.third_party)
        lines.append(f"| {name} | {rooms or '–'} | {third or '–'} |")  # noqa: RUF001
    return "\n".join(lines)


@pytest.fixture(scope="module")
def source_tree() -> list[Source]:
    return read(ROOT / "src")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_source_keeps_the_rule(
    check: Callable[[list[Source]], Iterator[Violation]], source_tree: list[Source]
) -> None:
    left, _ = excepted(list(check(source_tree)), EXCEPTIONS)
    assert not left, "\n" + "\n".join(left)


def test_every_exception_is_still_needed(source_tree: list[Source]) -> None:
    _, stale = excepted(every_violation(source_tree), EXCEPTIONS)
    assert not stale


def test_architecture_md_prints_this_table() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert as_markdown() in text, "paste what `python tests/test_architecture.py` prints"


LONG = "def f() -> None:\n" + "    x = 1\n" * MAX_FUNCTION_LINES
NINE = ", ".join(f"p{n}" for n in range(9))
TYPED = "import typing\n\nif typing.TYPE_CHECKING:\n    x = 1\n"
CYCLE = {"core/a.py": "\nfrom . import b\n", "core/b.py": "def f():\n    from .a import x\n"}
PLANTED = {  # what is planted: {file: text}, where it is reported, in what words
    "top": ({"core/a.py": "import os\n\nimport foretell.engine.b\n"}, "core/a.py:3", "engine"),
    "from": ({"codecs/a.py": "from foretell.engine.b import c\n"}, "codecs/a.py:1", "engine.b"),
    "lazy": ({"core/a.py": "def f():\n    from foretell import app\n"}, "core/a.py:2", "app"),
    "relative": ({"core/a.py": "\nfrom ..engine.b import c\n"}, "core/a.py:2", "engine.b"),
    "relative room": ({"core/a.py": "from .. import engine\n"}, "core/a.py:1", "foretell.engine"),
    "by name": ({"core/a.py": "x = import_module('foretell.app')\n"}, "core/a.py:1", "app"),
    "stdlib in core": ({"core/a.py": "import asyncio\n"}, "core/a.py:1", "asyncio"),
    "third party": ({"packing/a.py": "def f():\n    import httpx\n"}, "packing/a.py:2", "httpx"),
    "door": ({"transports/rest/a.py": "from ..grpc import b\n"}, "transports/rest/a.py:1", "grpc"),
    "errors": ({"errors.py": "import numpy\n"}, "errors.py:1", "numpy"),
    "module": ({"telemetry/a.py": "import foretell.engine\n"}, "telemetry/a.py:1", "engine"),
    "upwards": ({"core/a.py": "from foretell import pack\n"}, "core/a.py:1", "import foretell"),
    "unknown room": ({"plumbing/a.py": ""}, "plumbing/a.py:1", "not in the import table"),
    "unknown door": ({"transports/fax/a.py": ""}, "transports/fax/a.py:1", "not in"),
    "group": ({"transports/__init__.py": "import numpy\n"}, "transports/__init__.py:1", "numpy"),
    "type checking": ({"app/a.py": TYPED}, "app/a.py:3", "TYPE_CHECKING"),
    "cycle": (CYCLE, "core/a.py:2", "foretell.core.a -> foretell.core.b -> foretell.core.a"),
    "long file": ({"app/a.py": "x = 1\n" * 401}, "app/a.py:401", "401 lines"),
    "long function": ({"app/a.py": f"x = 1\n{LONG}"}, "app/a.py:2", "f has 61 lines"),
    "parameters": ({"app/a.py": f"def f({NINE}): ...\n"}, "app/a.py:1", "9 par"),
    "files": ({f"app/a{n}.py": "" for n in range(13)}, "app:1", "13 files"),
    "name": ({"app/utils.py": ""}, "app/utils.py:1", "'utils'"),
    "folder name": ({"app/helpers/a.py": ""}, "app/helpers/a.py:1", "'helpers'"),
    "class name": ({"app/a.py": "class ModelManager: ...\n"}, "app/a.py:1", "ModelManager"),
    "public": ({"__init__.py": f"__all__ = {[*'abcdefghijklm']}\n"}, "__init__.py:1", "13 pub"),
    "environ": ({"engine/a.py": "import os\nos.environ\n"}, "engine/a.py:2", "only app"),
    "getenv": ({"engine/a.py": "from os import path, getenv\n"}, "engine/a.py:1", "only app"),
    "print": ({"engine/a.py": "print(1)\n"}, "engine/a.py:1", "only app prints"),
    "open": ({"core/a.py": "x = open('a')\n"}, "core/a.py:1", "opens no file"),
    "type ignore": ({"core/a.py": "x = 1  # type: ignore[misc]\n"}, "core/a.py:1", "no type"),
}


def planted(tree: Path, files: dict[str, str]) -> list[Violation]:
    for name, text in files.items():
        path = tree / "foretell" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return every_violation(read(tree))


@pytest.mark.parametrize(("files", "place", "told"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_reported_with_file_and_line(
    tmp_path: Path, files: dict[str, str], place: str, told: str
) -> None:
    found = [str(v) for v in planted(tmp_path, files)]
    assert any(line.startswith(f"foretell/{place}: ") and told in line for line in found), found


def test_what_is_allowed_is_not_reported(tmp_path: Path) -> None:
    files = {
        "__init__.py": TYPED + "    import foretell.app.a\n",
        "app/a.py": "import os\nimport typer\nprint(os.environ, open('a'))\n",
        "engine/a.py": f"class A:\n    def f(self, {NINE[4:]}):\n        from .. import runtimes\n",
        "runtimes/__init__.py": "from foretell.core import a\n",
        "core/a.py": "import json\nimport numpy as np\nfrom foretell.errors import ForetellError\n",
        "errors.py": "from typing import ClassVar\n",
        "telemetry/a.py": "import foretell.engine.hooks\n",
    }
    assert planted(tmp_path, files) == []


def test_an_exception_covers_its_own_violation_only_and_goes_stale(tmp_path: Path) -> None:
    broken = planted(tmp_path, {"app/a.py": LONG + "x = 1\n" * 400})
    exceptions = ["function-lines foretell/app/a.py::f", "files foretell/core"]
    left, stale = excepted(broken, exceptions)
    assert [line.partition(": ")[2] for line in left] == ["461 lines, at most 400"]
    assert stale == ["files foretell/core"]


if __name__ == "__main__":
    sys.stdout.write(as_markdown() + "\n")
