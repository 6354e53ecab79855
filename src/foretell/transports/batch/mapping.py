"""A plan says which column feeds which input, which are carried, and what comes out.

Rules:

1. All of it is decided before the first row is read, for all files, and whatever does not fit is
   told at once, each thing once, with the nearest name there is.
2. An input takes the column of its name, or the one that `columns` says. In CSV, an array is a
   column for each element; what a folder's name tells (`region=eu/`) is a column, too.
3. Columns that are carried have one type in all files. Where the output has the same folders,
   what they tell stays in them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from foretell.codecs.tables.arrow_tables import is_readable
from foretell.codecs.tables.columns import element_names
from foretell.codecs.tables.csv_tables import value_of
from foretell.core.field import Datatype, Field
from foretell.core.signature import Signature
from foretell.errors import InvalidInput
from foretell.transports.batch.dataset import Form, Source
from foretell.transports.batch.reading.pieces import MIXED, Feed, Layout, Wanted
from foretell.transports.batch.reading.typed import type_of

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_MOST_TOLD = 20
_UNTYPED = (Form.CSV, Form.NDJSON)


@dataclass(frozen=True, slots=True)
class Choices:
    """What the caller chose: columns by input, and the columns that are carried (None: all)."""

    columns: Mapping[str, str]
    keep: Sequence[str] | None
    folders: bool
    """Whether the output has the folders of the input."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read of each source, and the schema of what comes out."""

    wanted: tuple[Wanted, ...]
    schema: pa.Schema


class Problems:
    """What does not fit: each sentence once, with the files it holds for."""

    def __init__(self) -> None:
        self._told: dict[str, dict[str, None]] = {}

    def add(self, sentence: str, source: Source | None = None) -> None:
        """One more; without `source` it is nothing of a file."""
        files = self._told.setdefault(sentence, {})
        if source is not None:
            files[source.path] = None

    def check(self) -> None:
        """Raise InvalidInput when there are any."""
        if not self._told:
            return
        lines = [f"{sentence}{_in(list(files))}" for sentence, files in self._told.items()]
        if len(lines) == 1:
            raise InvalidInput(lines[0])
        more = [f"… and {len(lines) - _MOST_TOLD} more"] if len(lines) > _MOST_TOLD else []
        listed = "".join(f"\n  - {line}" for line in [*lines[:_MOST_TOLD], *more])
        raise InvalidInput(f"the input does not fit the model:{listed}")


def _in(files: Sequence[str]) -> str:
    if not files:
        return ""
    more = len(files) - 1
    others = f" and {more} other file{'s' if more > 1 else ''}" if more else ""
    return f" (in {files[0]}{others})"


def plan_of(
    signature: Signature,
    found: Sequence[tuple[Source, Layout]],
    choices: Choices,
    answers: pa.Schema,
    unwritable: Callable[[pa.Schema], Iterable[str]],
) -> Plan:
    """The plan for these files. `unwritable` tells what the output's form cannot hold.

    Raises InvalidInput, which tells all that does not fit.
    """
    problems = Problems()
    told = [(source, layout.schema) for source, layout in found if layout.schema is not None]
    if not told:
        problems.add("there are no columns: every file is empty", found[0][0])
        problems.check()
    _check_choices(signature, choices, told, problems)
    folders = () if choices.folders else _folder_columns([source for source, _ in found])
    carried = _carried(signature, told, choices, folders, problems)
    for name in carried.names:
        if name in answers.names:
            problems.add(
                f"column {name!r} has the name of an answer; leave it out of --keep, or rename it"
            )
    if choices.folders:
        _check_folders([source for source, _ in found], answers, problems)
    feeds = {
        id(source): _feeds(signature, source, schema, choices, problems) for source, schema in told
    }
    schema = pa.schema([*carried, *answers])
    for sentence in unwritable(schema):
        problems.add(sentence)
    problems.check()
    empty = next(iter(feeds.values()))
    wanted = tuple(
        Wanted(
            feeds.get(id(source), empty),
            carried,
            _constants(source, folders),
            closed=choices.keep is None,
        )
        for source, _ in found
    )
    return Plan(wanted, schema)


