"""The child is the process a model runs in: it loads a package, and answers until its pipe ends.

    python -m foretell.engine.executors.child FD FOLDER THREADS

Each answer is a pair: the output columns, or None and what failed: in a word, and in full, which
is the server's to log.
"""

import ctypes
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from foretell import runtimes
from foretell.core.batch import Batch
from foretell.core.field import Array
from foretell.engine.repository import read, verify
from foretell.errors import ForetellError

_PR_SET_PDEATHSIG = 1

Failure = tuple[str, str]


def main(fd: int, folder: Path, threads: int) -> None:
    """Serve `folder`'s model over the pipe on `fd` until its other end is closed."""
    _die_with_the_server()
    # The server ends this process by closing the pipe; a signal to the group is not for us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe = Connection(fd)
    # What the model forks must not keep the pipe open: the server would wait for an answer.
    os.set_inheritable(fd, False)
    os.register_at_fork(after_in_child=pipe.close)
    package = read(folder)
    inputs = package.manifest.signature.inputs
    try:
        verify(package)
        servable = runtimes.load(package.manifest, folder, threads=threads)
    except ForetellError as error:
        pipe.send_bytes(pickle.dumps((None, (error.message, ""))))
        return
    pipe.send_bytes(pickle.dumps(((), None)))
    while True:
        try:
            columns = pickle.loads(pipe.recv_bytes())  # noqa: S301 - the server that started us wrote it
        except EOFError:
            return
        try:
            outputs = servable.predict(Batch.from_columns(inputs, columns))
            answer: tuple[Sequence[Array] | None, Failure | None] = (outputs.columns, None)
        except BaseException as error:  # noqa: BLE001 - a model may raise anything; it is told
            answer = (None, (type(error).__name__, traceback.format_exc()))
        pipe.send_bytes(pickle.dumps(answer, 5))


def _die_with_the_server() -> None:
    """Ask the kernel for SIGKILL once the server is gone: a model that hangs reads no pipe."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
