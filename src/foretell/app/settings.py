"""Settings are everything one can choose about a server, in one frozen record.

Rules:

1. `foretell.toml`, `FORETELL_*` variables and command-line flags are derived from the fields
   below; a later one of these three wins over an earlier one. Nothing else reads the environment.
   What is set for single models stands in the file alone.
2. A key that is not a field, and a value that is out of range, is refused with the nearest
   valid one, wherever it came from.
3. Units are in the names.
"""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from foretell.app.access import choices as access
from foretell.app.caching.choices import CacheSettings, CacheUrl, ModelSettings
from foretell.core.field import spoken
from foretell.engine.executors.choosing import ExecutorKind
from foretell.errors import BadSettings

PREFIX = "FORETELL_"
CONFIG_FILE = "foretell.toml"
TABLES = ("batch", "client", "loadtest")
"""The tables of the file, each for settings of their own; what stands outside is the server's."""

# Kubernetes sets these in every pod when a Service is called "foretell".
_SERVICE_VARIABLES = ("FORETELL_SERVICE_", "FORETELL_PORT")


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """Where packages made from raw model files are kept (XDG Base Directory)."""
    root = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/tmp"), ".cache")  # noqa: S108 - the last resort where there is no home
    return Path(root) / "foretell"


class Readable(BaseModel):
    """Settings that a file, the environment and flags may tell of.

    With a `table` they stand in that table of the file, and in variables of that name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    table: ClassVar[str | None] = None
    in_the_file: ClassVar[tuple[str, ...]] = ()
    """Fields that nothing but the file tells of."""

    @classmethod
    def read(
        cls,
        flags: Mapping[str, Any] | None = None,
        *,
        config: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Settings from `config` (or ./foretell.toml, if there), the environment, and `flags`.

        Raises BadSettings, which says where the value came from.
        """
        environ = os.environ if environ is None else environ
        if config is None and Path(CONFIG_FILE).is_file():
            config = Path(CONFIG_FILE)
        told: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for where, values in (
            (str(config), _from_file(config, cls.table)),
            ("the environment", _from_environment(environ, cls.model_fields, cls.table)),
            ("the command line", flags or {}),
        ):
            for key, value in values.items():
                if key not in cls.model_fields:
                    raise _unknown(key, where, cls.model_fields)
                if key in cls.in_the_file and where != str(config):
                    raise BadSettings(f"{key} stands in the settings file, not in {where}")
                if isinstance(value, bool) and cls.model_fields[key].annotation is not bool:
                    raise BadSettings(f"{key} is {spoken(value)} (from {where}), which it can't be")
                told[key], origin[key] = value, where
        try:
            return cls.model_validate(told)
        except ValidationError as error:
            raise BadSettings(_explain(cls, error, origin)) from None


