"""The commands `foretell cache …`: what is kept of a model's answers, and to have it gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from foretell.app.caching.counted import counted
from foretell.app.flags import Config
from foretell.app.settings import Settings, nearest
from foretell.app.terminal import AsJson, print_json
from foretell.engine.stores.redis import prefix_of
from foretell.errors import BadSettings, MissingExtra, StoreFailed

_AT_ONCE = 500
_GIVEN_UP_S = 30

app = typer.Typer(
    name="cache",
    help="Look at the answers that a result cache keeps, or clear them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model.")]


@dataclass(frozen=True, slots=True)
class Kept:
    """What Redis has of one package of a model, by the beginning of its digest."""

    package: str
    rows: int
    bytes: int


@app.callback()
def root() -> None:
    """Look at the answers that a result cache keeps, or clear them."""


@app.command()
def stats(
    model: Model,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A running server, whose counts are shown as well."),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show what is kept: in Redis, as the settings file says, and what a server has counted.

    What lies in the memory of a server's workers, the server alone can tell: give its URL.
    """
    told: dict[str, Any] = {"model": model}
    if server is not None:
        told["server"] = counted(server, model)
    if server is None or model in Settings.read(config=config).caches:
        store, url = _place(Settings.read(config=config), model)
        if store == "memory" and server is None:
            raise BadSettings(
                f"the answers of {model} are in the memory of each worker; "
                "name the server: --server http://127.0.0.1:8000"
            )
        if url is not None:
            with _connected(url) as client:
                told["redis"] = [asdict(kept) for kept in _kept(client, model)]
    if as_json:
        print_json(told)
        return
    for kept in told.get("redis", ()):
        typer.echo(f"in Redis, package {kept['package']}: {kept['rows']} rows, {kept['bytes']} B")
    if told.get("redis") == []:
        typer.echo("in Redis: nothing")
    for name, value in told.get("server", {}).items():
        typer.echo(f"{name} {value:g}")


@app.command()
def clear(model: Model, config: Config = None, as_json: AsJson = False) -> None:
    """Remove what Redis keeps of a model's answers, of all its versions.

    What lies in the memory of workers goes when they do: reload the server (SIGHUP).
    """
    store, url = _place(Settings.read(config=config), model)
    if url is None:
        raise BadSettings(
            f"the answers of {model} are in the memory of each worker; reload the server (SIGHUP)"
        )
    with _connected(url) as client:
        rows = sum(client.unlink(*keys) for keys in _keys(client, model))
    if as_json:
        print_json({"model": model, "rows": rows})
        return
    typer.echo(f"{rows} rows of {model} are gone from Redis")
    if store == "tiered":
        typer.echo("workers still have theirs in memory; reload the server (SIGHUP)")


def _place(settings: Settings, model: str) -> tuple[str, str | None]:
    """The kind of store of `model`, and its Redis. Raises BadSettings."""
    cache = settings.caches.get(model)
    if cache is None:
        hint = nearest(model, settings.caches)
        raise BadSettings(f"no cache is set for {model!r}: [models.{model}.cache]{hint}")
    if cache.store == "memory":
        return cache.store, None
    url = cache.url or settings.cache_url
    if url is None:
        raise BadSettings(f"the cache of {model} is in Redis, and needs its url, or cache_url")
    return cache.store, url


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    """A client of the Redis at `url`. Raises MissingExtra, BadSettings, StoreFailed."""
    try:
        import redis
    except ImportError:
        words = "a cache in Redis needs the extra: pip install 'foretell[cache]'"
        raise MissingExtra(words) from None
    try:
        client = redis.Redis.from_url(url, socket_timeout=_GIVEN_UP_S)
    except ValueError as error:
        raise BadSettings(f"the URL of the cache's Redis cannot be used: {error}") from None
    with client:
        try:
            yield client
        except redis.RedisError as error:
            raise StoreFailed(f"Redis does not do it: {error}") from error


def _keys(client: Any, model: str) -> Iterator[list[bytes]]:
    """The keys of a model, some at a time: they may be changed meanwhile."""
    found: list[bytes] = []
    for key in client.scan_iter(match=prefix_of(model) + b"*", count=_AT_ONCE):
        found.append(key)
        if len(found) == _AT_ONCE:
            yield found
            found = []
    if found:
        yield found


def _kept(client: Any, model: str) -> list[Kept]:
    begins = len(prefix_of(model))
    rows: dict[str, int] = {}
    n_bytes: dict[str, int] = {}
    for keys in _keys(client, model):
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.strlen(key)
        for key, length in zip(keys, pipe.execute(), strict=True):
            package = key[begins:].partition(b"}")[0].decode(errors="replace")
            rows[package] = rows.get(package, 0) + 1
            n_bytes[package] = n_bytes.get(package, 0) + len(key) + length
    return [Kept(package, rows[package], n_bytes[package]) for package in sorted(rows)]
