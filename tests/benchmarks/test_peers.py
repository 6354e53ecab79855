"""The benchmark of peers: how a run is judged, and that nothing is left running."""

import os
import subprocess
import sys

import pytest
from benchmarks.harness import Measurement
from benchmarks.peers.environments import requirements
from benchmarks.peers.measuring import same
from benchmarks.peers.table import ONNX, PEERS, SKLEARN, load_name, server_name
from benchmarks.peers.verdicts import BUDGETS, FORETELL, judge

LEAVES_A_SESSION_BEHIND = """
import subprocess
from benchmarks.peers.measuring import adopt_orphans, end_offspring
adopt_orphans()
subprocess.run(["sh", "-c", "setsid sleep 60 >/dev/null & echo $!"])
end_offspring()
"""


def measured(server: str, kind: str, connections: int, number: float) -> Measurement:
    """Every number of it is `number`."""
    return Measurement(server_name(server, kind), load_name(connections), *[number] * 6)


@pytest.mark.parametrize(("ours", "word"), [(65.0, "held"), (67.0, "missed")])
def test_mosec_is_beaten_by_half_as_much_again(ours: float, word: str) -> None:
    middle = [measured(FORETELL, ONNX, 32, ours), measured("mosec", ONNX, 32, 100.0)]
    verdicts = {one.says: one for one in judge(middle, {})}
    (verdict,) = (one for says, one in verdicts.items() if "mosec" in says)
    assert verdict.word == word
    assert verdict.ratio == ours / 100


def test_only_the_same_onnx_file_counts() -> None:
    middle = [measured(FORETELL, ONNX, 32, 1.0), measured("mosec", SKLEARN, 32, 100.0)]
    assert {one.word for one in judge(middle, {})} == {"not measured"}


def test_a_peer_that_cannot_be_had_is_told_with_its_reason() -> None:
    middle = [measured(FORETELL, ONNX, 32, 1.0)]
    spoken = [one.spoken for one in judge(middle, {"mosec": "no wheel for this machine"})]
    assert any("mosec (no wheel for this machine)" in line for line in spoken)


def test_every_peer_has_a_budget_and_pinned_requirements() -> None:
    assert {budget.against for budget in BUDGETS} == {peer.name for peer in PEERS}
    for peer in PEERS:
        lines = requirements(peer.environment).splitlines()
        pinned = {line.partition("==")[0].partition("[")[0] for line in lines if "==" in line}
        assert pinned >= {*peer.packages, "onnxruntime", "scikit-learn", "numpy"}


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ((1, [0.25, 0.75]), True),
        ((1, [0.25 + 5e-7, 0.75 - 5e-7]), True),
        ((0, [0.25, 0.75]), False),
        ((1, [0.25 + 5e-6, 0.75 - 5e-6]), False),
        ((1, [0.25]), False),
    ],
)
def test_an_answer_is_right_to_a_millionth(told: tuple[int, list[float]], word: bool) -> None:
    assert same(told, (1, [0.25, 0.75])) is word


def test_a_process_in_a_session_of_its_own_is_ended_too() -> None:
    argv = [sys.executable, "-c", LEAVES_A_SESSION_BEHIND]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