class Settings(Readable):
    """How a server runs. Raises pydantic.ValidationError; `read` raises BadSettings."""

    in_the_file: ClassVar[tuple[str, ...]] = ("models",)

    bind: Annotated[
        tuple[str, ...],
        Field(
            min_length=1, description="Addresses to listen on: HOST:PORT, [IPV6]:PORT or unix:PATH"
        ),
    ] = ("127.0.0.1:8000", "127.0.0.1:50051")
    workers: Annotated[int, Field(ge=1, le=512, description="Worker processes")] = 1
    default_model: Annotated[
        str | None, Field(description="The model that /predict asks when several are served")
    ] = None
    server: Annotated[
        Literal["h2corn", "uvicorn"],
        Field(description="The ASGI server; uvicorn needs the extra of that name"),
    ] = "h2corn"
    log_level: Annotated[
        Literal["critical", "error", "warning", "info", "debug"],
        Field(description="The least severe level that is logged"),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "pretty"],
        Field(description="How lines are written; auto: pretty on a terminal, else JSON"),
    ] = "auto"
    log_requests: Annotated[
        float, Field(ge=0, le=1, description="The share of requests that have a line each")
    ] = 0.0
    log_values: Annotated[
        bool, Field(description="Let the log quote what clients sent when it is refused")
    ] = False
    access_log: Annotated[bool, Field(description="Log every request to stderr")] = False
    max_body_bytes: Annotated[
        int, Field(ge=1, description="The largest request body accepted, in bytes")
    ] = 64 * 2**20
    max_body_bytes_in_flight: Annotated[
        int,
        Field(
            ge=1,
            description="The most bytes of all bodies that a worker holds at a time before 429",
        ),
    ] = 256 * 2**20
    max_rows: Annotated[int, Field(ge=1, description="The most rows accepted in one request")] = (
        100_000
    )
    max_batch_rows: Annotated[
        int, Field(ge=1, description="The most rows of concurrent requests that run together")
    ] = 1024
    max_wait_ms: Annotated[
        float,
        Field(
            ge=0,
            le=60_000,
            description="How long a request may be kept for company while its model is free",
        ),
    ] = 0.0
    max_queue_rows: Annotated[
        int, Field(ge=1, description="The most rows that may wait for one model before 429")
    ] = 100_000
    metrics: Annotated[
        bool, Field(description="Count what is served, and tell Prometheus at /metrics")
    ] = True
    metrics_bind: Annotated[
        str | None,
        Field(description="An address for /metrics alone, which the others do not answer then"),
    ] = None
    latency_buckets_s: Annotated[
        tuple[float, ...],
        Field(min_length=1, max_length=100, description="Upper bounds of the buckets of times"),
    ] = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
    model_control: Annotated[bool, Field(description="Let requests load and unload models")] = False
    keys_file: access.KeysFile = None
    jwt_issuer: access.JwtIssuer = None
    jwt_audience: access.JwtAudience = None
    jwt_jwks: access.JwtJwks = None
    jwt_scope_claim: access.JwtScopeClaim = "scope"
    jwt_leeway_s: access.JwtLeewayS = 30.0
    rate_limit: access.RateLimit = None
    rate_burst: access.RateBurst = None
    executor: Annotated[
        tuple[str, ...],
        Field(
            description="Where models run: auto, inline, thread or process; "
            "MODEL=KIND for one model"
        ),
    ] = ("auto",)
    threads: Annotated[
        int, Field(ge=1, le=1024, description="Threads a model's framework may use in each worker")
    ] = 1
    certfile: access.CertFile = None
    keyfile: access.KeyFile = None
    client_cafile: access.ClientCaFile = None
    drain_grace_s: Annotated[
        float,
        Field(
            ge=0,
            le=3600,
            description="How long to go on serving after SIGTERM, not ready any more and closing "
            "connections: at least what a load balancer takes to notice",
        ),
    ] = 0.25
    shutdown_timeout_s: Annotated[
        float,
        Field(gt=0, le=3600, description="How long requests in flight may take when stopping"),
    ] = 30.0
    cache_dir: Annotated[
        Path, Field(description="Where packages made from raw model files are kept")
    ] = Field(default_factory=lambda: default_cache_dir(os.environ))
    cache_url: CacheUrl = None
    models: Annotated[
        Mapping[str, ModelSettings], Field(description="What is set for single models, by name")
    ] = Field(default_factory=dict)

    @field_validator("bind", "executor", "latency_buckets_s", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """A string may name several, with commas between them, also one of many."""
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list | tuple) or not all(isinstance(w, str) for w in words):
            return value
        return tuple(part.strip() for word in words for part in word.split(","))

    @field_validator("bind")
    @classmethod
    def _check_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            _port_of(address)
        return value

    @field_validator("metrics_bind")
    @classmethod
    def _check_metrics_address(cls, value: str | None) -> str | None:
        if value is not None and _port_of(value) == "0":
            raise ValueError("Prometheus must know the port; take another one than 0")
        return value

    @field_validator("latency_buckets_s")
    @classmethod
    def _check_buckets(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        rising = all(low < high for low, high in pairwise((0.0, *value)))
        if not rising or not math.isfinite(value[-1]):
            raise ValueError("each bound must be above 0 and above the one before it")
        return value

    @field_validator("executor")
    @classmethod
    def _check_executors(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            kind = word.rpartition("=")[2]
            if kind not in list(ExecutorKind):
                known = ", ".join(ExecutorKind)
                hint = nearest(kind, ExecutorKind)
                raise ValueError(f"{kind!r} is no executor, there are {known}{hint}")
        return value

    def executor_of(self, model: str) -> ExecutorKind:
        """The kind that was set for `model`, or for all models."""
        kinds = {word.rpartition("=")[0]: word.rpartition("=")[2] for word in self.executor}
        return ExecutorKind(kinds.get(model, kinds.get("", ExecutorKind.AUTO)))

    @property
    def caches(self) -> dict[str, CacheSettings]:
        """How the answers of models are kept, by name; of others they are not."""
        told = {name: one.cache for name, one in self.models.items()}
        return {name: cache for name, cache in told.items() if cache is not None}

    @model_validator(mode="after")
    def _keep_metrics_apart(self) -> Settings:
        if self.metrics_bind is not None:
            if not self.metrics:
                raise ValueError("metrics_bind is the address of metrics; metrics is off")
            # Requests tell their port, not the address that was bound.
            if _port_of(self.metrics_bind) in map(_port_of, self.bind):
                raise ValueError("metrics_bind needs a port that no other bind has")
        return self

    @model_validator(mode="after")
    def _keep_safe(self) -> Settings:
        access.refuse_what_does_not_fit(self)
        return self


class ClientSettings(Readable):
    """How `foretell predict` asks servers; `[client]` in the file, FORETELL_CLIENT_* beside it."""

    table: ClassVar[str | None] = "client"

    timeout_s: Annotated[
        float, Field(gt=0, description="How long a call may take, with all its retries")
    ] = 30.0
    api_key: Annotated[
        str | None,
        Field(
            repr=False,
            description="Sent as a bearer token; others see flags, so rather set "
            "FORETELL_CLIENT_API_KEY",
        ),
    ] = None
    balance: Annotated[
        Literal["round_robin", "least_outstanding", "hash", "weighted"],
        Field(description="Which of several servers takes a call"),
    ] = "round_robin"
    attempts: Annotated[
        int, Field(ge=1, le=100, description="How often a call may be sent in all")
    ] = 4
    max_reply_bytes: Annotated[
        int, Field(ge=1, lt=2**31, description="The largest answer that is taken, in bytes")
    ] = 256 * 2**20
    cafile: Annotated[
        Path | None, Field(description="PEM certificates of the authorities to trust over TLS")
    ] = None
    certfile: Annotated[
        Path | None, Field(description="The client's own PEM certificate, for servers that ask")
    ] = None
    keyfile: Annotated[Path | None, Field(description="The certificate's PEM private key")] = None

    @model_validator(mode="after")
    def _pair_tls_files(self) -> ClientSettings:
        if self.keyfile is not None and self.certfile is None:
            raise ValueError("keyfile is the key of a certificate; certfile is missing")
        return self

    @property
    def cert(self) -> Path | tuple[Path, Path] | None:
        """The client's certificate, as a client takes it."""
        if self.certfile is None or self.keyfile is None:
            return self.certfile
        return self.certfile, self.keyfile


def _port_of(address: str) -> str:
    """The port, or all of `unix:PATH`. Raises ValueError for what is no address."""
    if address.startswith("unix:") and len(address) > len("unix:"):
        return address
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is no address; take HOST:PORT, as in 127.0.0.1:8000")
    return str(int(port))


def _from_file(config: Path | None, table: str | None) -> Mapping[str, Any]:
    if config is None:
        return {}
    try:
        told = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"the settings file {config} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"the settings file {config} is not TOML: {error}") from error
    tables = {name: told.pop(name, {}) for name in TABLES}
    if table is None:
        return told
    if not isinstance(tables[table], dict):
        raise BadSettings(f"{table} in {config} must be a table: [{table}]")
    own: Mapping[str, Any] = tables[table]
    return own


def _from_environment(
    environ: Mapping[str, str], known: Iterable[str], table: str | None
) -> dict[str, str]:
    prefix = PREFIX if table is None else f"{PREFIX}{table.upper()}_"
    others = () if table else tuple(f"{PREFIX}{name.upper()}_" for name in TABLES)
    told = {}
    for name, value in environ.items():
        if name.startswith(prefix) and not name.startswith(others):
            key = name.removeprefix(prefix).lower()
            if key in known or not name.startswith(_SERVICE_VARIABLES):
                told[key] = value
    return told


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word closest to `word`; empty when none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown(key: str, where: str, known: Iterable[str]) -> BadSettings:
    hint = nearest(key, known) or f"; there are {', '.join(known)}"
    return BadSettings(f"there is no setting {key!r} (from {where}){hint}")


def _explain(cls: type[Readable], error: ValidationError, origin: Mapping[str, str]) -> str:
    """The first failure as one sentence: which setting, from where, what it must be."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be", "must be")
    if not first["loc"]:
        return message
    key, value = str(first["loc"][0]), first["input"]
    if key in cls.in_the_file and len(first["loc"]) > 1:
        within = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            return f"there is no setting {within} (from {origin[key]})"
        return f"{within} is {spoken(value)} (from {origin[key]}), but {message}"
    hint = ""
    annotation = cls.model_fields[key].annotation
    if get_origin(annotation) is Literal:
        hint = nearest(str(value), get_args(annotation))
    return f"{key} is {value!r} (from {origin.get(key, 'the default')}), but {message}{hint}"
