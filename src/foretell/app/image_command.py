"""The command `foretell image`, with its flags."""

from pathlib import Path
from typing import Annotated

import typer

from foretell.app.terminal import AsJson, Quiet, print_json


def image(  # noqa: PLR0913, PLR0917 - one parameter for each flag
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A repository, a package or a model file.")
    ],
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTION…]", help="What --build hands on to the builder."),
    ] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", "-t", help="The image's name [MODEL:VERSION].")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of the build context.")
    ] = Path("image"),
    build: Annotated[
        bool, typer.Option("--build", help="Build it with docker, podman or buildah.")
    ] = False,
    wheel: Annotated[
        Path | None, typer.Option(help="Foretell's wheel, where no package index has it.")
    ] = None,
    base_image: Annotated[
        str | None, typer.Option(help="An image with Python and venv [python:X.Y-slim].")
    ] = None,
    extra: Annotated[
        list[str] | None, typer.Option(help="An extra of Foretell to install, as in columnar.")
    ] = None,
    mount_models: Annotated[
        bool, typer.Option("--mount-models", help="Leave the models out; mount them at /models.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a container image that serves models.

    Writes a build context (Dockerfile, locked requirements, models), and builds it with --build.
    """
    from foretell.app import imaging
    from foretell.app.reports import printable

    choices = imaging.ImageChoices(output, wheel, base_image, tuple(extra or ()), mount_models)
    made = imaging.written(target, choices)
    builder = (
        imaging.built(made, output, tag, more or (), quiet=quiet or as_json) if build else None
    )
    if as_json:
        print_json(imaging.describe(made, output, tag, builder))
    elif not quiet:
        typer.echo(printable(imaging.spoken(made, output, tag, builder)))
