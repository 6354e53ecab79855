"""The process executor predicts in a process of its own: for Python code that holds the GIL.

The process loads the package itself. It ends when its pipe does, and Linux kills it when the
thread that started it ends: it never outlives the server, whatever its model does. When it
dies, the calls it had fail, and the next call starts another one.
"""

import pickle
import subprocess
import sys
from concurrent.futures import Future
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from foretell.core.batch import Batch
from foretell.core.field import Field
from foretell.engine.executors import ProcessDied, checked
from foretell.engine.executors.thread import ThreadExecutor
from foretell.errors import ModelFailed

START_S = 120.0
"""How long a process may take to load its model."""

_END_S = 2.0


class ModelProcess:
    """A child process that holds the package in `folder`; one thread at a time may ask it."""

    def __init__(self, folder: Path, outputs: tuple[Field, ...], *, threads: int) -> None:
        self._arguments = [str(folder), str(threads)]
        self._outputs = outputs
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None

    def start(self) -> None:
        """Start the process, and wait until its model is loaded. Raises ModelFailed."""
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "foretell.engine.executors.child", str(theirs.fileno())]
        with theirs:
            child = subprocess.Popen(  # noqa: S603 - our own module, under our own interpreter
                [*command, *self._arguments], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self._running = (child, ours)
        if not ours.poll(START_S):
            child.kill()
        self._answer(ours)

    def predict(self, batch: Batch) -> Batch:
        """The outputs of `batch`. Raises ModelFailed, naming what the model raised."""
        if self._running is None:
            self.start()
            assert self._running is not None  # noqa: S101 - for the type checker; start() sets it
        pipe = self._running[1]
        try:
            pipe.send_bytes(pickle.dumps(batch.columns, 5))
        except OSError:
            raise self._died() from None
        return Batch.from_columns(self._outputs, self._answer(pipe))

    def _answer(self, pipe: Connection) -> Any:
        try:
            columns, failure = pickle.loads(pipe.recv_bytes())  # noqa: S301 - our own child wrote it
        except (EOFError, OSError):
            raise self._died() from None
        if failure is not None:
            told, in_full = failure
            failed = ModelFailed(told)
            if in_full:
                failed.add_note(in_full)  # logs have it, callers don't
            raise failed
        return columns

    def _died(self) -> ProcessDied:
        return ProcessDied(f"its process died, exit code {self.stop()}; another one is started")

    def stop(self) -> int | None:
        """End the process, and return its exit code."""
        if self._running is None:
            return None
        (child, pipe), self._running = self._running, None
        pipe.close()
        try:
            return child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return None if self._running is None else self._running[0].pid


class ProcessExecutor(ThreadExecutor):
    """Runs a package in a child process; a thread waits for it."""

    def __init__(self, folder: Path, outputs: tuple[Field, ...], *, threads: int = 1) -> None:
        self.process = ModelProcess(folder, outputs, threads=threads)
        super().__init__(checked(self.process.predict, outputs))
        started: Future[None] = Future()

        def start() -> None:
            try:
                self.process.start()
            except Exception as error:  # noqa: BLE001 - carried to the caller
                started.set_exception(error)
            else:
                started.set_result(None)

        self.do(start)
        try:
            started.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """The process ends after what it has."""
        self.do(self.process.stop)
        super().close()
