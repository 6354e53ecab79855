"""Whatever clients send is read or refused: a short run of what `make fuzz` does for longer."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzzing.run import fuzz
from tests.fuzzing.targets import Target

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_thousands_of_spoilt_bodies_are_read_or_refused() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing.run", "5000", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-3000:]
    assert "invalid_input" in ended.stdout


@pytest.mark.slow
def test_an_error_that_no_client_is_told_of_is_found_with_its_body() -> None:
    def read(body: bytes) -> None:
        if body.startswith(b"\xff"):
            raise LookupError("not in the tree")

    with pytest.raises(LookupError) as caught:
        fuzz(Target("faulty", [b"good"], read), 1000, 1)
    assert any("faulty was given b'\\xff" in note for note in caught.value.__notes__)
