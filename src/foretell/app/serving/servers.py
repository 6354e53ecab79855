"""The servers that can run the application: a table of import strings, h2corn the default.

A server runs until it is told to stop, and returns None; a start that fails raises a
ForetellError with the sentence to show. The application is built inside each worker.
"""

import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from importlib import import_module
from types import FrameType

from foretell.app.serving import leaving, lingering, scheduling
from foretell.app.serving.memory import keep_what_is_freed
from foretell.app.settings import Settings
from foretell.engine.notice import Notice
from foretell.errors import BadSettings, ForetellError, MissingExtra, StartFailed
from foretell.transports.rest.app import RestApp

Factory = Callable[[], RestApp]

SERVERS = {
    "h2corn": "foretell.app.serving.servers:run_h2corn",
    "uvicorn": "foretell.app.serving.servers:run_uvicorn",
}

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_log = logging.getLogger("foretell.server")


def run(factory: Factory, notice: Notice, settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, of which `notice` tells first.

    Raises ForetellError when the start fails.
    """
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    for variable in _THREAD_VARIABLES:
        # Read by the libraries when a worker loads them; only `threads` itself goes before them.
        if "threads" in settings.model_fields_set or variable not in os.environ:
            os.environ[variable] = str(settings.threads)
    module, _, function = SERVERS[settings.server].partition(":")
    getattr(import_module(module), function)(factory, notice, settings)


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


def run_h2corn(factory: Factory, notice: Notice, settings: Settings) -> None:
    """Serve with h2corn: HTTP/1.1, HTTP/2 and gRPC, workers, TLS."""
    with leaving.announced(notice, settings.drain_grace_s):
        _serve_with_h2corn(factory, notice, settings)


def _serve_with_h2corn(factory: Factory, notice: Notice, settings: Settings) -> None:
    import h2corn

    report = _StartReport()
    try:
        config = h2corn.Config(
            bind=settings.bind,
            workers=settings.workers,
            access_log=settings.access_log,
            certfile=settings.certfile,
            keyfile=settings.keyfile,
            timeout_graceful_shutdown=settings.shutdown_timeout_s,
            # The application refuses large bodies itself, in the one shape all failures have.
            max_request_body_size=0,
            grpc=True,
        )
        h2corn.serve(report.guard(factory, notice), config, factory=True)
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

    def guard(self, factory: Factory, notice: Notice) -> Callable[[], leaving.Entry]:
        """What makes the application's entry, with its failures reported."""

        def build() -> leaving.Entry:
            leaving.hear_signals()
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
                return leaving.closing(app.entry, notice)
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


def run_uvicorn(factory: Factory, notice: Notice, settings: Settings) -> None:
    """Serve with uvicorn: HTTP/1.1 and HTTP/1.0 in one process, REST only."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtra("server uvicorn is not installed: install foretell[uvicorn]") from error
    if settings.workers != 1 or len(settings.bind) != 1:
        raise BadSettings("server uvicorn takes one bind and one worker; give --bind and --workers")
    address = settings.bind[0]
    host, _, port = address.rpartition(":")
    place = (
        {"uds": address.removeprefix("unix:")}
        if address.startswith("unix:")
        else {"host": host.strip("[]"), "port": int(port)}
    )
    config = uvicorn.Config(
        leaving.closing(settled(factory).entry, notice),
        interface="asgi3",
        **place,
        log_level=settings.log_level,
        access_log=settings.access_log,
        ssl_certfile=settings.certfile,
        ssl_keyfile=settings.keyfile,
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
        server.run()
    except SystemExit as error:
        if not server.started:
            raise _cannot_listen("the address is taken or not ours", settings) from error
        raise


def _cannot_listen(error: object, settings: Settings) -> StartFailed:
    return StartFailed(
        f"cannot listen on {' or '.join(settings.bind)}: {error}; "
        "choose other addresses with --bind HOST:PORT"
    )
