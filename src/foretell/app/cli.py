"""The command line: the commands that `foretell --help` lists.

Exit codes: 0 done, 1 the work failed (one sentence on stderr says why), 2 the command line
or a setting cannot be used, 3 a batch job or a stream is done but for some bad rows or
messages, 130 interrupted.
"""

import functools
import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import foretell
from foretell.app import flags, image_command
from foretell.app.access import command as keys
from foretell.app.batching.choices import BatchSettings
from foretell.app.caching import command as caching
from foretell.app.gateway.command import gateway
from foretell.app.kubernetes import command as kubernetes
from foretell.app.loadtesting.choices import LoadSettings
from foretell.app.settings import ClientSettings, Settings
from foretell.app.streaming import command as streaming
from foretell.app.terminal import AsJson, Quiet, guarded, print_json, say, stderr, stdout

app = typer.Typer(
    name="foretell",
    help="Serve a trained model everywhere it is needed, from one package with one signature.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # the boxed help cuts long flags off at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"foretell {foretell.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Serve a trained model everywhere it is needed, from one package with one signature."""


_Windows = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="TOML or JSON: inputs that a stream fills from the recent past."
    ),
]
_Output = Annotated[Path, typer.Option("--output", "-o", help="The repository to write to.")]


@app.command()
def pack(  # noqa: PLR0913, PLR0917 - one parameter for each flag
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE…",
            help="A model file, a chain of files in order (scaler.pkl model.pkl), or module:Class.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The model's name; the last file's stem if not given.")
    ] = None,
    version: Annotated[str, typer.Option(help="The version, any free string.")] = "1.0.0",
    sample: Annotated[
        Path | None,
        typer.Option(help="CSV or Parquet with rows like those the model was trained on."),
    ] = None,
    windows: _Windows = None,
    output: _Output = Path("models"),
    trust: Annotated[
        bool, typer.Option("--trust", help="Load pickles that reach outside the allow-list.")
    ] = False,
    compiled: Annotated[
        bool,
        typer.Option("--compile/--no-compile", help="Compile to ONNX where that proves exact."),
    ] = True,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a package of a trained model.

    Inspects the files, infers the signature, compiles the model and proves that the compiled
    one answers as the original does, and writes the package.
    """
    from foretell import packing
    from foretell.app.reports import describe, show_package
    from foretell.engine import repository

    def work() -> Path:
        return packing.pack(
            files,
            name=name,
            version=version,
            sample=sample,
            windows=windows,
            repository=output,
            trust=trust,
            compile=compiled,
        )

    if quiet or as_json or not stderr.is_terminal:
        folder = work()
    else:
        with stderr.status(f"packing {' → '.join(files)} …"):
            folder = work()
    package = repository.read(folder)
    if as_json:
        print_json(describe(package))
    elif not quiet:
        show_package(stdout, package)
        stdout.print(f"\n[green]packed[/] {folder}\nserve it with: foretell serve {output}")


@app.command()
def inspect(
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="A repository, a package or a model file.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show what a package or a model file holds.

    Nothing in it is run.
    """
    from foretell.app.reports import describe, show_file, show_package
    from foretell.engine import repository
    from foretell.packing import inspect_file

    if target.is_dir():
        packages = repository.find(target)
        told = [describe(package, verified=True) for package in packages]
        if as_json:
            print_json(told[0] if repository.is_package(target) else told)
            return
        for package in packages:
            show_package(stdout, package)
    else:
        inspection = inspect_file(target).describe()
        if as_json:
            print_json(inspection)
        else:
            show_file(stdout, inspection)


def serve(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET…", help="Repositories, packages or model files, in any mix."
        ),
    ],
    config: flags.Config = None,
    **told: Any,
) -> None:
    """Serve models over HTTP.

    Settings come from foretell.toml (max_rows = 1000), then from variables
    (FORETELL_MAX_ROWS=1000), then from these flags (--max-rows 1000); the last one wins.
    """
    from foretell.app import wiring
    from foretell.app.serving import servers
    from foretell.app.serving.greeting import greet
    from foretell.app.serving.starting import find_packages, stop_quietly
    from foretell.engine.notice import Notice
    from foretell.telemetry import logs

    stop_quietly()
    settings = Settings.read(flags.given(told), config=config)
    logs.configure(
        settings.log_level, pretty=logs.is_pretty(settings.log_format), values=settings.log_values
    )
    packages = find_packages(targets, settings)
    greet(packages, settings)
    switches = wiring.switches_of(packages)
    notice = Notice()
    metrics = wiring.metrics_of(packages, settings, switches)
    build = functools.partial(wiring.build, packages, settings, switches, notice, metrics)
    servers.run(build, notice, settings, metrics)


app.command()(flags.with_settings(Settings, serve))


def predict(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="A server: http(s)://HOST:PORT or grpc(s)://HOST:PORT. Several with commas "
            "between them; URL=WEIGHT for --balance weighted.",
        ),
    ],
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model to ask.")],
    row: Annotated[
        str | None,
        typer.Argument(metavar="JSON", help="A row as an object or an array, or an array of rows."),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A file of rows: .json, .ndjson, .csv or .parquet; - reads stdin, as does "
            "leaving out both.",
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="The version to ask; the served one if not given.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="What --balance hash chooses the server by.")
    ] = None,
    as_json: AsJson = False,
    config: flags.Config = None,
    **told: Any,
) -> None:
    """Ask a running server for predictions.

    Rows are judged by the model's signature before they are sent. On a terminal the answer is a
    table, in a pipe a row of JSON a line. Settings come from [client] of foretell.toml
    (timeout_s = 5), from variables (FORETELL_CLIENT_TIMEOUT_S=5) and from flags.
    """
    from foretell.app import predicting

    settings = ClientSettings.read(flags.given(told), config=config)
    with predicting.client_of(url, settings) as client:
        signature = client.signature(model, version=version)
        stdin = io.BytesIO() if sys.stdin is None else sys.stdin.buffer  # None: it is closed
        found = predicting.rows_of(row, rows, stdin, signature)
        answer = client.predict(model, found, version=version, key=key)
    for line in predicting.shown(stdout, answer, as_json=as_json):
        typer.echo(line)


app.command()(flags.with_settings(ClientSettings, predict))


def batch(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A package, a model file, or a repository of one model."
        ),
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A file, a folder or a pattern of them: Parquet, CSV, NDJSON (.gz), Arrow.",
        ),
    ],
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT", help="A folder, or one file: .parquet, .csv, .ndjson or .arrow."
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    config: flags.Config = None,
    **told: Any,
) -> None:
    """Score files, however large, and write them with their predictions.

    What was done is never done again: the same command goes on where it stopped. Exit codes: 0
    done, 1 failed, 2 it cannot be done so, 3 done but for bad rows. Settings come from [batch] of
    foretell.toml, from variables (FORETELL_BATCH_THREADS=4) and from flags.
    """
    from foretell.app.batching import command
    from foretell.app.batching.showing import show_plan

    named = {name: ",".join(told[name]) for name in ("columns", "keep") if told[name] is not None}
    settings = BatchSettings.read(flags.given(told | named), config=config)
    job = command.prepared(model, data, output, settings)
    if dry_run:
        if as_json:
            print_json(job.described())
        else:
            show_plan(stdout, job.described())
        return
    ended = command.carry_out(job, stderr, quiet=quiet or as_json)
    if isinstance(ended, command.Ended):
        if as_json:
            print_json({"error": ended.said, "code": "stopped"})
        raise typer.Exit(ended.code)
    if as_json:
        print_json(ended.describe())
    elif not quiet:
        command.show(ended, stdout)
    if ended.bad_rows:
        raise typer.Exit(command.BAD_ROWS)


app.command()(flags.with_settings(BatchSettings, batch))


def loadtest(
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="A server: http(s)://HOST:PORT or grpc(s)://HOST:PORT."),
    ],
    model: Annotated[str, typer.Option(metavar="NAME", help="The model to ask.")],
    version: Annotated[
        str | None, typer.Option(help="The version to ask; the served one if not given.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    config: flags.Config = None,
    **told: Any,
) -> None:
    """Measure a running server: latency, throughput and bytes, with its own model.

    With --rate, latency counts from when a request was due, so a stalled server cannot hide. Exit
    codes: 0 measured, 1 too slow, too many errors or no answer, 2 it cannot be done so. Settings
    come from [loadtest] of foretell.toml, from variables (FORETELL_LOADTEST_RATE=500) and flags.
    """
    from foretell.app.loadtesting import command, showing

    named = {} if told["compare"] is None else {"compare": ",".join(told["compare"])}
    settings = LoadSettings.read(flags.given(told | named), config=config)
    console = None if quiet or as_json else stderr
    report = command.carry_out(url, model, version, settings, console)
    if as_json:
        print_json(report.describe())
    elif not quiet:
        showing.show(stdout, report)
    refusals = report.refusals(settings.max_p99_ms, settings.max_error_ratio)
    for words in refusals:
        say(words, 1)
    if refusals:
        raise typer.Exit(1)


app.command()(flags.with_settings(LoadSettings, loadtest))
app.command()(image_command.image)
app.command()(gateway)
app.command()(streaming.stream)
app.add_typer(kubernetes.app)
app.add_typer(keys.app)
app.add_typer(caching.app)


def main(args: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    arguments = sys.argv[1:] if args is None else args
    sys.exit(guarded(lambda: app(arguments, standalone_mode=True), arguments))
