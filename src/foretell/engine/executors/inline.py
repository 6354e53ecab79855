"""The inline executor predicts on the event loop: for models quicker than a thread's hop."""

from collections.abc import Sequence

from foretell.core.batch import Batch
from foretell.engine.executors import Outcome, Predict, attempt


class InlineExecutor:
    """Runs `predict` where it is called."""

    places = 1

    def __init__(self, predict: Predict, most_rows: int | None = None) -> None:
        self.most_rows = most_rows
        self._predict = predict

    def run(self, batches: Sequence[Batch]) -> list[Outcome]:
        """The outcomes, at once."""
        return attempt(self._predict, batches)

    def close(self) -> None:
        """Nothing is held."""
