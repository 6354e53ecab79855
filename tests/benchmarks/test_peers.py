"""The benchmark of peers: how a run is judged, and that nothing is left running."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmarks.budgets import Verdict
from benchmarks.conditions import Conditions
from benchmarks.harness import Measurement
from benchmarks.peers.apps import churn
from benchmarks.peers.budgets import BUDGETS, judge_peers
from benchmarks.peers.environments import requirements
from benchmarks.peers.kept import FILE, peers
from benchmarks.peers.measuring import Failure, same
from benchmarks.peers.report import Run, Served
from benchmarks.peers.table import (
    FORETELL,
    ONNX,
    PEERS,
    SKLEARN,
    load_name,
    plain_answer,
    server_name,
)
from benchmarks.scenarios import linear
from benchmarks.sections import Effort
from benchmarks.servers import repository
from examples.train_churn_synthetic import CUSTOMER

pytestmark = pytest.mark.slow

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


def of_mosec(verdicts: Sequence[Verdict]) -> Verdict:
    (verdict,) = (one for one in verdicts if "mosec" in one.says)
    return verdict


@pytest.mark.parametrize(("ours", "word"), [(65.0, "held"), (67.0, "missed")])
def test_mosec_is_beaten_by_half_as_much_again(ours: float, word: str) -> None:
    middle = [measured(FORETELL, ONNX, 32, ours), measured("mosec", ONNX, 32, 100.0)]
    verdict = of_mosec(judge_peers(middle, {}, []))
    assert verdict.word == word
    assert verdict.measured == 100 / ours


def test_only_the_same_onnx_file_counts() -> None:
    middle = [measured(FORETELL, ONNX, 32, 1.0), measured("mosec", SKLEARN, 32, 100.0)]
    assert {one.word for one in judge_peers(middle, {}, [])} == {"not measured"}


def test_a_peer_that_cannot_be_had_or_fails_is_told_with_its_reason() -> None:
    middle = [measured(FORETELL, ONNX, 32, 1.0)]
    failed = [Failure(server_name("LitServe", ONNX), 1, "it did not start")]
    verdicts = judge_peers(middle, {"mosec": "no wheel for this machine"}, failed)
    assert of_mosec(verdicts).why == "no wheel for this machine"
    assert "it did not start" in {one.why for one in verdicts}


def test_every_peer_has_a_budget_and_pinned_requirements() -> None:
    assert {name for one in BUDGETS for name in (one.server, *one.against)} == {
        server_name(name, ONNX) for name in (FORETELL, *(peer.name for peer in PEERS))
    }
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


def kept(tmp_path: Path) -> Path:
    """What is kept of a run in which Foretell and mosec were measured, and one was absent."""
    middle = [
        measured(FORETELL, ONNX, 32, 40.0),
        measured(FORETELL, ONNX, 1, 0.25),
        measured("mosec", ONNX, 32, 80.0),
    ]
    served = [Served(name, {}, (), "somehow") for name in ("mosec", FORETELL)]
    served.append(Served("LitServe", {}, (), "somehow", "no wheel"))
    machine = {"date": "2031-02-03", "cpu": "an abacus", "versions": {"python": "3"}}
    conditions = Conditions("make peers", 3, 2, machine)
    run = Run(conditions, (1, 32), served, middle, middle, [], [])
    for name, text in run.files().items():
        (tmp_path / name).write_text(text)
    return tmp_path / FILE.name


def effort(folder: Path) -> Effort:
    return Effort(1, 1, (1,), True, folder, lambda _: None)


def test_the_results_show_what_was_kept_of_the_peers_and_of_which_run_it_is(
    tmp_path: Path,
) -> None:
    section = peers(effort(tmp_path), kept(tmp_path))
    assert [tuple(row) for row in section.rows] == [
        (FORETELL, "40.0", "1.0", "0.25"),
        ("mosec", "80.0", "2.0", ""),
        ("LitServe", "", "", ""),
    ]
    for words in ("another run", "2031-02-03", "an abacus", "`make peers`", "(PEERS.md)"):
        assert words in section.text
    assert of_mosec(section.verdicts).measured == 2.0
    assert all("another run, of 2031-02-03" in str(verdict) for verdict in section.verdicts)
    assert any("no wheel" in verdict.why for verdict in section.verdicts)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"medians": []}', b'"\xff"'])
def test_peers_that_nothing_readable_was_kept_of_are_not_measured(
    content: bytes | None, tmp_path: Path
) -> None:
    file = tmp_path / FILE.name
    if content is not None:
        file.write_bytes(content)
    section = peers(effort(tmp_path), file)
    assert list(section.rows) == []
    assert "Nothing is known of the peers: peers.json" in section.text
    assert len(section.verdicts) == len(BUDGETS)
    assert {verdict.word for verdict in section.verdicts} == {"not measured"}


def test_the_committed_numbers_are_of_the_shape_that_is_read() -> None:
    section = peers(effort(FILE.parent), FILE)
    assert {row[0] for row in section.rows} >= {FORETELL, "mosec"}
    assert "held" in {verdict.word for verdict in section.verdicts}


@pytest.mark.parametrize("kind", [ONNX, SKLEARN])
def test_the_peers_model_gives_the_right_answer_from_either_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = linear(tmp_path)
    graph = repository(site) / "churn" / "1.0.0" / "model.onnx"
    monkeypatch.setenv("MODEL", str(graph if kind == ONNX else site.model_folder))
    (told,) = churn.answers(churn.load(), [CUSTOMER])
    right = site.answer["prediction"], site.answer["probability"]
    assert same(plain_answer(told), right)
