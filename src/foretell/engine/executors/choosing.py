"""Choosing finds the executor a model needs, by measuring it when it is warmed.

Rules:

1. A model that answers its example in under `INLINE_S` runs on the event loop: a hop to a
   thread costs about as much.
2. A slower one runs in a thread, unless it keeps the other threads from running for longer
   than `STALL_S`: then the whole server would stand still with it, and it gets a process.
"""

import enum
import threading
import time

from foretell.core.batch import Batch
from foretell.engine.executors import Predict

INLINE_S = 200e-6
STALL_S = 0.025
_TRIES = 3


class ExecutorKind(enum.StrEnum):
    """Where a model may run; `auto` measures."""

    AUTO = "auto"
    INLINE = "inline"
    THREAD = "thread"
    PROCESS = "process"


def choose(predict: Predict, example: Batch) -> ExecutorKind:
    """The executor for a model that was warmed. Raises what the model raises."""
    if min(_seconds(predict, example) for _ in range(_TRIES)) < INLINE_S:
        return ExecutorKind.INLINE
    if min(_stall(predict, example) for _ in range(_TRIES)) > STALL_S:
        return ExecutorKind.PROCESS
    return ExecutorKind.THREAD


def _seconds(predict: Predict, example: Batch) -> float:
    before = time.perf_counter()
    predict(example)
    return time.perf_counter() - before


def _stall(predict: Predict, example: Batch) -> float:
    """The longest this thread was kept from running while another one predicted, in seconds."""
    other = threading.Thread(target=predict, args=(example,))
    longest, before = 0.0, time.perf_counter()
    other.start()
    while other.is_alive():
        time.sleep(0.001)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    return longest
