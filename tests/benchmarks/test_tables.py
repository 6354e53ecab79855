"""The client of the tables section: every form of it is answered, and right."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.table_client import FORMS

from foretell.packing import pack
from tests.servers import running

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_form_is_measured_and_gets_the_right_answers(tmp_path: Path) -> None:
    pack(["wide_model:Wide"], repository=tmp_path, python_path=ROOT / "benchmarks")
    with running(tmp_path) as server:
        url = f"{server.url}/batch_predict"
        argv = [sys.executable, "-m", "benchmarks.table_client", url, "50", "0"]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [form for form, *_ in told] == list(FORMS)
    assert all(sent > 0 and got > 0 and took > 0 for _, sent, got, took in told)
