"""`foretell stream` over pipes and files: every line has a result or a dead letter, in order."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import foretell
from foretell.codecs.json_rows import JsonRows
from foretell.core.batch import Batch
from foretell.engine import fleet
from foretell.engine.executors import Outcome
from foretell.engine.executors.choosing import ExecutorKind
from foretell.engine.repository import read
from foretell.errors import BadSettings
from foretell.packing import pack
from foretell.transports.stream.formats import MOST_BYTES
from foretell.transports.stream.message import Message
from foretell.transports.stream.scoring import Choices, Scorer


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream-models")
    return pack(
        ["moody_model:Moody"], name="moody", repository=folder, python_path=Path(__file__).parent
    )


@pytest.fixture(scope="module")
def loaded(package: Path) -> fleet.Loaded:
    return fleet.load(read(package), kind=ExecutorKind.INLINE)


def messages(*values: Any) -> list[Message]:
    raw = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in values]
    return [Message(f"m:{number}", value) for number, value in enumerate(raw)]


def test_a_poison_message_becomes_a_dead_letter_and_its_neighbours_results(
    loaded: fleet.Loaded,
) -> None:
    asked = messages({"x": 1, "y": 2}, {"x": 13, "y": 2}, b"\xff{", [3, 2], {"x": "a", "y": 1})
    scored = Scorer(loaded, Choices()).score(asked)
    assert [json.loads(record.value)["prediction"] for record in scored.results] == [1, 0]
    letters = [json.loads(record.value) for record in scored.dead]
    assert [one["position"] for one in letters] == ["m:1", "m:2", "m:4"]
    assert [one["code"] for one in letters] == ["model_failed", "invalid_input", "invalid_input"]
    assert letters[1]["value_base64"] == "/3s="
    assert (letters[2]["field"], letters[2]["value"]) == ("x", '{"x": "a", "y": 1}')


def test_a_result_is_the_rest_doors_answer_behind_its_id(loaded: fleet.Loaded) -> None:
    scorer = Scorer(loaded, Choices())
    (record,) = scorer.score(messages({"x": 1, "y": 2})).results
    outputs = loaded.predict(Batch(loaded.signature.inputs, 1, ((1.0, 2.0),)))
    answer = JsonRows(loaded.signature).encode_row(outputs, loaded.version)
    assert record.value == b'{"id":"%b",' % record.id.encode() + answer[1:]
    assert record.id == scorer.id_of("m:0") != scorer.id_of("m:1")


def test_other_fields_go_along_when_they_are_wanted(loaded: fleet.Loaded) -> None:
    asked = messages({"id": 7, "x": 1, "y": 2, "at": "noon"})
    (record,) = Scorer(loaded, Choices(key="at")).score(asked).results
    assert json.loads(record.value)["at"] == "noon"
    (record,) = Scorer(loaded, Choices(merged=True)).score(asked).results
    told = json.loads(record.value)
    assert told.pop("result_id") == record.id
    assert told == {
        "id": 7,
        "x": 1,
        "y": 2,
        "at": "noon",
        "prediction": 1,
        "model_version": "1.0.0",
    }


def test_only_what_the_condition_wants_is_published(loaded: fleet.Loaded) -> None:
    asked = messages([1, 2], [3, 2], [0, 2])
    scored = Scorer(loaded, Choices(when="prediction == 1 and prediction < 2")).score(asked)
    assert (len(scored.results), scored.left_out, scored.dead) == (2, 1, [])


@pytest.mark.parametrize(
    "when", ["prediction", "score > 1", 'prediction == "a"', "prediction == x"]
)
def test_a_condition_that_can_never_be_judged_is_refused(loaded: fleet.Loaded, when: str) -> None:
    with pytest.raises(BadSettings, match="--when"):
        Scorer(loaded, Choices(when=when))


def test_a_key_that_results_have_already_is_refused(loaded: fleet.Loaded) -> None:
    with pytest.raises(BadSettings, match="--key"):
        Scorer(loaded, Choices(key="prediction"))


def started(package: Path, *flags: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "foretell", "stream", package, *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen([*map(str, command)], stdin=pipe, stdout=pipe, stderr=pipe)


def lines(raw: bytes) -> list[Any]:
    return [json.loads(line) for line in raw.splitlines()]


@pytest.mark.slow
def test_every_line_has_a_result_or_a_dead_letter_in_order(package: Path, tmp_path: Path) -> None:
    dead = tmp_path / "dead.ndjson"
    rows = [b'{"x":%d,"y":50,"n":%d}' % (number % 100, number) for number in range(5000)]
    rows[77] = b"garbage"
    rows[78] = b"[" + b"1" * (MOST_BYTES + 400_000) + b"]"
    with started(package, "--key", "n", "--dead-letters", f"file:{dead}", "--json") as process:
        out, err = process.communicate(b"\n\n".join(rows), timeout=60)
    assert process.returncode == 3, err
    told = [one["n"] for one in lines(out)]
    assert told == [n for n in range(5000) if n % 100 != 13 and n not in (77, 78)]
    letters = lines(dead.read_bytes())
    assert [one["code"] for one in letters].count("too_large") == 1
    assert len(letters) == 52
    assert json.loads(err)["consumed"] == 5000
    offsets = [int(one["position"].rpartition(":")[2]) for one in letters]
    places = [
        sum(len(row) + 2 for row in rows[:n]) for n in range(5000) if n % 100 == 13 or n in (77, 78)
    ]
    assert offsets == places


@pytest.mark.slow
def test_a_single_line_is_answered_while_its_sender_waits_and_sigterm_ends_well(
    package: Path,
) -> None:
    with started(package) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (1, 3):
            process.stdin.write(b"[%d, 2]\n" % number)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["prediction"] == (number < 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.slow
def test_who_is_killed_and_starts_again_publishes_the_same_ids(
    package: Path, tmp_path: Path
) -> None:
    source, sink = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    source.write_bytes(b"".join(b"[%d, 2000]\n" % number for number in range(20, 4020)))
    flags = ["--from", f"file:{source}", "--to", f"file:{sink}"]
    with started(package, *flags) as process:
        deadline = time.monotonic() + 60
        while process.poll() is None and not (sink.exists() and sink.stat().st_size):
            assert time.monotonic() < deadline
        process.kill()
    with sink.open("ab") as torn:
        torn.write(b'{"id":"torn')
    with started(package, *flags) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    before, _, after = sink.read_bytes().partition(b'{"id":"torn\n')
    whole = before[: before.rfind(b"\n") + 1]  # the kill may have torn a line as well
    first, again = [one["id"] for one in lines(whole)], [one["id"] for one in lines(after)]
    assert len(again) == len(set(again)) == 4000
    assert first
    assert again[: len(first)] == first


def test_a_stream_runs_from_python_outside_of_the_main_thread(
    package: Path, tmp_path: Path
) -> None:
    source, sink = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    source.write_text('{"x": 1, "y": 2, "n": 5}\n[3, 2]\n')
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(foretell.stream, package, f"file:{source}", f"file:{sink}", key="n")
        report = running.result()
    assert report.describe()["published"] == 2
    assert [(one["n"], one["prediction"]) for one in lines(sink.read_bytes())] == [
        (5, 1),
        (None, 0),
    ]


def test_messages_do_not_make_the_collector_look_through_libraries(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, outcomes = list[int](), Scorer.outcomes

    def scored(self: Scorer, batches: Sequence[Batch]) -> list[Outcome]:
        frozen.append(gc.get_freeze_count())
        return outcomes(self, batches)

    monkeypatch.setattr(Scorer, "outcomes", scored)
    source = tmp_path / "in.ndjson"
    source.write_text("[1, 2]\n")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(foretell.stream, package, f"file:{source}", f"file:{tmp_path}/out").result()
    assert min(frozen) > 10_000
    assert gc.get_freeze_count() == 0, "of a program that goes on, it looks through all again"


@pytest.mark.slow
def test_a_reader_that_leaves_and_a_place_that_is_not_known_are_said(package: Path) -> None:
    with started(package, "--to", "pulsar://x/y") as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, b"file:PATH" in err) == (2, True)
    with started(package) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(b"[1, 2]\n")
        process.stdin.flush()
        assert process.wait(60) == 1
        assert process.stderr is not None
        assert b"nobody reads standard output" in process.stderr.read()