def nearest(word: str, known: Collection[str], hint: str = "did you mean {}?") -> str:
    """A hint that names the known word closest to `word`; empty when none is close."""
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f"; {hint.format(repr(lower[close[0]]))}" if close else ""


def _check_choices(
    signature: Signature,
    choices: Choices,
    told: Sequence[tuple[Source, pa.Schema]],
    problems: Problems,
) -> None:
    for name in choices.columns:
        if name not in signature.input_names:
            hint = nearest(name, signature.input_names)
            problems.add(f"--columns names {name!r}, which is no input of the model{hint}")
    for source, schema in told:
        known = {*schema.names, *dict(source.partition)}
        for name in choices.keep or ():
            if name not in known:
                problems.add(
                    f"--keep names {name!r}, but there is no such column{nearest(name, known)}",
                    source,
                )


def _check_folders(sources: Sequence[Source], answers: pa.Schema, problems: Problems) -> None:
    """Folders of the output are columns to who reads it, and would stand for answers."""
    for source in sources:
        for name, value in source.partition:
            if name in answers.names:
                problems.add(
                    f"the folder {name}={value} has the name of an answer; rename it, or name one "
                    "file as OUTPUT, without it in --keep",
                    source,
                )


Folder = tuple[str, pa.DataType]


def _folder_columns(sources: Sequence[Source]) -> tuple[Folder, ...]:
    """The columns that folders tell, and their types: whole numbers where all are such."""
    values: dict[str, set[str]] = {}
    for source in sources:
        for name, value in source.partition:
            values.setdefault(name, set()).add(value)
    return tuple(
        (name, pa.int64() if all(map(_is_whole, told - {NO_VALUE})) else pa.string())
        for name, told in values.items()
    )


def _is_whole(value: str) -> bool:
    return value == "0" or (len(value) < 19 and value.isdigit() and value[0] != "0")


def _constants(source: Source, folders: Sequence[Folder]) -> Mapping[str, pa.Scalar]:
    told = dict(source.partition)
    made = {}
    for name, kind in folders:
        value = told.get(name, NO_VALUE)
        known = None if value == NO_VALUE else int(value) if kind == pa.int64() else value
        made[name] = pa.scalar(known, kind)
    return made


def _carried(
    signature: Signature,
    told: Sequence[tuple[Source, pa.Schema]],
    choices: Choices,
    folders: Sequence[Folder],
    problems: Problems,
) -> pa.Schema:
    """The columns that go to the output as they are."""
    chosen = None if choices.keep is None else dict.fromkeys(choices.keep)
    fields: dict[str, pa.Field] = {}
    for number, (source, schema) in enumerate(told):
        for known in schema:
            if chosen is not None and known.name not in chosen:
                continue
            if schema.names.count(known.name) > 1:
                problems.add(f"two columns are called {known.name!r}; rename one", source)
            if known.metadata == MIXED:
                problems.add(
                    f"column {known.name!r} has values of several kinds; leave it out of --keep",
                    source,
                )
            if known.name not in fields and (number == 0 or source.form is Form.NDJSON):
                fields[known.name] = pa.field(known.name, known.type)
            elif known.name not in fields:
                problems.add(f"column {known.name!r} is not in {told[0][0].path}", source)
            else:
                _unify(fields, known, (told[0][0], source), problems)
        if source.form is not Form.NDJSON:
            for name in fields.keys() - set(schema.names):
                if chosen is None or name in schema.names:
                    problems.add(f"column {name!r} is missing", source)
    if told[0][0].form is Form.NDJSON:
        _as_inputs(signature, choices, fields)
    for name, kind in folders:
        if name not in fields and (chosen is None or name in chosen):
            fields[name] = pa.field(name, kind)
    order = fields if chosen is None else [name for name in chosen if name in fields]
    return pa.schema([fields[name] for name in order])


