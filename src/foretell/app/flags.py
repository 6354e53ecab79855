"""The flags of `foretell serve`, derived from the fields of Settings."""

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from foretell.app.settings import CONFIG_FILE, Settings

Command = Callable[..., None]


def with_settings(command: Command) -> Command:
    """`command` with targets, --config, and one flag for each setting in its signature.

    Values stay text here: Settings alone judges them, whichever way they came.
    """
    parameters = [
        _parameter(
            "targets",
            Annotated[
                list[str],
                typer.Argument(
                    metavar="TARGET…", help="Repositories, packages or model files, in any mix."
                ),
            ],
            inspect.Parameter.empty,
        ),
        _parameter(
            "config",
            Annotated[
                Path | None,
                typer.Option(
                    help=f"A settings file; ./{CONFIG_FILE} is read when it is there.",
                    show_default=False,
                ),
            ],
            None,
        ),
        *(_flag(name, field) for name, field in Settings.model_fields.items()),
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


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )


def _flag(name: str, field: FieldInfo) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    default = field.get_default(call_default_factory=True, validated_data={})
    shown = " ".join(default) if isinstance(default, tuple) else default
    words = f"{field.description}." + ("" if shown is None else f" [default: {shown}]")
    option: dict[str, Any] = {"help": words, "show_default": False}
    kind: Any
    if field.annotation is bool:
        kind, names = bool | None, (f"{flag}/--no-{flag.removeprefix('--')}",)
    elif get_origin(field.annotation) is tuple:
        kind, names = list[str] | None, (flag,)
        option["metavar"] = "ADDRESS" if name == "bind" else "[MODEL=]KIND"
    else:
        kind, names = str | None, (flag,)
        option["metavar"] = _metavar(field.annotation)
    return _parameter(name, Annotated[kind, typer.Option(*names, **option)], None)


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    kinds = get_args(annotation) or (annotation,)
    for kind, word in ((Path, "PATH"), (int, "INTEGER"), (float, "SECONDS")):
        if kind in kinds:
            return word
    return "TEXT"
