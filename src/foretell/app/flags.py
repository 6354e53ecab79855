"""The flags of a command, derived from the fields of its settings."""

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from foretell.app.settings import CONFIG_FILE, Readable

Command = Callable[..., None]
Config = Annotated[
    Path | None,
    typer.Option(
        help=f"A settings file; ./{CONFIG_FILE} is read when it is there.", show_default=False
    ),
]

_ALSO = {
    "timeout_s": ("--timeout",),
    "duration_s": ("--duration",),
    "warmup_s": ("--warmup",),
}
_SEVERAL = {
    "bind": "ADDRESS",
    "executor": "[MODEL=]KIND",
    "latency_buckets_s": "SECONDS",
    "columns": "INPUT=COLUMN",
    "keep": "COLUMN",
    "compare": "PROTOCOL",
}


def with_settings(settings: type[Readable], command: Command) -> Command:
    """`command` with one flag for each setting, in the place of its `**told`.

    Values stay text here: the settings alone judge them, whichever way they came.
    """
    own = inspect.signature(command).parameters.values()
    parameters = [
        *(
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in own
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ),
        *(
            _flag(name, field)
            for name, field in settings.model_fields.items()
            if name not in settings.in_the_file
        ),
    ]

    @functools.wraps(command)
    def wrapped(**told: Any) -> None:
        command(**told)

    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # typer reads it
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def given(told: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were really given."""
    return {name: value for name, value in told.items() if value not in (None, [])}


def _flag(name: str, field: FieldInfo) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    default = field.get_default(call_default_factory=True, validated_data={})
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    words = f"{field.description}." + ("" if shown is None else f" [default: {shown}]")
    option: dict[str, Any] = {"help": words, "show_default": False}
    kind: Any
    names: tuple[str, ...]
    if field.annotation is bool:
        kind, names = bool | None, (f"{flag}/--no-{flag.removeprefix('--')}",)
    elif name in _SEVERAL:
        kind, names = list[str] | None, (flag,)
        option["metavar"] = _SEVERAL[name]
    else:
        kind, names = str | None, (flag, *_ALSO.get(name, ()))
        option["metavar"] = _metavar(name, field.annotation)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[kind, typer.Option(*names, **option)],
        default=None,
    )


def _metavar(name: str, annotation: Any) -> str:
    kinds = get_args(annotation) or (annotation,)
    for literal in (annotation, *kinds):
        if get_origin(literal) is Literal:
            return "|".join(get_args(literal))
    number = "SECONDS" if name.endswith("_s") else "NUMBER"
    for kind, word in ((Path, "PATH"), (int, "INTEGER"), (float, number)):
        if kind in kinds:
            return word
    return "TEXT"
