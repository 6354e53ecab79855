"""The thread executor predicts in a thread of its own: for slow models that release the GIL."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from foretell.core.batch import Batch
from foretell.engine.executors import Outcome, Predict, attempt


class ThreadExecutor:
    """Runs `predict` in one thread; the event loop stays free."""

    places = 1

    def __init__(self, predict: Predict) -> None:
        self.predict = predict
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="foretell-model")

    def run(self, batches: Sequence[Batch]) -> "asyncio.Future[list[Outcome]]":
        """The outcomes, when the thread has them."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self.pool, attempt, self.predict, batches)

    def close(self) -> None:
        """The thread ends after what it has."""
        self.pool.shutdown(wait=False)
