"""A stream of requests: answered in order, bounded, and nothing left behind however it ends."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.engine.streaming import in_order


class Desk:
    """Answers when it is told to, and knows what it was asked."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.most = 0
        self._open: dict[int, asyncio.Future[int]] = {}
        self._changed = asyncio.Event()

    async def ask(self, number: int) -> int:
        self.begun.append(number)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._open[number] = answer
        self.most = max(self.most, len(self._open))
        self._changed.set()
        try:
            return await answer
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            del self._open[number]

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 5)

    def answer(self, number: int) -> None:
        self._open[number].set_result(number * 10)

    def fail(self, number: int) -> None:
        self._open[number].set_exception(ValueError(f"no {number}"))


class Source:
    """So many numbers; knows how many were taken and whether it was closed."""

    def __init__(self, count: int, *, then: BaseException | None = None) -> None:
        self.taken = 0
        self.closed = False
        self.count, self.then = count, then

    async def numbers(self) -> AsyncIterator[int]:
        try:
            for number in range(self.count):
                self.taken += 1
                yield number
            if self.then is not None:
                raise self.then
        finally:
            self.closed = True


@contextmanager
def nothing_left() -> Iterator[None]:
    """No task is pending at the end, and asyncio has nothing to complain of."""
    complaints: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, told: complaints.append(told))
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before
    assert not left
    gc.collect()
    assert not complaints


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        with nothing_left():
            await test()

    asyncio.run(within(), debug=True)


def test_answers_come_in_order_whoever_is_ready_first() -> None:
    async def told() -> None:
        desk, source, got = Desk(), Source(3), list[int]()
        async with aclosing(in_order(source.numbers(), desk.ask)) as answers:
            first = asyncio.ensure_future(anext(answers))
            await desk.until(lambda: len(desk.begun) == 3)
            desk.answer(2)
            desk.answer(1)
            desk.answer(0)
            got.append((await first).result())
            got += [answer.result() async for answer in answers]
        assert got == [0, 10, 20]
        assert source.closed

    run(told)


def test_only_so_many_are_under_way_and_the_source_waits() -> None:
    async def told() -> None:
        desk, source = Desk(), Source(100)
        async with aclosing(in_order(source.numbers(), desk.ask, most=4)) as answers:
            first = asyncio.ensure_future(anext(answers))
            await desk.until(lambda: len(desk.begun) == 4)
            for _ in range(20):
                await asyncio.sleep(0)
            assert (len(desk.begun), source.taken) == (4, 5)
            for number in range(4):
                desk.answer(number)
            assert (await first).result() == 0
            for _ in range(20):  # its consumer is not done with the first answer
                await asyncio.sleep(0)
            assert len(desk.begun) == 4
            assert (await anext(answers)).result() == 10
            await desk.until(lambda: len(desk.begun) == 5)
        assert desk.most == 4
        assert source.closed
        assert desk.cancelled == [4]

    run(told)


def test_closing_early_cancels_what_is_under_way_and_closes_the_source() -> None:
    async def told() -> None:
        desk, source = Desk(), Source(10)
        async with aclosing(in_order(source.numbers(), desk.ask, most=5)) as answers:
            first = asyncio.ensure_future(anext(answers))
            await desk.until(lambda: len(desk.begun) == 5)
            desk.answer(0)
            desk.fail(3)  # nobody will ask for it, and nobody shall be told
            await first
        assert sorted(desk.cancelled) == [1, 2, 4]
        assert source.closed

    run(told)


def test_a_cancelled_consumer_leaves_nothing_behind() -> None:
    async def told() -> None:
        desk, source = Desk(), Source(10)

        async def consume() -> None:
            async with aclosing(in_order(source.numbers(), desk.ask, most=3)) as answers:
                async for _ in answers:
                    raise AssertionError("nothing was answered")

        consuming = asyncio.ensure_future(consume())
        await desk.until(lambda: len(desk.begun) == 3)
        consuming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consuming
        assert sorted(desk.cancelled) == [0, 1, 2]
        assert source.closed

    run(told)


