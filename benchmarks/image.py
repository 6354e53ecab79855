"""The image of a compiled package: what it adds to its base, and how soon a container is ready.

Rules:

1. The image is built by `foretell image --build` from a wheel of this checkout, on Debian with its
   own Python (`make containers`), and run with a read-only root file system.
2. A start is timed from `podman run` to the first 200 of the readiness URL, podman's own work
   included.
"""

import statistics
import subprocess
import time

import httpx
from tests.deploy.podman import BASE, BASE_IMAGE, Podman, wheel_of_checkout

from benchmarks.budgets import Verdict, at_most
from benchmarks.harness import BenchFailed
from benchmarks.scenarios import boosted
from benchmarks.sections import Effort, Section
from benchmarks.servers import repository

MIB = 2**20
_TAG = "churn:bench"
_READY_S = 60.0
_TEXT = (
    "`foretell image --build` of the gradient boosting model, compiled; built and run with podman, "
    "the root file system read-only. The size is what the image adds to its base, which is Debian "
    "with Python. Ready: from `podman run` to the first 200 of `/health/ready`, median of {starts}."
)


def require_base() -> None:
    """Raises BenchFailed when there is nothing to build an image on."""
    if not BASE.exists():
        raise BenchFailed("the section image needs a base: make containers, or choose --sections")


def image(effort: Effort) -> Section:
    """Measure and judge. Raises BenchFailed."""
    folder = effort.own("image")
    starts = 2 if effort.quick else 5
    effort.tell("building")
    podman = Podman(folder)
    try:
        podman.make_base()
        models = repository(boosted(folder))
        podman.build(models, wheel_of_checkout(folder), _TAG, folder / "context")
        mib = (podman.size(_TAG) - podman.size(BASE_IMAGE)) / MIB
        effort.tell(f"{starts} starts")
        ready_s = statistics.median(_started(podman) for _ in range(starts))
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        raise BenchFailed(f"the image could not be measured: {error}") from error
    finally:
        podman.remove()
    verdicts = [
        Verdict("the image of a compiled package, over its base", at_most(350, "MiB"), mib),
        Verdict("a container of it, from start to ready", at_most(3, "s"), ready_s),
    ]
    return Section(
        "A container image",
        _TEXT.format(starts=starts),
        ("image", "over the base, MiB", "start to ready, s"),
        [("churn, compiled", f"{mib:.0f}", f"{ready_s:.2f}")],
        verdicts,
        labels=1,
        data=[{"mib": mib, "ready_s": ready_s}],
    )


def _started(podman: Podman) -> float:
    """Seconds from the start of a container until it is ready."""
    began = time.perf_counter()
    options = ("--read-only", "--publish", "127.0.0.1::8000")
    with podman.running(_TAG, *options) as name, httpx.Client() as client:
        url = f"http://127.0.0.1:{podman.port(name, 8000)}/health/ready"
        while time.perf_counter() - began < _READY_S:
            try:
                if client.get(url).status_code == 200:
                    return time.perf_counter() - began
            except httpx.TransportError:
                time.sleep(0.02)
    raise BenchFailed(f"a container was not ready after {_READY_S:.0f} s")
