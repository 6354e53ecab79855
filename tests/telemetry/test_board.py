"""The board: processes come, count, end in every way, and nothing that was counted is lost."""

import subprocess
import sys

BOARD = """
import os, signal
from foretell.telemetry.board import ALIVE, LEFT_FOR_RELOAD, OWN, REPLACES_DEAD, Board

COUNT, GAUGE = OWN, OWN + 1
board = Board(OWN + 2, [GAUGE])

def worker(work):
    '''Starts a process that claims a slot and works, and then waits to be ended.'''
    done, told = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            work(board.claim())
            os.write(told, b"x")
            signal.pause()
        finally:
            os._exit(1)
    assert os.read(done, 1) == b"x"
    return pid

def end(pid, how=signal.SIGKILL):
    os.kill(pid, how)
    os.waitpid(pid, 0)

def counting(cells):
    cells[COUNT] += 1
    cells[GAUGE] = 7

def leaving(cells):
    counting(cells)
    board.leave(for_reload=True)

def told():
    numbers, living = board.sums()
    places = (COUNT, GAUGE, ALIVE, REPLACES_DEAD, LEFT_FOR_RELOAD)
    return [int(numbers[place]) for place in places], len(living)
"""


def told(scene: str) -> list[str]:
    """What a scene of processes prints: they are forked where no test's threads run."""
    ended = subprocess.run(
        [sys.executable, "-c", BOARD + scene], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_a_killed_process_leaves_its_counts_and_none_of_its_gauges() -> None:
    scene = """
first, second = worker(counting), worker(counting)
print(told())
end(first)
print(told())
end(second)
print(told())
"""
    assert told(scene) == ["([2, 14, 2, 0, 0], 2)", "([2, 7, 1, 0, 0], 1)", "([2, 0, 0, 0, 0], 0)"]


def test_a_successor_goes_on_in_a_dead_ones_slot_and_counts_each_death_once() -> None:
    scene = """
pids = [worker(counting) for _ in range(3)]
end(pids[0]); end(pids[2])
later = [worker(counting) for _ in range(2)]
print(told(), int(board._header[0]))
later.append(worker(lambda cells: None))
print(told(), int(board._header[0]))
for pid in (pids[1], *later): end(pid)
"""
    assert told(scene) == ["([5, 21, 3, 2, 0], 3) 3", "([5, 21, 4, 2, 0], 4) 4"]


def test_who_leaves_did_not_die() -> None:
    scene = """
left, stays = worker(leaving), worker(counting)
print(told())
end(left)
after = worker(counting)
print(told())
end(stays); end(after)
"""
    assert told(scene) == ["([2, 7, 1, 0, 1], 1)", "([3, 14, 2, 0, 1], 2)"]


def test_many_that_claim_at_once_get_each_a_slot_of_their_own() -> None:
    scene = """
go, wait = os.pipe()
def slow(cells):
    os.read(go, 1)
    for _ in range(10_000):
        cells[COUNT] += 1
pids = []
for _ in range(8):
    pid = os.fork()
    if not pid:
        try:
            slow(board.claim())
        finally:
            os._exit(0)
    pids.append(pid)
os.write(wait, b"x" * 8)
for pid in pids: os.waitpid(pid, 0)
print(told()[0][0])
"""
    assert told(scene) == ["80000"]


def test_reading_takes_nobody_for_dead_or_alive() -> None:
    """Readers look at locks by taking them: a claim meanwhile must neither miss nor invent any."""
    scene = """
import threading
stop = threading.Event()
def read():
    while not stop.is_set():
        living = board.sums().living
        assert len(living) <= 2, living
readers = [threading.Thread(target=read) for _ in range(2)]
for reader in readers: reader.start()
stays = worker(counting)
for _ in range(50):
    end(worker(counting))
print(told(), int(board._header[0]))
stop.set()
for reader in readers: reader.join()
end(worker(counting)); end(stays)
"""
    assert told(scene) == ["([51, 7, 1, 49, 0], 1) 2"]


def test_what_may_not_fall_does_not() -> None:
    scene = """
print(board.never_less(5.0), board.never_less(4.0), board.never_less(6.0))
"""
    assert told(scene) == ["5.0 5.0 6.0"]
