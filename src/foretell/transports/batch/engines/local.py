"""Running is the local engine: workers that read, score and write pieces, all of them at any of it.

Rules:

1. A worker takes whatever is ready, the last step first: writing (the pieces of a part in order),
   before scoring (in any order), before reading (a stream's pieces in order), before opening
   another stream. So one stream alone keeps all workers busy, and many keep as few files open
   as there are workers. It takes what belongs to its own stream before all else: what it has read
   itself is in the cache of its core.
2. So many pieces are under way, and no more: memory does not depend on the size of the input.
3. A worker has a scorer of its own; libraries have no threads beside it.
4. The first failure ends all: what is being written is left away, what is committed stays.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from foretell.transports.batch.reading.pieces import Piece
from foretell.transports.batch.scoring.scorer import Scored, Scorer

PIECES_PER_WORKER = 3


class Output(Protocol):
    """Where the rows of one part go; each call comes from one worker at a time."""

    def write(self, scored: Scored) -> None:
        """The next rows."""
        ...

    def commit(self, *, last: bool) -> None:
        """All rows were written; `last`: its source has no more."""
        ...

    def abandon(self) -> None:
        """The part is not finished: nothing of it is to be left."""
        ...


class Stream(Protocol):
    """Rows that are read one after the other, and the parts they make."""

    def read(self) -> Iterator[tuple[int, Piece]]:
        """Pieces, each with the number of its part; parts come in order."""
        ...

    def output(self, part: int) -> Output:
        """Where the rows of a part go; it is asked for when its first piece is there."""
        ...


@dataclass(eq=False)
class _Part:
    """A part under way: pieces wait in `scored` for those before them."""

    stream: Stream
    number: int
    worker: int
    output: Output | None = None
    n_read: int = 0
    n_written: int = 0
    is_read: bool = False
    is_last: bool = False
    busy: bool = False
    scored: dict[int, Scored] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether there is something to write, or to commit."""
        if self.busy:
            return False
        return self.n_written in self.scored or (self.is_read and self.n_written == self.n_read)


@dataclass(eq=False)
class _Open:
    """A stream under way, which `worker` has opened."""

    stream: Stream
    pieces: Iterator[tuple[int, Piece]]
    worker: int
    busy: bool = False
    part: _Part | None = None


Step = Callable[[Scorer], None]


class Workers:
    """Runs `streams` with one worker for each scorer that `scorer` makes.

    `open_output`… are told of by the protocols above. Raises what the first worker raised.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        scorer: Callable[[], AbstractContextManager[Scorer]],
        *,
        workers: int,
    ) -> None:
        self._waiting = deque(streams)
        self._make_scorer = scorer
        self._workers = workers
        self._most_pieces = PIECES_PER_WORKER * workers + 1
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._open: list[_Open] = []
        self._parts: list[_Part] = []
        self._unscored: deque[tuple[_Part, int, Piece]] = deque()
        self._under_way = 0
        self._steps = 0
        self._failure: BaseException | None = None

    def run(self, tick: Callable[[], None], every_s: float) -> None:
        """Until all is committed; meanwhile `tick` is called now and then, by this thread."""
        threads = [
            threading.Thread(
                target=self._work, args=(number,), name=f"foretell-batch-{number}", daemon=True
            )
            for number in range(self._workers)
        ]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                is_done = self._ended.wait(every_s)
                tick()
                if is_done:
                    break
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            for thread in threads:
                thread.join()
            for part in self._parts:
                if part.output is not None:
                    part.output.abandon()
        if self._failure is not None:
            raise self._failure
        if not self._is_done():  # nothing is to be taken for done that is not
            raise RuntimeError("all workers have ended before their work did")

    def _is_done(self) -> bool:
        idle = not (self._waiting or self._open or self._parts or self._steps)
        return idle or self._failure is not None

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
            self._ended.set()

    def _work(self, worker: int) -> None:
        try:
            with self._make_scorer() as scorer:
                step = self._next(worker)
                while step is not None:
                    step(scorer)
                    step = self._next(worker, done=1)
        except BaseException as error:  # noqa: BLE001 - carried to the thread that runs the job
            self._fail(error)

    def _next(self, worker: int, done: int = 0) -> Step | None:
        """What is to be done next; None when nothing is left, or one has failed.

        `done`: how many steps the worker has done since it asked before.
        """
        with self._changed:
            self._steps -= done
            self._changed.notify_all()
            while not self._is_done():
                step = self._step(worker, worker) or self._step(worker, None)
                if step is not None:
                    self._steps += 1
                    return step
                self._changed.wait()
            self._ended.set()
            return None

    def _step(self, worker: int, owner: int | None) -> Step | None:
        """What `worker` can do for the streams of `owner`, or of all; opening one is for itself."""
        own = [part for part in self._parts if owner in (None, part.worker)]
        return self._writing(own) or self._scoring(owner) or self._reading(worker, owner)

    def _writing(self, parts: Sequence[_Part]) -> Step | None:
        part = next((part for part in parts if part.ready), None)
        if part is None:
            return None
        part.busy = True
        scored = part.scored.pop(part.n_written, None)
        if scored is None:
            return lambda _: self._commit(part)
        return lambda _: self._write(part, scored)

    def _write(self, part: _Part, scored: Scored) -> None:
        if part.output is None:
            part.output = part.stream.output(part.number)
        part.output.write(scored)
        with self._changed:
            part.n_written += 1
            part.busy = False
            self._under_way -= 1

    def _commit(self, part: _Part) -> None:
        output = part.output or part.stream.output(part.number)
        part.output = output
        output.commit(last=part.is_last)
        with self._changed:
            self._parts.remove(part)

    def _scoring(self, owner: int | None) -> Step | None:
        waiting = (one for one in self._unscored if owner in (None, one[0].worker))
        found = next(waiting, None)
        if found is None:
            return None
        self._unscored.remove(found)
        part, number, piece = found

        def score(scorer: Scorer) -> None:
            scored = scorer.score(piece)
            with self._changed:
                part.scored[number] = scored

        return score

    def _reading(self, worker: int, owner: int | None) -> Step | None:
        if self._under_way >= self._most_pieces:
            return None
        own = (one for one in self._open if owner in (None, one.worker))
        opened = next((one for one in own if not one.busy), None)
        if opened is None:
            if not self._waiting or len(self._open) >= self._workers:
                return None
            stream = self._waiting.popleft()
            opened = _Open(stream, stream.read(), worker)
            self._open.append(opened)
        opened.busy = True
        self._under_way += 1
        return lambda _: self._read(opened)

    def _read(self, opened: _Open) -> None:
        told = next(opened.pieces, None)
        with self._changed:
            opened.busy = False
            part = opened.part
            if told is None:
                self._under_way -= 1
                self._open.remove(opened)
                if part is not None:
                    part.is_read = part.is_last = True
                return
            number, piece = told
            if part is None or part.number != number:
                if part is not None:
                    part.is_read = True
                part = opened.part = _Part(opened.stream, number, opened.worker)
                self._parts.append(part)
            self._unscored.append((part, part.n_read, piece))
            part.n_read += 1
