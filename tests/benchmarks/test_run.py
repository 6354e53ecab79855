"""A run ends with the right exit code, and a server that answers wrongly yields no numbers."""

import functools
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.budgets import Verdict, at_most
from benchmarks.conditions import Conditions
from benchmarks.harness import BenchFailed, Server, run_rounds
from benchmarks.loads import Load
from benchmarks.report import Run
from benchmarks.sections import Effort, Section
from benchmarks.servers import free_port
from rich.console import Console

from benchmarks import commands, harness, report, run

MACHINE = {"date": "2026-01-01", "cpu": "an abacus", "versions": {"python": "3"}}
RIGHT = {"prediction": 0, "probability": [0.25, 0.75], "model_version": "1.0.0"}
LIAR = """
import http.server, sys

class Liar(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"{}")

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(sys.argv[2].encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Liar).serve_forever()
"""


def answering(body: str) -> Server:
    """A server that answers every POST with `body`."""
    port = free_port()
    argv = (sys.executable, "-c", LIAR, str(port), body)
    return Server("liar", argv, f"http://127.0.0.1:{port}/health")


def measured(server: Server, folder: Path) -> None:
    """Measure `server`: it is expected to answer RIGHT."""
    load = Load("one row", "/predict", b'{"x": 1.0}', 1, 1, RIGHT)
    run_rounds([server], [load], rounds=1, warm_up_s=1, logs=folder, tell=lambda _: None)


@pytest.mark.parametrize(
    "wrong",
    [
        {**RIGHT, "prediction": 1},
        {**RIGHT, "probability": [0.25, 0.7501]},
        {**RIGHT, "probability": [0.25]},
        {**RIGHT, "probability": [0.25, None]},
        {name: value for name, value in RIGHT.items() if name != "model_version"},
        "sorry",
    ],
)
def test_a_server_that_answers_wrongly_is_not_measured(wrong: object, tmp_path: Path) -> None:
    with pytest.raises(BenchFailed, match="liar gave a wrong answer to 'one row'"):
        measured(answering(json.dumps(wrong)), tmp_path)


def test_a_server_that_answers_no_json_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(BenchFailed, match="wrong answer"):
        measured(answering("<html>"), tmp_path)


def test_the_last_digits_of_a_number_may_differ(tmp_path: Path) -> None:
    told = {**RIGHT, "probability": [0.25 + 9e-7, 0.75 - 9e-7]}
    server = answering(json.dumps(told))
    with harness.running(server, tmp_path / "log"):
        harness.check_answer(server, Load("one row", "/predict", b"{}", 1, 1, RIGHT))


def test_a_server_that_does_not_start_is_told_of_in_its_own_words(tmp_path: Path) -> None:
    broken = Server("broken", (sys.executable, "-c", "raise SystemExit('no model')"), "http://x/")
    with (
        pytest.raises(BenchFailed, match="broken did not start: no model"),
        harness.running(broken, tmp_path / "log"),
    ):
        pass


