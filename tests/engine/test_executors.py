"""Executors: the same outcomes wherever a model runs, and a server that survives its models."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretell.core.admission import AdmissionLimits
from foretell.core.batch import Batch
from foretell.core.call import Answer, Call
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.planner import BatchLimits
from foretell.engine import fleet, repository
from foretell.engine.batcher import Batcher
from foretell.engine.executors import Executor, ProcessDied, checked
from foretell.engine.executors.choosing import ExecutorKind, choose, inline_rows
from foretell.engine.executors.inline import InlineExecutor
from foretell.engine.executors.process import ProcessExecutor
from foretell.engine.executors.thread import ThreadExecutor
from foretell.errors import BadPackage, DeadlineExceeded, ModelFailed, Overloaded
from foretell.packing import pack

FIELDS = (Field("x", Datatype.FP64),)

MODEL = """
import asyncio, os, sys, time
import numpy as np
from foretell import Field, Signature

class Model:
    signature = Signature((Field("x", "FP64"),), (Field("prediction", "FP64"),), example=(1.0,))

    def predict(self, columns):
        x = columns["x"]
        if (x == -1).any():
            raise ValueError("negative")
        if (x == -2).any():
            os._exit(7)
        if (x == -6).any():
            if os.fork() == 0:
                time.sleep(20)  # it lives on with all that it inherited
                os._exit(0)
            os._exit(8)
        if (x == -3).any():
            raise KeyboardInterrupt
        if (x == -4).any():
            raise asyncio.CancelledError
        if (x == -5).any() or "MODEL_EXITS" in os.environ:
            sys.exit(3)
        return x * 2
