"""The commands `foretell k8s …`, with their flags."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="k8s",
    help="Write what Kubernetes takes: plain YAML, or the Helm chart that it is made of.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]


@app.command()
def render(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="A repository, a package or a model file: it names the release and the image.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The release's name [the model's, or foretell].")
    ] = None,
    values: Annotated[
        list[Path] | None,
        typer.Option("--values", "-f", metavar="FILE", help="A file of values; a later one wins."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value, as in image.tag=1.0.0."),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR|-", help="A folder, or - for stdout.")
    ] = "-",
    quiet: Quiet = False,
) -> None:
    """Write Kubernetes' objects as plain YAML, the same as the Helm chart makes.

    `foretell k8s values` shows what can be chosen. Apply them with kubectl apply -f.
    """
    from foretell.app.kubernetes import rendering

    files = rendering.rendered(target, name, values or (), set_ or ())
    if output == "-":
        typer.echo(rendering.stream(files), nl=False)
        return
    rendering.written(files, Path(output))
    if not quiet:
        typer.echo(f"wrote {output}\napply it with: kubectl apply -f {output}")


@app.command()
def values() -> None:
    """Print what can be chosen, with its defaults, to begin a file of values with."""
    from foretell.app.kubernetes import rendering

    typer.echo(rendering.defaults(), nl=False)


@app.command()
def chart(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="A folder that is made.")
    ] = Path("chart"),
    quiet: Quiet = False,
) -> None:
    """Write the Helm chart to a folder."""
    from foretell.app.kubernetes import rendering

    rendering.copied(output)
    if not quiet:
        typer.echo(f"wrote {output}\ninstall it with: helm upgrade --install NAME {output}")