def section_with(*verdicts: Verdict) -> Section:
    return Section("A part", "It is so.", ("load", "n"), [("x", "1"), ("y", "2")], verdicts)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tools are asked for, and nothing of the machine is read."""
    monkeypatch.setattr(run, "require_tools", lambda: None)
    monkeypatch.setattr(run, "machine", lambda: MACHINE)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("number", "code"), [(1.0, 0), (3.0, 1), (None, 0)], ids=["held", "missed", "not measured"]
)
def test_the_exit_code_says_whether_a_budget_was_missed(
    number: float | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = section_with(Verdict("good", at_most(2), 1.0), Verdict("it", at_most(2), number))
    monkeypatch.setitem(run.SECTIONS, "part", lambda _: section)
    assert run.main(["--sections", "part"]) == code


@pytest.mark.usefixtures("bare")
def test_a_lying_server_ends_the_run_with_2_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lying(effort: Effort) -> Section:
        measured(answering(json.dumps({**RIGHT, "prediction": 1})), effort.folder)
        return section_with()

    monkeypatch.setattr(run, "SECTIONS", {"lying": lying})
    monkeypatch.setattr(run, "HERE", tmp_path)
    assert run.main(["--json", str(tmp_path / "numbers.json")]) == 2
    assert "bench: liar gave a wrong answer" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("bare")
def test_a_fault_of_the_benchmark_itself_is_not_taken_for_a_missed_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "SECTIONS", {"broken": lambda _: 1 // 0})
    assert run.main([]) == 2


def run_of(*sections: Section) -> Run:
    return Run(Conditions("make bench", 3, 2, MACHINE), {one.title: one for one in sections})


def page_of(*sections: Section) -> str:
    return run_of(*sections).files()["RESULTS.md"]


def test_the_report_has_every_section_chart_and_verdict(tmp_path: Path) -> None:
    missed = Verdict("it", at_most(2), 3.0)
    charted = Section("Drawn", "See.", ("a",), [], charts={"cpu_chart.svg": "<svg/>"})
    found = run_of(section_with(missed), charted)
    commands.carry_out(lambda _: found, keep_in=tmp_path, json_file=None)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["RESULTS.md", "cpu_chart.svg", "results.json"]
    text = (tmp_path / "RESULTS.md").read_text()
    assert "Of 1 budgets: 0 held, 1 missed, 0 not measured." in text
    assert "- **missed**: it: 3×, at most 2×" in text  # noqa: RUF001
    assert "![cpu chart](cpu_chart.svg)" in text
    assert "| x | 1 |" in text
    assert "`make bench`" in text
    assert "an abacus" in text
    parts = report.kept_in(tmp_path / "results.json")
    assert parts["A part"].section.verdicts == [missed]


@pytest.mark.usefixtures("bare")
def test_a_part_measured_anew_takes_the_place_of_the_old_one_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def part(title: str, number: float) -> Section:
        return replace(section_with(Verdict(title, at_most(2), number)), title=title)

    for name in ("first", "second", "third"):
        whole = part(name, 1.0)
        monkeypatch.setitem(run.SECTIONS, name, functools.partial(lambda one, _: one, whole))
    monkeypatch.setattr(run, "HERE", tmp_path)
    wanted = ["--sections", "first,second,third", "--keep"]
    assert run.main(wanted) == 2, "there is nothing to keep them with"
    (tmp_path / "results.json").write_text("{}")
    assert run.main(wanted) == 0
    later = {**MACHINE, "date": "2026-02-02"}
    monkeypatch.setattr(run, "machine", lambda: later)
    monkeypatch.setitem(run.SECTIONS, "second", lambda _: part("second", 3.0))
    assert run.main(["--sections", "second", "--keep"]) == 1
    text = (tmp_path / "RESULTS.md").read_text()
    assert "Of 3 budgets: 2 held, 1 missed" in text
    assert re.findall("^## ((?:first|second|third))", text, re.MULTILINE) == [
        *("first", "second", "third")
    ]
    assert text.count("another run, of 2026-02-02") == 2, "at its budget and above its table"
    assert "--sections second --keep`" in text
    assert run.main(["--sections", "second"]) == 1
    assert (tmp_path / "RESULTS.md").read_text() == text, "nobody asked to keep it"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--rounds", "0"],
        ["--seconds", "0"],
        ["--sections", "x"],
        ["--servers", "floor,x"],
        ["--sections", "stream", "--quick", "--keep"],
    ],
)
def test_a_wrong_word_on_the_command_line_is_told_before_anything_runs(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run.main(wrong)
    assert ended.value.code == 2
    assert re.search(
        r"--\w+ is at least 1|no \w+ is called 'x'|--keep takes", capsys.readouterr().err
    )


def test_every_line_of_a_table_has_as_many_cells() -> None:
    tables = [line for line in page_of(section_with()).splitlines() if line[:1] == "|"]
    assert len(tables) == 4
    assert {len(re.findall(r"\|", line)) for line in tables} == {3}


@pytest.mark.parametrize(
    ("others", "warned"), [((), False), ((1.0, 2.0, 90.0), False), ((40.0, 60.0), True)]
)
def test_a_run_on_a_busy_machine_says_so(others: tuple[float, ...], warned: bool) -> None:
    page = page_of(section_with(), Section("Busy", "It is.", ("a",), [], others=others))
    assert ("50 % of the server's core" in page) is warned


def test_the_console_shows_what_the_report_does(capsys: pytest.CaptureFixture[str]) -> None:
    run_of(section_with(Verdict("it", at_most(2), 3.0))).show(Console(width=100))
    told = capsys.readouterr().out
    assert "missed  it: 3×, at most 2×" in told  # noqa: RUF001
    assert "A part" in told