def _unify(
    fields: dict[str, pa.Field],
    known: pa.Field,
    sources: tuple[Source, Source],
    problems: Problems,
) -> None:
    first = fields[known.name].type
    if _plain(first) == _plain(known.type):
        return
    reference, source = sources
    if source.form is Form.NDJSON:
        try:
            both = pa.unify_schemas(
                [pa.schema([fields[known.name]]), pa.schema([pa.field(known.name, known.type)])],
                promote_options="permissive",
            )
        except pa.ArrowException:
            pass
        else:
            fields[known.name] = both.field(0)
            return
    problems.add(f"column {known.name!r} is {known.type}, but {first} in {reference.path}", source)


def _plain(told: pa.DataType) -> pa.DataType:
    return told.value_type if pa.types.is_dictionary(told) else told


def _as_inputs(signature: Signature, choices: Choices, fields: dict[str, pa.Field]) -> None:
    """Carried columns that feed an input have its type: 24 and 24.5 are both numbers."""
    for field in signature.inputs:
        name = choices.columns.get(field.name, field.name)
        if name in fields:
            fields[name] = pa.field(name, type_of(field))


def _feeds(
    signature: Signature,
    source: Source,
    schema: pa.Schema,
    choices: Choices,
    problems: Problems,
) -> tuple[Feed, ...]:
    """Where each input's values come from, in this file."""
    folders = dict(source.partition)
    known = [*schema.names, *folders]
    feeds = []
    for field in signature.inputs:
        name = choices.columns.get(field.name, field.name)
        if name not in schema.names and name in folders:
            feeds.append(_of_folder(field, folders[name], source, problems))
            continue
        columns: tuple[str, ...] = (name,)
        if source.form is Form.CSV and field.shape:
            if -1 in field.shape:
                problems.add(f"input {field.name!r} is {field.expected}, which no CSV can hold")
                continue
            columns = tuple(element_names(name, field.shape))
        feeds.append(Feed(field, columns))
        for column in columns:
            count = schema.names.count(column)
            if count == 0:
                problems.add(_missing(field, column, known), source)
            elif count > 1:
                problems.add(f"two columns are called {column!r}; rename one", source)
            elif source.form not in _UNTYPED and not _takes(field, schema.field(column).type):
                problems.add(
                    f"column {column!r} is {schema.field(column).type}, but must be "
                    f"{field.expected}; cast it",
                    source,
                )
    return tuple(feeds)


def _missing(field: Field, column: str, known: Collection[str]) -> str:
    hint = nearest(column, known, f"--columns {field.name}={{}} would take that")
    other = "" if column == field.name else f" of input {field.name!r}"
    return f"column {column!r}{other} is missing{hint.replace(chr(39), '')}"


def _of_folder(field: Field, value: str, source: Source, problems: Problems) -> Feed:
    scalar = replace(field, shape=())
    try:
        if value == NO_VALUE:
            accepted = field.accept(None)
        else:
            accepted = field.accept(value_of(scalar, value))
    except InvalidInput as error:
        problems.add(error.message, source)
        accepted = None
    return Feed(field, (), pa.scalar(accepted, type_of(field)))


def _takes(field: Field, told: pa.DataType) -> bool:
    """Whether a column of this type may have values that `field` accepts."""
    if not is_readable(told, len(field.shape)):
        return False
    for _ in field.shape:
        told = told.value_type
    told = _plain(told)
    if pa.types.is_null(told):
        return field.nullable
    if field.datatype is Datatype.BOOL:
        return bool(pa.types.is_boolean(told))
    number: Any = pa.types.is_integer(told) or pa.types.is_floating(told)
    return bool(number) == field.datatype.is_numeric and not pa.types.is_boolean(told)
