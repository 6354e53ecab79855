"""A cached batcher: equal rows run once, whoever leaves, and every caller gets its own rows."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.core.admission import AdmissionLimits
from foretell.core.batch import Batch
from foretell.core.call import Answer, CacheStatus, CacheUse, Call
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.manifest import Manifest, Step
from foretell.core.planner import BatchLimits
from foretell.core.signature import Signature
from foretell.engine.batcher import Batcher
from foretell.engine.executors import Outcome, attempt
from foretell.engine.hooks import BatchBegan, BatchEnded, CacheHeld, CacheUsed, Dropped
from foretell.engine.stores.cached import Cached
from foretell.engine.stores.flight import Runs
from foretell.engine.stores.memory import MemoryStore
from foretell.errors import DeadlineExceeded, ModelFailed, Overloaded

FIELDS = (Field("x", Datatype.FP64),)
OUTPUTS = (Field("prediction", Datatype.FP64), Field("times", Datatype.INT64))
LONG = Call("long")


class Told:
    """Who is told, and adds it all up."""

    def __init__(self) -> None:
        self.answered = self.failed = self.hits = self.joined = self.misses = self.bypassed = 0
        self.drops: list[Dropped] = []
        self.held = CacheHeld(0, 0, 0, 0, 0)
        self.saved_s = 0.0

    def began(self, event: BatchBegan) -> None: ...

    def waiting(self, n_rows: int) -> None: ...

    def ended(self, event: BatchEnded) -> None:
        self.answered += len(event.answered_s)
        self.failed += len(event.failed_s)

    def dropped(self, why: Dropped) -> None:
        self.drops.append(why)

    def cache_used(self, event: CacheUsed) -> None:
        self.answered += len(event.answered_s)
        self.failed += len(event.failed_s)
        self.hits += event.hits
        self.joined += event.joined
        self.misses += event.misses
        self.bypassed += event.bypassed
        self.saved_s += event.saved_s

    def cache_held(self, event: CacheHeld) -> None:
        self.held = event


class Model:
    """Doubles, counts how often each row ran, and fails on negative numbers.

    While `held`, what is asked stays out until `let_go`.
    """

    places, most_rows = 1, None

    def __init__(self) -> None:
        self.ran: list[list[float]] = []
        self.held = False
        self._out: list[tuple[asyncio.Future[list[Outcome]], Sequence[Batch]]] = []

    def run(self, batches: Sequence[Batch]) -> list[Outcome] | asyncio.Future[list[Outcome]]:
        if not self.held:
            return attempt(self._predict, batches)
        future: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._out.append((future, batches))
        return future

    def let_go(self) -> None:
        out, self._out = self._out, []
        for future, batches in out:
            future.set_result(attempt(self._predict, batches))

    def _predict(self, batch: Batch) -> Batch:
        rows = batch.columns[0].tolist()
        self.ran.append(rows)
        if min(rows) < 0:
            raise ValueError(f"{min(rows)} is negative")
        times = [sum(one.count(row) for one in self.ran) for row in rows]
        return Batch.from_columns(OUTPUTS, [np.array(rows) * 2, np.array(times)])

    def close(self) -> None: ...


def told_so(error: Exception, call: Call) -> Exception:
    return ModelFailed(f"{error}, under {call.request_id}")


class Scene:
    """A cached batcher around a model."""

    def __init__(self, most_rows: int = 100, max_queue_rows: int = 100) -> None:
        self.model, self.told = Model(), Told()
        batcher = Batcher(
            self.model,
            BatchLimits(),
            AdmissionLimits(max_queue_rows),
            version=("m", "1"),
            told=told_so,
            listener=Runs(self.told),
        )
        manifest = Manifest(
            name="m",
            version="1",
            created_at="2026-01-01T00:00:00Z",
            signature=Signature(FIELDS, OUTPUTS),
            steps=(Step("python", ()),),
            files=(),
        )
        self.store = MemoryStore(10**6)
        self.cached = Cached(batcher, self.store, manifest, most_rows=most_rows, listener=self.told)

    def ask(self, *rows: float, call: Call = LONG) -> asyncio.Future[Answer]:
        return self.cached.submit(Batch.from_rows(FIELDS, [(row,) for row in rows]), call)

    async def asked(self, *rows: float, call: Call = LONG) -> tuple[list[float], CacheStatus]:
        answer = await self.ask(*rows, call=call)
        assert answer.cache is not None
        assert answer.outputs.n_rows == len(rows)
        return answer.outputs.columns[0].tolist(), answer.cache


def played(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 20))


async def turns() -> None:
    """Let all that is ready happen."""
    for _ in range(5):
        await asyncio.sleep(0)


async def errors(*asked: Awaitable[Answer]) -> list[BaseException]:
    told = await asyncio.gather(*asked, return_exceptions=True)
    return [one for one in told if isinstance(one, BaseException)]


def test_a_row_that_was_answered_is_not_run_again() -> None:
    async def scene() -> None:
        one = Scene()
        assert await one.asked(1.0) == ([2.0], CacheStatus(0, 0, 1))
        assert await one.asked(1.0) == ([2.0], CacheStatus(1, 0, 0))
        assert one.model.ran == [[1.0]]
        assert (one.told.answered, one.told.hits, one.told.misses) == (2, 1, 1)
        assert (one.told.held.entries, one.told.held.n_bytes) == (1, one.store.counts.n_bytes)
        assert one.told.saved_s > 0

    played(scene)


def test_hits_of_one_turn_are_answered_together_at_its_end() -> None:
    async def scene() -> None:
        one = Scene()
        await one.asked(1.0)
        hits = [one.ask(1.0) for _ in range(3)]
        assert not any(hit.done() for hit in hits)
        hits[1].cancel()
        await asyncio.sleep(0)
        assert all(hit.done() for hit in hits)
        assert (one.told.hits, one.told.drops) == (2, [Dropped.CANCELLED])

    played(scene)


def test_only_the_rows_that_miss_run_and_all_come_back_in_their_order() -> None:
    async def scene() -> None:
        one = Scene()
        await one.asked(2.0, 4.0)
        told = await one.asked(1.0, 2.0, 3.0, 1.0, 4.0)
        assert told == ([2.0, 4.0, 6.0, 2.0, 8.0], CacheStatus(2, 1, 2))
        assert one.model.ran == [[2.0, 4.0], [1.0, 3.0]]
        assert (await one.asked(4.0, 3.0))[1] == CacheStatus(2, 0, 0)
        assert one.told.answered == 3

    played(scene)


def test_equal_rows_at_the_same_time_run_once() -> None:
    async def scene() -> None:
        one = Scene()
        one.model.held = True
        waiting = [asyncio.ensure_future(one.asked(1.0)) for _ in range(50)]
        both = asyncio.ensure_future(one.asked(2.0, 1.0))
        await turns()
        one.model.let_go()
        await turns()
        one.model.let_go()
        assert [(await told)[0] for told in waiting] == [[2.0]] * 50
        assert await both == ([4.0, 2.0], CacheStatus(0, 1, 1))
        assert sorted(itertools.chain(*one.model.ran)) == [1.0, 2.0]
        assert (one.told.answered, one.told.joined, one.told.misses) == (51, 50, 2)

    played(scene)


def test_one_failure_fails_all_that_wait_once_and_is_not_kept() -> None:
    async def scene() -> None:
        one = Scene()
        one.model.held = True
        asked = [one.ask(-1.0, call=Call(str(number))) for number in range(5)]
        await turns()
        one.model.let_go()
        failed = await errors(*asked)
        assert [str(error) for error in failed] == ["-1.0 is negative, under 0"] * 5
        assert len({id(error) for error in failed}) == 5  # a door writes the row on its own
        assert one.model.ran == [[-1.0]]
        assert (one.told.failed, one.told.answered, len(one.store)) == (5, 0, 0)
        one.model.held = False
        assert len(await errors(one.ask(-1.0))) == 1
        assert one.model.ran == [[-1.0], [-1.0]]

    played(scene)


def test_somebody_elses_bad_row_fails_nobody_who_wants_the_good_ones_beside_it() -> None:
    async def scene() -> None:
        one = Scene()
        one.model.held = True
        bad, good = one.ask(1.0, -1.0), one.ask(1.0)
        await turns()
        one.model.held = False
        one.model.let_go()
        assert len(await errors(bad)) == 1
        assert (await good).outputs.columns[0].tolist() == [2.0]
        assert (one.told.failed, one.told.answered) == (1, 1)

    played(scene)


def test_a_miss_is_answered_in_the_step_in_which_the_model_answers() -> None:
    """One turn of the event loop more was a third of what a miss cost."""

    async def scene() -> None:
        one = Scene()
        asked = one.ask(1.0)
        await asyncio.sleep(0)
        assert asked.done()
        assert asked.result().cache == CacheStatus(0, 0, 1)

    played(scene)


def test_who_asks_alone_and_leaves_at_once_is_counted_once_and_has_nothing_run() -> None:
    async def scene() -> None:
        one = Scene()
        one.ask(1.0).cancel()
        await turns()
        assert (one.model.ran, one.told.drops) == ([], [Dropped.CANCELLED])
        assert not one.cached._flights

    played(scene)


def test_who_joins_one_that_has_left_in_the_same_turn_has_the_row_run_once() -> None:
    async def scene() -> None:
        one = Scene()
        one.ask(1.0).cancel()
        assert await one.asked(1.0) == ([2.0], CacheStatus(0, 0, 1))
        first, joins = one.ask(2.0), one.ask(2.0)
        first.cancel()
        assert (await joins).cache == CacheStatus(0, 1, 0)
        assert one.model.ran == [[1.0], [2.0]]
        assert one.told.drops == [Dropped.CANCELLED] * 2

    played(scene)


def test_who_leaves_while_its_row_runs_alone_is_counted_and_nothing_is_kept() -> None:
    async def scene() -> None:
        one = Scene()
        one.model.held = True
        left = one.ask(1.0)
        await turns()
        left.cancel()
        await turns()
        one.model.let_go()
        await turns()
        assert one.told.drops == [Dropped.CANCELLED]
        assert (len(one.store), one.cached._flights) == (0, {})
        one.model.held = False
        assert await one.asked(1.0) == ([2.0], CacheStatus(0, 0, 1))

    played(scene)


@pytest.mark.parametrize("leaves", [0, 1, 2])
def test_who_leaves_takes_nothing_from_the_others(leaves: int) -> None:
    async def scene() -> None:
        one = Scene()
        one.model.held = True
        asked = [one.ask(1.0) for _ in range(3)]
        await turns()
        asked[leaves].cancel()
        await turns()
        one.model.let_go()
        told = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(one, Answer) for one in told] == [at != leaves for at in range(3)]
        assert one.model.ran == [[1.0]]
        assert (one.told.answered, one.told.drops) == (2, [Dropped.CANCELLED])

    played(scene)


def test_when_all_have_left_the_rows_leave_the_queue() -> None:
    async def scene() -> None:
        one = Scene()
        one.model.held = True
        first = one.ask(1.0)
        await turns()
        waiting = [one.ask(2.0), one.ask(2.0)]
        await turns()
        for left in waiting:
            left.cancel()
        # whoever comes in the same turn does not join what was called off
        late = one.ask(2.0)
        await turns()
        one.model.held = False
        one.model.let_go()
        await first
        assert (await late).outputs.columns[0].tolist() == [4.0]
        assert one.model.ran == [[1.0], [2.0]]
        assert one.told.drops == [Dropped.CANCELLED] * 2

    played(scene)


@pytest.mark.parametrize("first_is_short", [True, False])
def test_each_waits_as_long_as_its_own_deadline(first_is_short: bool) -> None:
    async def scene() -> None:
        one = Scene()
        one.model.held = True
        short = Call("short", asyncio.get_running_loop().time() + 0.02)
        calls = [short, LONG] if first_is_short else [LONG, short]
        asked = [one.ask(1.0, call=call) for call in calls]
        late, patient = asked if first_is_short else reversed(asked)
        with pytest.raises(DeadlineExceeded):
            await late
        assert not patient.done()
        one.model.let_go()
        assert (await patient).outputs.columns[0].tolist() == [2.0]
        assert (one.model.ran, one.told.drops) == ([[1.0]], [Dropped.DEADLINE_EXCEEDED])
        assert one.told.answered == 1

    played(scene)


def test_a_deadline_that_nobody_outlives_takes_the_rows_out_of_the_queue() -> None:
    async def scene() -> None:
        one = Scene()
        one.model.held = True
        first = one.ask(1.0)
        await turns()
        late = one.ask(2.0, call=Call("", asyncio.get_running_loop().time() + 0.02))
        with pytest.raises(DeadlineExceeded):
            await late
        await turns()
        one.model.held = False
        one.model.let_go()
        await first
        await turns()
        assert one.model.ran == [[1.0]]
        assert one.told.drops == [Dropped.DEADLINE_EXCEEDED]

    played(scene)


def test_no_cache_has_the_model_answer_and_keeps_that_and_no_store_keeps_nothing() -> None:
    async def scene() -> None:
        one = Scene()
        past, fresh = Call("", None, None, CacheUse.NONE), Call("", None, None, CacheUse.REFRESH)
        assert (await one.asked(1.0, call=past))[1] == CacheStatus(0, 0, 1, CacheUse.NONE, True)
        assert len(one.store) == 0
        assert (await one.asked(1.0))[1] == CacheStatus(0, 0, 1)
        assert (await one.asked(1.0, call=fresh))[1] == CacheStatus(0, 0, 1, CacheUse.REFRESH)
        assert (await one.ask(1.0)).outputs.columns[1].tolist() == [3]
        assert len(one.model.ran) == 3
        assert one.told.bypassed == 1

    played(scene)


def test_too_many_rows_go_past_it() -> None:
    async def scene() -> None:
        one = Scene(most_rows=2)
        for _ in range(2):
            told = await one.asked(1.0, 2.0, 3.0)
            assert told == ([2.0, 4.0, 6.0], CacheStatus(0, 0, 3, bypassed=True))
        assert (len(one.model.ran), len(one.store), one.told.bypassed) == (2, 0, 6)

    played(scene)


def test_a_full_queue_refuses_what_must_run_and_nothing_else() -> None:
    async def scene() -> None:
        one = Scene(max_queue_rows=1)
        await one.asked(1.0)
        one.model.held = True
        running, queued = one.ask(2.0), None
        await turns()
        queued = one.ask(3.0)
        with pytest.raises(Overloaded):
            one.ask(4.0)
        assert (await one.asked(1.0))[0] == [2.0]
        joined = one.ask(3.0)
        one.model.held = False
        one.model.let_go()
        assert [(await told).outputs.columns[0].tolist() for told in (running, queued, joined)] == [
            [4.0],
            [6.0],
            [6.0],
        ]
        assert (await one.asked(4.0))[0] == [8.0]

    played(scene)


def test_rubbish_in_the_store_is_a_miss_and_goes() -> None:
    async def scene() -> None:
        one = Scene()
        await one.asked(1.0)
        (key,) = one.store._entries
        one.store.put(key, b"\x93rubbish")
        assert await one.asked(1.0) == ([2.0], CacheStatus(0, 0, 1))
        assert await one.asked(1.0) == ([2.0], CacheStatus(1, 0, 0))

    played(scene)


def test_a_row_that_ends_soon_is_answered_and_runs_again_for_nobody() -> None:
    async def scene() -> None:
        one, now = Scene(), [0.0]
        one.store = MemoryStore(10**6, 10.0, clock=lambda: now[0], draw=lambda: 0.0)
        one.cached._store = one.store
        await one.asked(1.0)
        now[0] = 9.5
        assert await one.asked(1.0) == ([2.0], CacheStatus(1, 0, 0))
        await turns()
        assert one.model.ran == [[1.0], [1.0]]
        now[0] = 12.0
        assert (await one.ask(1.0)).outputs.columns[1].tolist() == [2]
        assert (one.told.answered, one.told.misses) == (3, 1)

    played(scene)


steps = st.lists(
    st.tuples(
        st.lists(st.integers(-1, 4).map(float), min_size=1, max_size=4),
        st.sampled_from(["wait", "wait", "wait", "leave", "leave at once", "let go"]),
        st.sampled_from(list(CacheUse)),
    ),
    max_size=20,
)


@settings(deadline=None, max_examples=300)
@given(steps=steps)
def test_whatever_happens_everybody_is_told_once_and_the_truth(
    steps: list[tuple[list[float], str, CacheUse]],
) -> None:
    async def scene() -> None:
        one = Scene()
        one.model.held = True
        asked: list[tuple[list[float], asyncio.Future[Answer]]] = []
        left = 0
        for number, (rows, what, use) in enumerate(steps):
            future = one.ask(*rows, call=Call(str(number), None, None, use))
            asked.append((rows, future))
            if what == "leave":
                await turns()
                left += future.cancel()
            elif what == "leave at once":
                left += future.cancel()
            elif what == "let go":
                await turns()
                one.model.let_go()
                await turns()
        one.model.held = False
        for _ in itertools.repeat(None, len(steps) + 1):
            one.model.let_go()
            await turns()
        answered = failed = 0
        for rows, future in asked:
            assert future.done()
            if future.cancelled():
                continue
            if future.exception() is not None:
                assert min(rows) < 0
                failed += 1
                continue
            assert future.result().outputs.columns[0].tolist() == [row * 2 for row in rows]
            answered += 1
        assert len(asked) == answered + failed + left
        assert one.told.drops == [Dropped.CANCELLED] * left
        assert (one.told.answered, one.told.failed) == (answered, failed)
        assert not one.cached._flights

    played(scene)
