"""The batcher on a real event loop: who runs together, who fails alone, who gets what."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.core.admission import AdmissionLimits
from foretell.core.batch import Batch
from foretell.core.call import Answer, Call
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.planner import BatchLimits
from foretell.engine.batcher import Batcher
from foretell.engine.executors import Predict
from foretell.engine.executors.inline import InlineExecutor
from foretell.errors import DeadlineExceeded, ModelFailed

CALL = Call("")
FIELDS = (Field("x", Datatype.FP64),)


def batcher_of(predict: Predict, limits: BatchLimits, max_queue_rows: int = 100) -> Batcher:
    return Batcher(InlineExecutor(predict), limits, AdmissionLimits(max_queue_rows))


class Doubling:
    """A model that doubles, remembers its batches, and fails on negative numbers."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, batch: Batch) -> Batch:
        rows = batch.matrix[:, 0]
        self.batches.append(rows.tolist())
        if (rows < 0).any():
            raise ValueError(f"{rows[rows < 0][0]} is negative")
        return Batch.from_columns(FIELDS, [rows * 2])


def of(*values: float) -> Batch:
    return Batch.from_rows(FIELDS, [(value,) for value in values])


async def gathered(*asked: Awaitable[Answer]) -> list[Any]:
    """Each answer's values, or the error that came."""
    told = await asyncio.gather(*asked, return_exceptions=True)
    return [one.outputs.column("x").tolist() if isinstance(one, Answer) else one for one in told]


def test_requests_of_one_turn_run_together_and_each_gets_its_own() -> None:
    model = Doubling()

    async def scene() -> list[Any]:
        batcher = batcher_of(model, BatchLimits())
        return await gathered(
            batcher.submit(of(1), CALL), batcher.submit(of(2, 3), CALL), batcher.submit(of(4), CALL)
        )

    assert asyncio.run(scene()) == [[2], [4, 6], [8]]
    assert model.batches == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("most_rows", "sizes"),
    [(None, [2, 2, 2, 1]), (1, [1] * 7), (3, [3, 3, 1]), (6, [5, 2])],
    ids=["unknown", "slow", "between", "quick"],
)
def test_parts_are_larger_than_a_batch_only_where_they_are_known_to_be_short(
    most_rows: int | None, sizes: list[int]
) -> None:
    model = Doubling()

    async def scene() -> list[Any]:
        limits = BatchLimits(max_batch_rows=2, max_part_rows=5)
        batcher = Batcher(InlineExecutor(model, most_rows), limits, AdmissionLimits(100))
        return await gathered(batcher.submit(of(*range(7)), CALL))

    assert asyncio.run(scene()) == [[0, 2, 4, 6, 8, 10, 12]]
    assert [len(batch) for batch in model.batches] == sizes


def test_an_idle_model_arms_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> list[Any]:
        loop = asyncio.get_running_loop()

        def forbidden(*_: object, **__: object) -> None:
            raise AssertionError("a timer was armed")

        monkeypatch.setattr(loop, "call_at", forbidden)
        monkeypatch.setattr(loop, "call_later", forbidden)
        batcher = batcher_of(Doubling(), BatchLimits(max_batch_rows=2))
        return await gathered(*(batcher.submit(of(n), CALL) for n in range(5)))

    assert asyncio.run(scene()) == [[0], [2], [4], [6], [8]]


def test_a_wait_that_was_asked_for_gathers_later_requests() -> None:
    model = Doubling()

    async def scene() -> list[Any]:
        batcher = batcher_of(model, BatchLimits(max_wait_s=0.05))
        first = batcher.submit(of(1), CALL)
        for _ in range(3):  # turns of the loop go by
            await asyncio.sleep(0)
        return await gathered(first, batcher.submit(of(2), CALL))

    assert asyncio.run(scene()) == [[2], [4]]
    assert model.batches == [[1, 2]]


