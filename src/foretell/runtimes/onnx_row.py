"""A bound row is one row of a graph in memory of its own, which the graph reads and writes itself.

`InferenceSession.run` costs more than many a compiled model: it checks names, wraps the input and
makes an array for every output. Memory that is bound once spares all of that.

Rules:

1. Only numbers are bound, one input tensor of them; texts go through `run`.
2. A graph is bound when it answers a row of zeros as `run` does. One that refuses it, or whose
   outputs are not as large as it declares, is always asked through `run`.
3. One thread at a time uses the memory. Answers are copies.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from foretell.core.field import Array


class Bound(NamedTuple):
    """A tensor of one row: its name in the graph, element type and the sizes after the first.

    `answer` is the name it gets as an answer; `flat`: its one number is a scalar there.
    """

    name: str
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]
    answer: str = ""
    flat: bool = False


class BoundRow:
    """The memory of one row of a session's tensors."""

    __slots__ = ("_answers", "_binding", "_free", "_row", "_run")

    def __init__(self, session: Any, given: Bound, answers: Sequence[Bound]) -> None:
        self._run = session.run_with_iobinding
        self._free = threading.Lock()
        self._binding = session.io_binding()
        row = _bind(self._binding.bind_input, given)
        self._row = row[0]
        self._answers = []
        for answer in answers:
            memory = _bind(self._binding.bind_output, answer)
            self._answers.append((answer.answer, memory.reshape(-1) if answer.flat else memory))

    def answer(self, row: tuple[Any, ...]) -> dict[str, Array] | None:
        """The answers to `row`, each of one row; None while another thread is answered."""
        if not self._free.acquire(False):  # by keyword it takes twice as long
            return None
        try:
            self._row[:] = row
            self._run(self._binding)
            return {name: memory.copy() for name, memory in self._answers}
        finally:
            self._free.release()


def _bind(bind: Any, tensor: Bound) -> Array:
    memory = np.zeros((1, *tensor.sizes), tensor.dtype)
    place = memory.ctypes.data
    bind(tensor.name, "cpu", 0, memory.dtype, memory.shape, place)
    return memory


def bound_row(
    session: Any, given: Bound, answers: Sequence[Bound], options: Any
) -> BoundRow | None:
    """The bound row of `session`, None when it does not answer as `run` with `options`."""
    zeros = np.zeros((1, *given.sizes), given.dtype)
    try:
        expected = session.run([answer.name for answer in answers], {given.name: zeros}, options)
        bound = BoundRow(session, given, answers)
        found = bound.answer(tuple(zeros[0].tolist()))
    except Exception:  # noqa: BLE001  zeros may be what this graph refuses: `run` will serve it
        return None
    same = found is not None and all(
        np.array_equal(one.ravel(), other.ravel(), equal_nan=one.dtype.kind == "f")
        for one, other in zip(found.values(), expected, strict=True)
    )
    return bound if same else None
