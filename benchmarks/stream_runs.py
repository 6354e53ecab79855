"""What measured streams run on: a broker on the core of the load, a process on another."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.transports.stream.daemons import Daemon
from tests.transports.stream.daemons_kafka import Kafka

from benchmarks.harness import LOAD_CORE, SERVER_CORE, BenchFailed, pinned
from benchmarks.sections import Effort
from benchmarks.servers import FORETELL

Broker = TypeVar("Broker", bound=Daemon)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all streams of the section have: files, package, bodies, and where theirs are."""

    effort: Effort
    folder: Path
    model_folder: Path
    package: Path
    bodies: Sequence[bytes]


@contextmanager
def broker(kind: type[Broker], folder: Path) -> Iterator[Broker]:
    """A broker on the core of the load: it has the cores of who starts it."""
    folder.mkdir()
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[LOAD_CORE]})
    try:
        daemon = kind(folder)
    finally:
        os.sched_setaffinity(0, allowed)
    try:
        yield daemon
    finally:
        if isinstance(daemon, Kafka):  # it would save gigabytes that nobody reads
            daemon.process.kill()
            daemon.process.wait()
        else:
            daemon.stop()


@contextmanager
def process(
    name: str, argv: Sequence[str], folder: Path, **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on the stream's core. Raises BenchFailed when it fails."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            [*pinned(SERVER_CORE), *argv],
            env={**os.environ, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield running
        ended = running.poll()
    finally:
        running.terminate()
        running.wait(30)
    if (ended or running.returncode) not in (0, -15, 143):
        raise BenchFailed(f"{name} failed: {log.read_text(errors='replace')[-500:]}")


def stream(bench: Bench, source: str, daemon: Daemon, *told: str, out: str = "out") -> list[str]:
    flags = ["--from", source, "--to", daemon.sink(out), "--dead-letters", daemon.sink("dead")]
    return [FORETELL, "stream", str(bench.package), *flags, *told]