@given(st.lists(st.lists(st.integers(-2, 9), min_size=1, max_size=3), min_size=1, max_size=8))
def test_only_requests_with_guilty_rows_fail_each_with_its_own_error(
    requests: list[list[int]],
) -> None:
    async def scene() -> list[Any]:
        batcher = batcher_of(Doubling(), BatchLimits(max_batch_rows=6))
        return await gathered(*(batcher.submit(of(*values), CALL) for values in requests))

    for values, told in zip(requests, asyncio.run(scene()), strict=True):
        negative = [value for value in values if value < 0]
        if negative:
            assert isinstance(told, ValueError)
            assert str(told) == f"{float(negative[0])} is negative"
        else:
            assert told == [value * 2 for value in values]


def test_whoever_is_cancelled_does_not_run() -> None:
    model = Doubling()

    async def scene() -> list[Any]:
        batcher = batcher_of(model, BatchLimits(max_wait_s=0.01))
        asked = [batcher.submit(of(n), CALL) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        asked[1].cancel()
        return await gathered(*asked)

    first, gone, last = asyncio.run(scene())
    assert (first, last) == ([2], [6])
    assert isinstance(gone, asyncio.CancelledError)
    assert model.batches == [[1, 3]]


@pytest.mark.parametrize("kind", [SystemExit, StopIteration])
def test_errors_a_future_cannot_carry_are_carried_all_the_same(kind: type[BaseException]) -> None:
    def model(batch: Batch) -> Batch:
        raise kind

    async def scene() -> list[Any]:
        return await gathered(batcher_of(model, BatchLimits()).submit(of(1), CALL))

    (told,) = asyncio.run(scene())
    assert isinstance(told, ModelFailed)
    assert kind.__name__ in told.message


def test_requests_that_arrive_while_a_model_works_leave_together_after_it() -> None:
    batches: list[int] = []

    async def scene() -> None:
        later: list[asyncio.Future[Answer]] = []

        def model(batch: Batch) -> Batch:
            if not batches:  # the first batch: others arrive meanwhile
                later.extend(batcher.submit(of(n), CALL) for n in range(3))
            batches.append(batch.n_rows)
            return Batch.from_columns(FIELDS, [np.zeros(batch.n_rows)])

        batcher = batcher_of(model, BatchLimits())
        await batcher.submit(of(0), CALL)
        await asyncio.gather(*later)

    asyncio.run(scene())
    assert batches == [1, 3]


def test_parts_of_one_request_whose_answers_do_not_fit_together_fail_it() -> None:
    fields = (Field("x", Datatype.FP64, shape=(-1,)),)

    def widening(batch: Batch) -> Batch:
        width = int(batch.matrix.max())
        return Batch.from_columns(fields, [np.ones((batch.n_rows, width))])

    async def scene() -> list[Any]:
        batcher = batcher_of(widening, BatchLimits(max_batch_rows=2))
        async with asyncio.timeout(30):
            return await gathered(batcher.submit(of(1, 2, 3), CALL), batcher.submit(of(2), CALL))

    apart, whole = asyncio.run(scene())
    assert isinstance(apart, ModelFailed)
    assert whole == [[1.0, 1.0, 1.0]]


def test_a_timer_is_armed_only_for_a_deadline_that_outlives_its_turn() -> None:
    async def scene() -> list[tuple[int, list[Any]]]:
        loop, found = asyncio.get_running_loop(), []
        armed: list[float] = []
        call_at = loop.call_at

        def counting(when: float, *told: Any, **more: Any) -> asyncio.TimerHandle:
            armed.append(when)
            return call_at(when, *told, **more)

        loop.call_at = counting  # type: ignore[method-assign, assignment]
        for limits, deadline in (
            (BatchLimits(), loop.time() + 60),
            (BatchLimits(max_wait_s=60), loop.time() + 0.01),
        ):
            armed.clear()
            batcher = batcher_of(Doubling(), limits)
            answers = await gathered(batcher.submit(of(1.0), Call("", deadline)))
            found.append((armed.count(deadline), answers))
        return found

    (at_once, late) = asyncio.run(scene())
    assert at_once == (0, [[2.0]])
    assert late[0] == 1
    assert isinstance(late[1][0], DeadlineExceeded)
