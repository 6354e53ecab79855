"""Spark runs a job's parts on a cluster: executors take them with `mapInArrow`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from foretell.errors import MissingExtra
from foretell.transports.batch.engines.elsewhere import Deputy, Order, failed
from foretell.transports.batch.parts import PartStream

_GROUP = "foretell-batch"
_PARTITIONS_PER_CORE = 4


class SparkEngine:
    """The cluster of the session that is there, or of a new one on `master` (`local[4]`)."""

    def __init__(self, master: str | None) -> None:
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise MissingExtra("engine spark is not installed: install foretell[spark]") from error
        builder = SparkSession.builder.appName("foretell batch")
        self._cancelled = False
        self._session: Any = (builder.master(master) if master else builder).getOrCreate()

    def run(self, order: Order, streams: Sequence[PartStream]) -> None:
        """Have executors do the streams. Where one dies, Spark gives its streams to another."""
        context = self._session.sparkContext
        context.setJobGroup(_GROUP, "foretell batch", interruptOnCancel=True)
        most = _PARTITIONS_PER_CORE * context.defaultParallelism
        shared = context.broadcast(pickle.dumps(order))
        rows = [(bytearray(pickle.dumps(stream)),) for stream in streams]
        spread = context.parallelize(rows, min(len(rows), most))
        frame = self._session.createDataFrame(spread, "stream binary")
        try:
            frame.mapInArrow(_doer(shared), "done boolean").collect()
        except Exception as error:
            if not self._cancelled:
                raise failed("Spark", error) from error

    def cancel(self) -> None:
        """End the job; the session stays."""
        self._cancelled = True
        self._session.sparkContext.cancelJobGroup(_GROUP)


def _doer(shared: Any) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """What does the streams of one partition, in a process of an executor."""

    def do(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        deputy = Deputy(pickle.loads(shared.value))  # noqa: S301 - made by `run`
        for batch in batches:
            for stream in batch.column(0):
                deputy.do(pickle.loads(stream.as_py()))  # noqa: S301 - made by `run`
            yield pa.RecordBatch.from_pydict({"done": [True] * batch.num_rows})

    return do
