"""The servers that can run the application: a table of import strings, h2corn the default.

A server runs until it is told to stop, and returns None; a start that fails raises a
ForetellError with the sentence to show. The application is built inside each worker.
"""

import gc
import logging
import os
import signal
import ssl
import threading
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any

from foretell.app.serving import exposing, leaving, lingering, sampling, scheduling
from foretell.app.serving.memory import keep_what_is_freed
from foretell.app.settings import Settings
from foretell.engine.notice import Notice
from foretell.errors import BadSettings, ForetellError, MissingExtra, StartFailed
from foretell.telemetry import logs
from foretell.telemetry.metrics import Metrics
from foretell.transports.rest.app import RestApp, metrics_app

Factory = Callable[[], RestApp]

SERVERS = {
    "h2corn": "foretell.app.serving.servers:run_h2corn",
    "uvicorn": "foretell.app.serving.servers:run_uvicorn",
}

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_log = logging.getLogger("foretell.server")


def run(
    factory: Factory, notice: Notice, settings: Settings, metrics: Metrics | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, of which `notice` tells first.

    `metrics` are what `settings.metrics_bind` is for. Raises ForetellError when the start fails.
    """
    for variable in _THREAD_VARIABLES:
        # Read by the libraries when a worker loads them; only `threads` itself goes before them.
        if "threads" in settings.model_fields_set or variable not in os.environ:
            os.environ[variable] = str(settings.threads)
    module, _, function = SERVERS[settings.server].partition(":")
    getattr(import_module(module), function)(factory, notice, settings, metrics)


def _entry_of(
    app: RestApp, notice: Notice, settings: Settings, metrics: Metrics | None
) -> leaving.Entry:
    """What answers all that comes to any address of the server."""
    entry: leaving.Entry = app.entry
    if metrics is not None and settings.metrics_bind is not None:
        entry = exposing.apart(entry, metrics_app(metrics.render), settings.metrics_bind)
    if settings.log_requests:
        entry = sampling.sampled(entry, settings.log_requests)
    return leaving.closing(entry, notice)


def settled(factory: Factory) -> RestApp:
    """The application, with all that was loaded for it taken out of the garbage collector's way.

    Libraries and models stay until the process ends. Looking through them took 60 to 130 ms,
    during which nobody was answered, whenever enough requests were in flight.
    """
    keep_what_is_freed()
    app = factory()
    gc.collect()
    gc.freeze()
    return app


def run_h2corn(
    factory: Factory, notice: Notice, settings: Settings, metrics: Metrics | None
) -> None:
    """Serve with h2corn: HTTP/1.1, HTTP/2 and gRPC, workers, TLS."""
    with leaving.announced(notice, settings.drain_grace_s):
        _serve_with_h2corn(factory, notice, settings, metrics)


def _serve_with_h2corn(
    factory: Factory, notice: Notice, settings: Settings, metrics: Metrics | None
) -> None:
    import h2corn

    report = _StartReport()
    exposed = () if settings.metrics_bind is None else (settings.metrics_bind,)
    try:
        config = h2corn.Config(
            bind=(*settings.bind, *exposed),
            workers=settings.workers,
            access_log=settings.access_log,
            log_format="text" if logs.is_pretty(settings.log_format) else "json",
            certfile=settings.certfile,
            keyfile=settings.keyfile,
            ca_certs=settings.client_cafile,
            cert_reqs="none" if settings.client_cafile is None else "required",
            timeout_graceful_shutdown=settings.shutdown_timeout_s,
            # The application refuses large bodies itself, in the one shape all failures have.
            max_request_body_size=0,
            grpc=True,
        )

        def entry_of(app: RestApp) -> leaving.Entry:
            return _entry_of(app, notice, settings, metrics)

        h2corn.serve(report.guard(factory, notice, entry_of), config, factory=True)
    except OSError as error:
        raise _cannot_listen(error, settings) from error
    except ValueError as error:
        raise StartFailed(f"the server does not take these settings: {error}") from error
    finally:
        report.close()
    if report.failure is not None:
        raise StartFailed(report.failure)


class _StartReport:
    """Carries a worker's start failure to the supervisor, and stops it: no crash loop."""

    def __init__(self) -> None:
        self.failure: str | None = None
        self._read, self._write = os.pipe()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def guard(
        self, factory: Factory, notice: Notice, entry_of: Callable[[RestApp], leaving.Entry]
    ) -> Callable[[], leaving.Entry]:
        """What makes the application's entry, with its failures reported."""

        def build() -> leaving.Entry:
            leaving.leave_signals_to_the_server()
            notice.arrive()
            try:
                app = settled(factory)
            except ForetellError as error:
                os.write(self._write, error.message.encode()[:4000])
            except Exception as error:  # noqa: BLE001 - reported, and the worker ends
                _log.exception("the application could not be built")
                os.write(self._write, f"the start failed: {error!r}".encode()[:4000])
            else:
                scheduling.follow(app.dataplane)
                lingering.linger(notice)
                return entry_of(app)
            # An exception would cross the server's event loop and come out as a traceback.
            os._exit(1)

        return build

    def _listen(self) -> None:
        told = os.read(self._read, 4096)
        if told:
            self.failure = told.decode(errors="replace")
            leaving.pass_on(signal.SIGTERM)

    def close(self) -> None:
        os.close(self._write)
        self._thread.join()
        os.close(self._read)


def run_uvicorn(
    factory: Factory, notice: Notice, settings: Settings, metrics: Metrics | None
) -> None:
    """Serve with uvicorn: HTTP/1.1 and HTTP/1.0 in one process, REST only."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtra("server uvicorn is not installed: install foretell[uvicorn]") from error
    if settings.workers != 1 or len(settings.bind) != 1:
        raise BadSettings("server uvicorn takes one bind and one worker; give --bind and --workers")
    config = uvicorn.Config(
        _entry_of(settled(factory), notice, settings, metrics),
        interface="asgi3",
        **_place(settings.bind[0]),
        log_level=settings.log_level,
        log_config=None,  # its lines are written like all others
        access_log=settings.access_log,
        ssl_certfile=settings.certfile,
        ssl_keyfile=settings.keyfile,
        ssl_ca_certs=None if settings.client_cafile is None else str(settings.client_cafile),
        ssl_cert_reqs=ssl.CERT_NONE if settings.client_cafile is None else ssl.CERT_REQUIRED,
        timeout_graceful_shutdown=int(settings.shutdown_timeout_s),
    )
    for stop in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal that stopped it again once it has ended; it was answered then.
        signal.signal(stop, lambda *_: None)

    class Server(uvicorn.Server):
        """Announces that it stops, and does so after the grace, or when told again."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            told_before = notice.stopping
            notice.give(stopping=True)
            if sig == signal.SIGTERM and not told_before:
                end = threading.Timer(settings.drain_grace_s, super().handle_exit, (sig, frame))
                end.daemon = True
                end.start()
            else:
                super().handle_exit(sig, frame)

    server = Server(config)
    try:
        sockets = None
        if settings.metrics_bind is not None:
            exposed = uvicorn.Config(config.app, **_place(settings.metrics_bind))
            sockets = [config.bind_socket(), exposed.bind_socket()]
        server.run(sockets)
    except SystemExit as error:
        if not server.started:
            raise _cannot_listen("the address is taken or not ours", settings) from error
        raise


def _place(address: str) -> dict[str, Any]:
    """An address as uvicorn takes it."""
    if address.startswith("unix:"):
        return {"uds": address.removeprefix("unix:")}
    host, _, port = address.rpartition(":")
    return {"host": host.strip("[]"), "port": int(port)}


def _cannot_listen(error: object, settings: Settings) -> StartFailed:
    exposed = () if settings.metrics_bind is None else (settings.metrics_bind,)
    return StartFailed(
        f"cannot listen on {' or '.join((*settings.bind, *exposed))}: {error}; "
        "choose other addresses with --bind HOST:PORT"
    )