"""

CALL = Call("")


def of(*values: float) -> Batch:
    return Batch.from_rows(FIELDS, [(value,) for value in values])


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> repository.Package:
    folder = tmp_path_factory.mktemp("executors")
    (folder / "doubling.py").write_text(MODEL)
    made = pack(["doubling:Model"], name="m", repository=folder / "models", python_path=folder)
    return repository.read(made)


@pytest.fixture(params=["inline", "thread", "process"])
def loaded(package: repository.Package, request: pytest.FixtureRequest) -> Iterator[fleet.Loaded]:
    loaded = fleet.load(package, kind=ExecutorKind(request.param))
    yield loaded
    loaded.executor.close()


def batcher_of(executor: Executor, **limits: Any) -> Batcher:
    admission = AdmissionLimits(limits.pop("max_queue_rows", 1000))
    return Batcher(executor, BatchLimits(**limits), admission)


async def gathered(*asked: Any) -> list[Any]:
    told = await asyncio.gather(*asked, return_exceptions=True)
    return [
        one.outputs.column("prediction").tolist() if isinstance(one, Answer) else one
        for one in told
    ]


def test_every_executor_gives_the_same_outcomes(loaded: fleet.Loaded) -> None:
    async def scene() -> list[Any]:
        batcher = batcher_of(loaded.executor, max_batch_rows=4)
        return await gathered(
            *(batcher.submit(of(*v), CALL) for v in ([1], [-1, 5], [2, 3], range(9)))
        )

    first, failed, second, large = asyncio.run(scene())
    assert (first, second, large) == ([2], [4, 6], [2.0 * n for n in range(9)])
    assert isinstance(failed, Exception)
    assert "ValueError" in repr(failed)


@pytest.mark.parametrize("guilty", [-3, -4, -5])
def test_what_is_no_ordinary_exception_fails_its_row_alone(
    loaded: fleet.Loaded, guilty: float
) -> None:
    async def scene() -> list[Any]:
        batcher = batcher_of(loaded.executor)
        async with asyncio.timeout(30):
            told = await gathered(*(batcher.submit(of(value), CALL) for value in (1, guilty, 2)))
            return [*told, *await gathered(batcher.submit(of(3), CALL))]

    first, failed, second, later = asyncio.run(scene())
    assert (first, second, later) == ([2], [4], [6])
    assert isinstance(failed, ModelFailed)


@pytest.mark.parametrize(
    ("datatype", "answer"),
    [
        (Datatype.INT64, [np.nan]),
        (Datatype.INT64, [1.5]),
        (Datatype.INT64, [[1, 2]]),
        (Datatype.FP64, [True]),
        (Datatype.BOOL, [1]),
        (Datatype.BYTES, [1]),
    ],
)
def test_an_answer_that_breaks_its_signature_is_a_failure(
    datatype: Datatype, answer: list[Any]
) -> None:
    fields = (Field("prediction", datatype),)
    predict = checked(lambda _: Batch.from_columns(fields, [np.array(answer)]), fields)
    with pytest.raises(ModelFailed, match="prediction"):
        predict(of(1))


def test_a_process_that_dies_fails_its_calls_and_is_replaced(package: repository.Package) -> None:
    executor = ProcessExecutor(package.folder, package.manifest.signature.outputs)

    async def scene() -> tuple[list[Any], list[Any], list[Any]]:
        batcher = batcher_of(executor)
        dying = await gathered(batcher.submit(of(-2), CALL), batcher.submit(of(1), CALL))
        after = await gathered(batcher.submit(of(1), CALL))
        killed = executor.process.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await asyncio.to_thread(os.waitid, os.P_PID, killed, os.WEXITED | os.WNOWAIT)
        await gathered(batcher.submit(of(3), CALL))
        return dying, after, await gathered(batcher.submit(of(4), CALL))

    dying, after, revived = asyncio.run(scene())
    assert all(isinstance(one, ProcessDied) for one in dying)
    assert "exit code 7" in str(dying[0])
    assert (after, revived) == ([[2]], [[8]])
    child = executor.process.pid
    executor.close()
    executor.join(30)
    assert child is not None
    assert not Path(f"/proc/{child}").exists()


def test_what_a_model_forked_does_not_keep_its_death_a_secret(package: repository.Package) -> None:
    executor = ProcessExecutor(package.folder, package.manifest.signature.outputs)

    async def scene() -> list[Any]:
        async with asyncio.timeout(10):
            return await gathered(batcher_of(executor).submit(of(-6), CALL))

    (told,) = asyncio.run(scene())
    executor.close()
    assert "exit code 8" in str(told)


def test_a_package_that_cannot_load_in_its_process_is_a_bad_package(
    package: repository.Package, tmp_path: Path
) -> None:
    gone = repository.Package(tmp_path, package.manifest)
    executor_outputs = package.manifest.signature.outputs
    with pytest.raises((ModelFailed, ProcessDied)):
        ProcessExecutor(gone.folder, executor_outputs)


def test_a_model_that_exits_over_its_own_example_is_a_bad_package(
    package: repository.Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_EXITS", "1")
    with pytest.raises(BadPackage, match="cannot answer its own example: SystemExit"):
        fleet.load(package, kind=ExecutorKind.INLINE)


class Gate:
    """A model that answers only once it is opened; it remembers its batches."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.reached = threading.Event()
        self.batches: list[list[float]] = []

    def predict(self, batch: Batch) -> Batch:
        self.batches.append(batch.matrix[:, 0].tolist())
        self.reached.set()
        assert self.opened.wait(30)
        return Batch.from_columns((Field("prediction", Datatype.FP64),), [batch.matrix[:, 0]])


def test_the_loop_stays_free_while_a_thread_works_and_requests_gather() -> None:
    gate = Gate()

    async def scene() -> None:
        batcher = batcher_of(ThreadExecutor(gate.predict))
        first = batcher.submit(of(1), CALL)
        # the loop runs on although the model does not answer
        assert await asyncio.to_thread(gate.reached.wait, 30)
        rest = [batcher.submit(of(n), CALL) for n in range(5)]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, *rest)
        batcher.close()

    asyncio.run(scene())
    assert gate.batches == [[1], [0, 1, 2, 3, 4]]