def test_closing_while_the_source_has_nothing_to_give_ends_it() -> None:
    async def told() -> None:
        waiting, closed = asyncio.Event(), list[bool]()

        async def silent() -> AsyncIterator[int]:
            try:
                waiting.set()
                await asyncio.Event().wait()
                yield 1
            finally:
                closed.append(True)

        async with aclosing(in_order(silent(), Desk().ask)) as answers:
            first = asyncio.ensure_future(anext(answers))
            await waiting.wait()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
        assert closed == [True]

    run(told)


def test_what_the_source_raises_comes_after_the_answers_before_it() -> None:
    async def told() -> None:
        desk, got = Desk(), list[int]()
        source = Source(2, then=ConnectionError("it left"))

        async def collect() -> None:
            async with aclosing(in_order(source.numbers(), desk.ask)) as answers:
                async for answer in answers:
                    got.append(answer.result())

        consuming = asyncio.ensure_future(collect())
        await desk.until(lambda: len(desk.begun) == 2)
        desk.answer(0)
        desk.answer(1)
        with pytest.raises(ConnectionError, match="it left"):
            await consuming
        assert got == [0, 10]

    run(told)


def test_a_request_that_fails_is_told_in_its_place_and_the_others_are_answered() -> None:
    async def told() -> None:
        desk = Desk()
        async with aclosing(in_order(Source(3).numbers(), desk.ask)) as answers:
            first = asyncio.ensure_future(anext(answers))
            await desk.until(lambda: len(desk.begun) == 3)
            desk.answer(0)
            desk.fail(1)
            desk.answer(2)
            assert (await first).result() == 0
            with pytest.raises(ValueError, match="no 1"):
                (await anext(answers)).result()
            assert (await anext(answers)).result() == 20

    run(told)


def test_a_begin_that_raises_itself_ends_the_stream_after_what_came_before() -> None:
    async def told() -> None:
        desk, source, got = Desk(), Source(5), list[int]()

        def begin(number: int) -> Coroutine[Any, Any, int]:
            if number == 1:
                raise RuntimeError("not this one")
            return desk.ask(number)

        async def consume() -> None:
            async with aclosing(in_order(source.numbers(), begin)) as answers:
                async for answer in answers:
                    got.append(answer.result())

        consuming = asyncio.ensure_future(consume())
        await desk.until(lambda: len(desk.begun) == 1)
        desk.answer(0)
        with pytest.raises(RuntimeError, match="not this one"):
            await consuming
        assert got == [0]
        assert source.closed

    run(told)


def test_a_source_without_anything_gives_nothing() -> None:
    async def told() -> None:
        async with aclosing(in_order(Source(0).numbers(), Desk().ask)) as answers:
            assert [answer async for answer in answers] == []

    run(told)


def test_a_source_that_is_no_generator_will_do() -> None:
    class Plain:
        left = 3

        def __aiter__(self) -> "Plain":
            return self

        async def __anext__(self) -> int:
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            return self.left

    async def echo(number: int) -> int:
        return number

    async def told() -> None:
        async with aclosing(in_order(Plain(), echo)) as answers:
            assert [answer.result() async for answer in answers] == [2, 1, 0]

    run(told)


@pytest.mark.slow  # every example ends with a garbage collection, to hear what asyncio says
@settings(max_examples=60, deadline=None)
@given(
    turns=st.lists(st.integers(0, 3), max_size=30),
    most=st.integers(1, 5),
    stop=st.integers(0, 30),
    failing=st.integers(0, 40),
)
def test_whatever_takes_how_long_nothing_is_lost_doubled_or_left(
    turns: list[int], most: int, stop: int, failing: int
) -> None:
    """Each request takes some turns of the loop; the consumer stops after `stop` answers."""
    under_way = 0

    async def ask(number: int) -> int:
        nonlocal under_way
        under_way += 1
        assert under_way <= most
        try:
            for _ in range(turns[number]):
                await asyncio.sleep(0)
            if number == failing:
                raise ValueError
            return number
        finally:
            under_way -= 1

    async def told() -> None:
        source, got = Source(len(turns)), list[int]()
        async with aclosing(in_order(source.numbers(), ask, most=most)) as answers:
            async for answer in answers:
                if len(got) == stop:
                    break
                got.append(-1 if answer.exception() else answer.result())
        expected = [-1 if number == failing else number for number in range(len(turns))]
        assert got == expected[:stop]
        assert source.closed
        assert under_way == 0

    run(told)
