"""The command `foretell gateway`, with its flags."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from foretell.app.terminal import Quiet, stderr


def gateway(  # noqa: PLR0913, PLR0917 - one parameter for each flag
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            "--upstream", "-u", metavar="URL[=WEIGHT]", help="A server, or a name of several."
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="round_robin|least_connections|ip_hash|weighted",
            help="Which server takes a call [round_robin].",
        ),
    ] = None,
    bind: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where to listen [127.0.0.1:8080].")
    ] = None,
    metrics_bind: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where Prometheus asks for /metrics.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A settings file; ./gateway.toml is read when it is there."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout-s", "--timeout", help="How long an answer may take [no limit]."),
    ] = None,
    render_only: Annotated[
        bool,
        typer.Option("--render-only", help="Print what Envoy takes, for one of your own, and end."),
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Envoy's worker threads.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Serve several servers behind one address, for HTTP and gRPC, with Envoy.

    Settings stand in gateway.toml; flags win. A changed file is followed without dropping a call.
    Exit codes: 0 stopped, 1 it could not run, 2 the settings cannot be used.
    """
    given = {
        "upstreams": upstream,
        "strategy": strategy,
        "bind": bind,
        "metrics_bind": metrics_bind,
        "timeout_s": timeout,
    }
    flags = {name: value for name, value in given.items() if value not in (None, [])}
    _carry_out(config, flags, threads=None if render_only else threads, quiet=quiet)


def _carry_out(
    config: Path | None, flags: Mapping[str, Any], *, threads: int | None, quiet: bool
) -> None:
    """Print what Envoy takes, or run it with `threads`."""
    from foretell.app.gateway import reading, running
    from foretell.deploy.gateway.plan import Gateway
    from foretell.telemetry import logs

    logs.configure("info", pretty=logs.is_pretty("auto"), values=False)

    if config is None and Path(reading.CONFIG_FILE).is_file():
        config = Path(reading.CONFIG_FILE)

    def read() -> Gateway:
        return reading.read(config, flags)

    def told(found: Gateway) -> None:
        if quiet:
            return
        scheme = "http" if found.tls is None else "https"
        stderr.print(f"Listening on {scheme}://{found.bind} (HTTP and gRPC)", markup=False)
        for name, group in found.all_groups().items():
            servers = ", ".join(map(str, group.upstreams))
            stderr.print(f"  {name}: {servers} ({group.strategy})", markup=False)

    if threads is None:
        typer.echo(running.rendered(read()), nl=False)
        return
    running.run(read, config, threads=threads, told=told)
