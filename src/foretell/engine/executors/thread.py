"""The thread executor predicts in a thread of its own: for slow models that release the GIL.

The thread is a daemon: a model that never comes back does not keep the server from ending.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from foretell.core.batch import Batch
from foretell.engine.executors import Outcome, Predict, attempt


class ThreadExecutor:
    """Runs `predict` in one thread; the event loop stays free."""

    places = 1
    most_rows: int | None = None

    def __init__(self, predict: Predict) -> None:
        self.predict = predict
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, batches: Sequence[Batch]) -> "asyncio.Future[list[Outcome]]":
        """The outcomes, when the thread has them."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Outcome]] = loop.create_future()

        def work() -> None:
            outcomes = attempt(self.predict, batches)
            if not loop.is_closed():
                loop.call_soon_threadsafe(_tell, future, outcomes)

        self.do(work)
        return future

    def do(self, work: Callable[[], object]) -> None:
        """Do `work`, which raises nothing, in the thread, after what it was given before."""
        self._work.put(work)
        if self._thread is None:  # not before it is needed: a process that forks keeps no threads
            self._thread = threading.Thread(target=self._live, name="foretell-model", daemon=True)
            self._thread.start()

    def _live(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            work()
            del work  # and the rows it holds

    def close(self) -> None:
        """The thread ends after what it has."""
        self._work.put(None)

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the thread of a closed executor has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)


def _tell(future: "asyncio.Future[list[Outcome]]", outcomes: list[Outcome]) -> None:
    if not future.done():
        future.set_result(outcomes)