def test_a_full_queue_sheds_and_says_when_to_come_back() -> None:
    gate = Gate()

    async def scene() -> list[Any]:
        batcher = batcher_of(ThreadExecutor(gate.predict), max_queue_rows=3)
        running = batcher.submit(of(1), CALL)
        assert await asyncio.to_thread(gate.reached.wait, 30)
        waiting = batcher.submit(of(1, 2), CALL)
        with pytest.raises(Overloaded) as shed:
            batcher.submit(of(1, 2), CALL)
        gate.opened.set()
        told = await gathered(running, waiting)
        batcher.close()
        return [*told, shed.value.retry_after_s]

    first, second, retry_after_s = asyncio.run(scene())
    assert (first, second) == ([1], [1, 2])
    assert 0.1 <= retry_after_s <= 60


def test_rows_whose_deadline_passed_do_not_run() -> None:
    gate = Gate()

    async def scene() -> list[Any]:
        batcher = batcher_of(ThreadExecutor(gate.predict))
        now = time.monotonic()
        running = batcher.submit(of(1), Call("", now + 60))
        assert await asyncio.to_thread(gate.reached.wait, 30)
        told = await gathered(batcher.submit(of(2), Call("", now + 0.05)))
        gate.opened.set()
        told += await gathered(
            running, batcher.submit(of(3), Call("", now - 1)), batcher.submit(of(4), CALL)
        )
        batcher.close()
        return told

    late, running, gone, last = asyncio.run(scene())
    assert isinstance(late, DeadlineExceeded)
    assert isinstance(gone, DeadlineExceeded)
    assert (running, last) == ([1], [4])
    assert gate.batches == [[1], [4]]


def test_choosing_measures() -> None:
    fields = (Field("prediction", Datatype.FP64),)

    def quick(batch: Batch) -> Batch:
        return Batch.from_columns(fields, [np.zeros(batch.n_rows)])

    def slow_but_polite(batch: Batch) -> Batch:
        time.sleep(0.005)
        return quick(batch)

    def stubborn(batch: Batch) -> Batch:
        # one call into C that never lets go of the interpreter
        sum(range(8_000_000))
        return quick(batch)

    def in_python(batch: Batch) -> Batch:
        # gives the interpreter back, but only when asked for 5 ms
        enough = time.perf_counter() + 0.02
        while time.perf_counter() < enough:
            pass
        return quick(batch)

    slow_once = iter([0.1])

    def quick_from_then_on(batch: Batch) -> Batch:
        # as quick as a thread's start: there is hardly any time to measure
        time.sleep(next(slow_once, 0.0003))
        return quick(batch)

    assert choose(in_python, of(1)) is ExecutorKind.PROCESS
    assert choose(quick_from_then_on, of(1)) is ExecutorKind.THREAD
    assert choose(quick, of(1)) is ExecutorKind.INLINE
    assert choose(slow_but_polite, of(1)) is ExecutorKind.THREAD
    assert choose(stubborn, of(1)) is ExecutorKind.PROCESS


def test_on_the_loop_no_batch_takes_long_however_many_rows_there_are() -> None:
    fields, sizes = (Field("prediction", Datatype.FP64),), list[int]()

    def per_row(batch: Batch) -> Batch:
        sizes.append(batch.n_rows)
        time.sleep(0.0001 * batch.n_rows)
        return Batch.from_columns(fields, [np.zeros(batch.n_rows)])

    most = inline_rows(per_row, of(1))
    assert 1 < most <= 50

    async def scene() -> list[Any]:
        return await gathered(
            batcher_of(InlineExecutor(per_row, most)).submit(of(*range(500)), CALL)
        )

    sizes.clear()
    ((*answers,),) = asyncio.run(scene())
    assert len(answers) == sum(sizes) == 500
    assert max(sizes) == most


def test_a_model_that_fails_on_many_rows_runs_row_by_row_on_the_loop() -> None:
    def one_by_one(batch: Batch) -> Batch:
        if batch.n_rows > 1:
            raise ValueError("one row at a time")
        return Batch.from_columns((Field("prediction", Datatype.FP64),), [np.zeros(1)])

    assert inline_rows(one_by_one, of(1)) == 1
