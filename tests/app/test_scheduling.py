"""I/O threads wait for their turn while requests crowd in, and are let alone otherwise."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from foretell.app.serving.scheduling import crowded, io_threads, schedule
from foretell.engine.dataplane import Traffic

if not hasattr(os, "SCHED_BATCH"):
    pytest.skip("there is no such policy here", allow_module_level=True)


@contextmanager
def a_thread() -> Iterator[int]:
    """The id of a thread that lives as long as the block."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        yield thread.native_id
    finally:
        done.set()
        thread.join()


def test_a_thread_that_ended_does_not_keep_the_others_from_their_policy() -> None:
    with a_thread() as ended:
        pass
    with a_thread() as tid:
        schedule([ended, tid], os.SCHED_BATCH)
        assert os.sched_getscheduler(tid) == os.SCHED_BATCH
        schedule([ended, tid], os.SCHED_OTHER)
        assert os.sched_getscheduler(tid) == os.SCHED_OTHER


def test_a_policy_that_somebody_chose_stays() -> None:
    with a_thread() as tid:
        os.sched_setscheduler(tid, os.SCHED_IDLE, os.sched_param(0))
        for policy in (os.SCHED_BATCH, os.SCHED_OTHER):
            schedule([tid], policy)
            assert os.sched_getscheduler(tid) == os.SCHED_IDLE


def test_threads_of_python_are_no_io_threads() -> None:
    with a_thread() as tid:
        assert {tid, threading.main_thread().native_id}.isdisjoint(io_threads())


@pytest.mark.parametrize(
    ("requests", "batches", "expected"),
    [(0, 0, False), (1000, 1000, False), (1000, 500, False), (1000, 300, True), (64, 1, True)],
)
def test_crowds_are_many_requests_a_batch(requests: int, batches: int, expected: bool) -> None:
    assert crowded(Traffic(5, 5), Traffic(5 + requests, 5 + batches)) is expected
