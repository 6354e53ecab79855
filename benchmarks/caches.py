"""Caches: what a result cache does for a slow model under traffic that repeats, and what it costs.

Rules:

1. Rows are drawn from a Zipf distribution, the same in every round and for every store: the most
   popular row is a tenth of the traffic, and most rows come once. Requests leave at a fixed rate.
2. The first second is left out: caches fill, and a Redis that is not there is found out.
3. What the engine alone costs is measured without servers, in CPU time of one thread: the batcher
   and a model that does nothing, with a cache in front that has every row, or none.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.budgets import Limit, Verdict, at_most
from benchmarks.harness import LOAD_CORE, BenchFailed, find_tool, pinned, running
from benchmarks.percentiles import medians
from benchmarks.sections import Effort, Section, kept
from benchmarks.servers import free_port, pack, serve
from benchmarks.slow_models import CALL_S
from foretell.app.caching.counted import counted
from foretell.core.admission import AdmissionLimits
from foretell.core.batch import Batch
from foretell.core.call import Call
from foretell.core.datatype import Datatype
from foretell.core.field import Field
from foretell.core.manifest import Manifest, Step
from foretell.core.planner import BatchLimits
from foretell.core.signature import Signature
from foretell.engine.batcher import Batcher
from foretell.engine.executors.inline import InlineExecutor
from foretell.engine.stores.cached import Cached
from foretell.engine.stores.memory import MemoryStore
from foretell.engine.stores.redis import RedisStore

NONE, MEMORY, REDIS, TIERED = "no cache", "memory", "redis", "tiered"
REFUSED, SILENT = "redis, refused", "redis, silent"
RATE, ROWS, EXPONENT = 200, 100_000, 1.1
COLUMNS = ("store", "hits, %", "p50 ms", "p99 ms")
_DEAD = at_most(1.2)
_MISS_ADDS, _REDIS_ADDS = at_most(5, "µs"), at_most(400, "µs")
_TRIES = 15
_TEXT = (
    "A model that takes {call:.0f} ms a call, asked {rate} times a second for one of {rows:,} rows "
    "(Zipf, exponent {exponent}), by `benchmarks/open_loop.py`, whatever comes back; rows that "
    "joined equal ones count as hits. Redis is a real one on this machine; *refused* is a port "
    "where nothing listens, *silent* one that takes connections and says nothing. In the engine "
    "alone, one row after the other costs {plain:.1f} µs of CPU without a cache, {miss:.1f} when "
    "it misses and {hit:.1f} when it hits the memory; a hit in Redis takes {redis:.0f} µs at the "
    "median."
)


@dataclass(frozen=True, slots=True)
class Answered:
    """One round with one store; numbers as in COLUMNS."""

    store: str
    hits_percent: float
    p50_ms: float
    p99_ms: float


def caches(effort: Effort) -> Section:
    """Measure and judge. Raises BenchFailed."""
    folder = effort.own("caches")
    models = folder / "models"
    pack("slow_models:Waiting", "--name", "waiting", "-o", str(models))
    draw = np.random.default_rng(5)
    seconds = effort.seconds * 2
    popular = 1 / np.arange(1, ROWS + 1) ** EXPONENT
    drawn = draw.choice(ROWS, size=RATE * (seconds + 1), p=popular / popular.sum())
    bodies = [b'{"x": %d}' % row for row in drawn.tolist()]
    found = []
    for number in range(effort.rounds):
        for store, place in STORES.items():
            effort.tell(f"{store}, round {number + 1} of {effort.rounds}")
            own = folder / f"{number} {store}"
            own.mkdir()
            with place(own) as url:
                found.append(_round(store, url, models, own, bodies))
    plain, miss, hit = engine_alone()
    with _redis(effort.own("redis")) as url:
        redis = redis_alone(url)
    told = {one.store: one for one in medians(found, labels=1)}
    return Section(
        "A result cache",
        _TEXT.format(
            call=CALL_S * 1e3,
            rate=RATE,
            rows=ROWS,
            exponent=EXPONENT,
            plain=plain,
            miss=miss,
            hit=hit,
            redis=redis,
        ),
        COLUMNS,
        [[one.store, *(f"{cell:,.2f}" for cell in astuple(one)[1:])] for one in told.values()],
        judge(told, (plain, miss, hit, redis)),
        labels=1,
        data=kept(list(told.values()), found),
    )


def judge(told: Mapping[str, Answered], alone: tuple[float, float, float, float]) -> list[Verdict]:
    """What became of the budgets; `alone` is what the engine takes, in microseconds."""
    plain, miss, hit, redis = alone
    numbers: list[tuple[str, Limit, float]] = [
        ("a hit in memory over the engine without a cache: CPU", at_most(1), hit / plain),
        ("a miss in memory adds, CPU in the engine", _MISS_ADDS, miss - plain),
        ("a hit in Redis takes, p50 in the engine", _REDIS_ADDS, redis),
        ("Redis refused over no cache: p99", _DEAD, told[REFUSED].p99_ms / told[NONE].p99_ms),
        ("Redis silent over no cache: p99", _DEAD, told[SILENT].p99_ms / told[NONE].p99_ms),
    ]
    return [Verdict(*one) for one in numbers]


@contextmanager
def _nothing(_: Path) -> Iterator[str]:
    yield ""


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    port = free_port()
    flags = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    program = find_tool("redis-server")
    if program is None:
        raise BenchFailed("redis-server not found; make packages installs it")
    server = subprocess.Popen([program, *flags], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@contextmanager
def _refused(_: Path) -> Iterator[str]:
    yield f"redis://127.0.0.1:{free_port()}"


@contextmanager
def _silent(_: Path) -> Iterator[str]:
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(128)
        yield f"redis://127.0.0.1:{hole.getsockname()[1]}"


STORES: dict[str, Callable[[Path], Any]] = {
    NONE: _nothing,
    MEMORY: _nothing,
    REDIS: _redis,
    TIERED: _redis,
    REFUSED: _refused,
    SILENT: _silent,
}


def _round(store: str, url: str, models: Path, folder: Path, bodies: Sequence[bytes]) -> Answered:
    config = folder / "foretell.toml"
    kind = store.partition(",")[0]
    config.write_text("" if store == NONE else f"[models.waiting.cache]\nstore = '{kind}'\n")
    server = serve(models, "--config", str(config))
    if url:
        server = replace(server, env={"FORETELL_CACHE_URL": url})
    place = f"{server.root_url}/predict"
    with running(server, folder / "log"):
        _offer(place, bodies[:RATE], folder)
        before = _hits(server.root_url) if store != NONE else 0.0
        took = _offer(place, bodies[RATE:], folder)
        hits = _hits(server.root_url) - before if store != NONE else 0.0
    return Answered(
        store,
        hits / len(bodies[RATE:]) * 100,
        took["accepted_p50_ms"],
        took["accepted_p99_ms"],
    )


def _hits(url: str) -> float:
    told = counted(url, "waiting")
    return sum(value for name, value in told.items() if name.endswith((" hit", " coalesced")))


def _offer(place: str, bodies: Sequence[bytes], folder: Path) -> dict[str, float]:
    """What came of offering these bodies, once each. Raises BenchFailed."""
    file = folder / "bodies"
    file.write_bytes(b"\n".join(bodies))
    told = ["-m", "benchmarks.open_loop", place, str(RATE), str(len(bodies) / RATE)]
    ended = subprocess.run(
        [*pinned(LOAD_CORE), sys.executable, *told],
        env={**os.environ, "BODIES": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise BenchFailed(f"the open loop failed: {ended.stderr.strip()}")
    found: dict[str, float] = json.loads(ended.stdout)
    if found["accepted"] != len(bodies):
        raise BenchFailed(f"of {len(bodies)} requests {found['accepted']:.0f} were answered")
    return found


_FIELDS = tuple(Field(name, Datatype.FP64) for name in "abcd")
_OUTPUTS = (Field("prediction", Datatype.INT64), Field("probability", Datatype.FP64, shape=(2,)))
_COLUMNS = [np.array([1]), np.array([[0.25, 0.75]])]
_MANIFEST = Manifest(
    name="m",
    version="1",
    created_at="2026-01-01T00:00:00Z",
    signature=Signature(_FIELDS, _OUTPUTS),
    steps=(Step("python", ()),),
    files=(),
)
_ROWS = [(float(row), 2.0, 3.0, 4.0) for row in range(4_000)]


def _batcher() -> Batcher:
    """That of a model that does nothing."""

    def predict(_: Batch) -> Batch:
        return Batch.from_columns(_OUTPUTS, _COLUMNS)

    return Batcher(InlineExecutor(predict), BatchLimits(), AdmissionLimits())


async def _asked(engine: Batcher | Cached, clock: Callable[[], float]) -> list[float]:
    """The microseconds of each row, one after the other."""
    call, took = Call(""), []
    for row in _ROWS:
        before = clock()
        await engine.submit(Batch(_FIELDS, 1, (row,)), call)
        took.append((clock() - before) * 1e6)
    return took


def engine_alone() -> tuple[float, float, float]:
    """CPU microseconds of a row without a cache, of a miss, and of a hit in memory."""

    async def measured() -> tuple[float, float, float]:
        found = []
        for _ in range(_TRIES):
            cached = Cached(_batcher(), MemoryStore(2**30, 60.0), _MANIFEST)
            engines = (_batcher(), cached, cached)
            found.append([sum(await _asked(one, time.thread_time)) for one in engines])
        plain, miss, hit = (min(column) / len(_ROWS) for column in zip(*found, strict=True))
        return plain, miss, hit

    return asyncio.run(measured())


def redis_alone(url: str) -> float:
    """The median of the microseconds of a hit in Redis."""

    async def measured() -> float:
        store = RedisStore(url, "m", bytes(32), ttl_s=None, timeout_s=1.0)
        cached = Cached(_batcher(), store, _MANIFEST)
        await _asked(cached, time.perf_counter)
        await store.written()
        took = await _asked(cached, time.perf_counter)
        store.close()
        await asyncio.sleep(0)
        return statistics.median(took)

    return asyncio.run(measured())
