"""Choosing finds the executor a model needs, by measuring it when it is warmed.

Rules:

1. A model that answers its example in under `INLINE_S` runs on the event loop: a hop to a
   thread costs about as much. The best of many tries counts: a busy machine only slows down.
2. A slower one runs in a thread, unless it computes in Python: such a thread gives the
   interpreter back only every 5 ms (`sys.getswitchinterval`), or never while it is inside one
   call, and the event loop would wait that long for each of its turns. It gets a process.
3. On the event loop, a batch takes at most about `INLINE_BATCH_S`: no more rows run at a time
   than a measured batch says, and others have their turn in between.
"""

import enum
import logging
import threading
import time

from foretell.core.batch import Batch
from foretell.engine.executors import Predict

INLINE_S = 200e-6
INLINE_BATCH_S = 0.005
STALL_S = 0.004
"""Kept from running for so long, another thread shares the interpreter with Python code."""

_LONG_S = 0.03
"""A prediction that takes so long tells whether it lets others run."""

_INLINE_TRIES_S = 0.05
_STALL_TRIES = 3
_BATCH_TRIES = 3
_MOST_TRIED = 4096

_log = logging.getLogger("foretell.engine")


class ExecutorKind(enum.StrEnum):
    """Where a model may run; `auto` measures."""

    AUTO = "auto"
    INLINE = "inline"
    THREAD = "thread"
    PROCESS = "process"


def choose(predict: Predict, example: Batch) -> ExecutorKind:
    """The executor for a model that was warmed. Raises what the model raises."""
    give_up = time.perf_counter() + _INLINE_TRIES_S
    while time.perf_counter() < give_up:
        if _seconds(predict, example) < INLINE_S:
            return ExecutorKind.INLINE
    return ExecutorKind.PROCESS if _stalls(predict, example) else ExecutorKind.THREAD


def needs_process(predict: Predict, example: Batch) -> bool:
    """Whether many rows like the example keep other threads from running: Python computes them.

    Raises what the model raises of a row alone.
    """
    for n_rows in (1, 16, 256, _MOST_TRIED):
        many = Batch.from_rows(example.fields, list(example.rows) * n_rows)
        try:
            seconds = _seconds(predict, many)
        except Exception:
            if n_rows == 1:
                raise
            return False  # it takes no more: each call is short
        if seconds > _LONG_S:
            break
    return seconds > STALL_S and _stalls(predict, many)


def _stalls(predict: Predict, batch: Batch) -> bool:
    # One try that lets others run is enough: what else is busy here can only hold them up.
    return all(_stalled(predict, batch) > 0.5 for _ in range(_STALL_TRIES))


def inline_rows(predict: Predict, example: Batch) -> int:
    """How many rows run in about `INLINE_BATCH_S`: at least one."""
    n_rows = most = 1
    while n_rows < _MOST_TRIED:
        n_rows *= 8
        many = Batch.from_rows(example.fields, list(example.rows) * n_rows)
        try:
            seconds = min(_seconds(predict, many) for _ in range(_BATCH_TRIES))
        except Exception as error:  # noqa: BLE001 - a model may raise anything, and one row is enough
            _log.info("the model answers one row, but %d rows fail: %r", n_rows, error)
            return most
        most = max(1, int(n_rows * INLINE_BATCH_S / seconds))
        if seconds > INLINE_BATCH_S / 8:
            break
    return most


def _seconds(predict: Predict, batch: Batch) -> float:
    before = time.perf_counter()
    predict(batch)
    return time.perf_counter() - before


def _stalled(predict: Predict, example: Batch) -> float:
    """The share of a prediction's time for which it kept this thread from running."""
    other = threading.Thread(target=predict, args=(example,))
    stalled, start = 0.0, time.perf_counter()
    other.start()
    before = start
    while other.is_alive():
        time.sleep(0.0005)
        now = time.perf_counter()
        stalled += now - before if now - before > STALL_S else 0.0
        before = now
    return stalled / (time.perf_counter() - start)
