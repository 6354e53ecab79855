"""Spoilt Arrow and Parquet is refused: never another error, never the end of the process."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from foretell.codecs.tables import arrow_tables
from foretell.codecs.tables.expansion import Bytes, Unreadable
from foretell.codecs.tables.parquet_layout import Chunk, Compact, Layout, check_pages, layout_of
from foretell.errors import InvalidInput, TooLarge
from tests.codecs import mutations

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_spoilt_bodies_are_read_or_refused(seed: int) -> None:
    """pyarrow itself ends the process (SIGABRT) on about one in 5,000 of the Parquet ones."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.codecs.mutations", "4000", str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    counts = ast.literal_eval(ended.stdout)
    assert sum(counts.values()) == 4000
    assert counts["invalid_input"] > 3000
    assert min(counts["read"], counts["too_large"]) > 10


@pytest.mark.parametrize("name", mutations.bodies())
def test_a_body_that_ends_early_is_refused_wherever_it_ends(name: str) -> None:
    read, body = mutations.bodies()[name]
    step = 1 if len(body) < 4000 else 7
    for stop in range(1, len(body) - 8, step):
        try:
            batch = read(mutations.SIGNATURE, body[:stop], mutations.LIMITS)
        except (InvalidInput, TooLarge):
            continue
        # A stream may end after any of its batches: nothing in it tells how many there are.
        assert read is arrow_tables.read_stream
        assert batch.n_rows in (20, 40, 50)


def test_the_layout_of_a_file_finds_every_page() -> None:
    for name, (_, body) in mutations.bodies().items():
        if name.startswith("parquet"):
            layout = layout_of(body)
            assert layout.n_rows == 50
            assert [chunk.path[0] for chunk in layout.chunks] == ["x", "n", "s", "v"] * 2
            exact = {"x": 50, "n": 50, "s": 50, "v": 100}
            check_pages(body, layout, exact, Bytes(2**20))
            for column, values in exact.items():
                with pytest.raises(TooLarge, match=f"column '{column}' has more than"):
                    check_pages(body, layout, exact | {column: values - 1}, Bytes(2**20))
            with pytest.raises(TooLarge, match="unpacks to more than 100 bytes"):
                check_pages(body, layout, exact, Bytes(100))


def test_pages_outside_of_the_file_or_their_column_are_unreadable() -> None:
    body = mutations.bodies()["parquet none True 1.0"][1]
    first = layout_of(body).chunks[0]
    for start, stop in ((-1, 10), (first.start, len(body) + 1), (first.start, first.stop - 1)):
        moved = Layout(50, [Chunk(first.path, False, start, stop)])
        with pytest.raises(Unreadable):
            check_pages(body, moved, {"x": 1000}, Bytes(2**20))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x15",
        b"\x15\x80",
        b"\x15" + b"\xff" * 12,
        b"\x1c" * 100,
        b"\x19\xff\xff",
        b"\x18\x7f",
    ],
)
def test_thrift_that_is_none_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        Compact(body, 0).struct()
