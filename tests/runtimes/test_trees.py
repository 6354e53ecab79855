"""The kernel over trees: the sums of a plain walk, to the last bit, whatever the trees ask."""

import errno
import logging
import math
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.core.field import Array
from foretell.errors import BadPackage, MissingExtra
from foretell.packing.compiling.drawing.forest import widened_splits
from foretell.runtimes.trees import kernel, native
from foretell.runtimes.trees.layout import block_rows, packed
from foretell.runtimes.trees.table import TreeTable

pytestmark = pytest.mark.slow

N_COLUMNS = 5


def grown(seed: int, **asked: Any) -> TreeTable:
    """Random trees: `depth`, `n_trees`, `n_targets`, `wide`, `gaps`, `sets`, `single`, `narrow`."""
    random = np.random.default_rng(seed)
    wide, n_targets = asked.get("wide", False), asked.get("n_targets", 1)
    words = random.integers(0, 1 << 63, 8).astype(np.uint64)
    words[0], words[3], words[6] = 2, 2, 1  # two sets of two words, and one of one
    first, nodes, values = [0], list[tuple[Any, ...]](), list[float]()
    targets = []
    for _ in range(asked.get("n_trees", 9)):
        depth = int(random.integers(0, asked.get("depth", 3) + 1))
        width = n_targets if wide else 1
        targets.append((0 if wide else int(random.integers(n_targets)), width))
        own: list[Any] = [(0, random.random() < 0.1)]
        done = 0
        while done < len(own):
            level, ends = own[done]
            if ends or level == depth:
                own[done] = (-1, 0.0, len(values), False, -1)
                values += random.normal(size=width).tolist()
            else:
                in_set = asked.get("sets", False) and random.random() < 0.4
                some = random.choice([random.normal(), 0.0, np.inf, -np.inf, 3.0], p=SPLITS)
                own[done] = (
                    N_COLUMNS - int(random.integers(1, 3))
                    if in_set
                    else int(random.integers(N_COLUMNS - 1)),
                    float(np.float32(some)) if asked.get("narrow") else float(some),
                    first[-1] + len(own),
                    bool(asked.get("gaps") and random.random() < 0.5),
                    int(random.choice([0, 3, 6])) if in_set else -1,
                )
                # deep trees are long rather than full
                ends = random.random(2) < (0.0 if level < 3 else 0.45)
                own += [(level + 1, bool(end)) for end in ends]
            done += 1
        nodes += own
        first.append(len(nodes))
    column, splits, link, missing, sets = zip(*nodes, strict=True)
    split = np.array(splits)
    if asked.get("single") and not asked.get("narrow"):
        # below the least float32 number, a cast makes -inf: not what such a split means
        split = widened_splits(np.where(split == -np.inf, 0.5, split))
    number = np.float32 if asked.get("narrow") else np.float64
    return TreeTable(
        first=np.array(first),
        column=np.array(column, np.int32),
        split=split,
        link=np.array(link, np.int32),
        missing_left=np.array(missing),
        sets=np.array(sets, np.int32),
        words=words,
        target=np.array([target for target, _ in targets], np.int32),
        width=np.array([width for _, width in targets], np.int32),
        values=np.array(values, number),
        start=random.normal(size=n_targets).astype(number),
        n_columns=N_COLUMNS,
        single=bool(asked.get("single")),
    )


SPLITS = [0.8, 0.1, 0.03, 0.03, 0.04]
CODES = [0, 1, 2, 63, 64, 127, 128, -1, 2.5, np.nan, np.inf, 1e18, 2 - 1e-9]


def rows(seed: int, n_rows: int, table: TreeTable) -> Array:
    """Random rows, with values at and beside the splits, gaps, infinities and huge numbers.

    Where sums are float32 numbers, so are these: such trees are never asked others.
    """
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(n_rows, N_COLUMNS))
    at_splits = random.random(matrix.shape) < 0.3
    near = random.choice(table.split, at_splits.sum())
    matrix[at_splits] = random.choice([near, np.nextafter(near, np.inf)], axis=0)
    odd = random.random(matrix.shape) < 0.1
    matrix[odd] = random.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e300], odd.sum())
    for column in (-1, -2):
        matrix[:, column] = random.choice(CODES, n_rows)
    with np.errstate(over="ignore"):
        return matrix.astype(table.values.dtype).astype(np.float64)


def walked(table: TreeTable, matrix: Array) -> Array:
    """The sums by the rules of the table, one comparison at a time."""
    sums = np.repeat(table.start[None, :], len(matrix), axis=0)
    for row, total in zip(matrix.tolist(), sums, strict=True):
        for tree in range(table.n_trees):
            node = int(table.first[tree])
            while table.column[node] >= 0:
                node = int(table.link[node]) + (not goes_left(table, node, row))
            place, width = int(table.link[node]), int(table.width[tree])
            target = int(table.target[tree])
            total[target : target + width] += table.values[place : place + width]
    return sums


def goes_left(table: TreeTable, node: int, row: list[float]) -> bool:
    value, place = row[table.column[node]], int(table.sets[node])
    if math.isnan(value):
        return bool(table.missing_left[node])
    if place < 0:
        return bool(value <= table.split[node])
    if value != np.rint(value) or not 0 <= value < 64 * int(table.words[place]):
        return False
    word = int(table.words[place + 1 + int(value) // 64])
    return bool(word >> (int(value) % 64) & 1)


def summed(table: TreeTable, matrix: Array) -> Array:
    return native.Sums(packed(table))(matrix)


VARIANTS: dict[str, dict[str, Any]] = {
    "shallow": {"depth": 3, "n_trees": 40},
    "shallow of float32": {"depth": 3, "single": True, "gaps": True},
    "of five levels": {"depth": 5, "n_trees": 30},
    "deep": {"depth": 40, "n_trees": 30},
    "deep of float32": {"depth": 40, "n_trees": 30, "single": True, "gaps": True},
    "several targets": {"depth": 6, "n_targets": 3},
    "leaves of several values": {"depth": 6, "n_targets": 4, "wide": True},
    "leaves of several values, shallow": {"depth": 2, "n_targets": 3, "wide": True, "single": True},
    "gaps": {"depth": 8, "gaps": True, "n_trees": 30},
    "sets": {"depth": 8, "sets": True, "n_trees": 30},
    "sets and gaps": {"depth": 8, "sets": True, "gaps": True, "n_trees": 30, "single": True},
    "summed in float32": {"depth": 8, "single": True, "narrow": True, "n_trees": 30},
    "sets, summed in float32": {"depth": 8, "single": True, "narrow": True, "sets": True},
    "leaves only": {"depth": 0, "n_trees": 3},
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_sums_as_a_plain_walk_does(name: str, seed: int) -> None:
    table = grown(seed, **VARIANTS[name])
    matrix = rows(seed, 700, table)  # more than a block, and no whole number of them
    np.testing.assert_array_equal(summed(table, matrix), walked(table, matrix))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    n_rows=st.integers(0, 90),
    form=st.fixed_dictionaries(
        {
            "depth": st.integers(0, 30),
            "n_trees": st.integers(1, 12),
            "n_targets": st.integers(1, 4),
            **{name: st.booleans() for name in ("wide", "gaps", "sets", "single")},
        }
    ),
)
def test_trees_of_any_form_are_summed(seed: int, n_rows: int, form: dict[str, Any]) -> None:
    table = grown(seed, **form, narrow=form["single"] and seed % 2 == 0)
    matrix = rows(seed, n_rows, table)
    np.testing.assert_array_equal(summed(table, matrix), walked(table, matrix))


@pytest.mark.parametrize(("n_columns", "whole"), [(4_000, np.uint32), (5_000, np.uint64)])
def test_more_columns_than_a_short_link_tells_apart(n_columns: int, whole: Any) -> None:
    table = grown(9, depth=14, n_trees=150, single=True)
    own = np.cumsum(table.column >= 0) % n_columns
    table = replace(table, n_columns=n_columns, column=np.where(table.column < 0, -1, own))
    assert packed(table).link.dtype == whole
    matrix = np.random.default_rng(9).normal(size=(20, n_columns))
    np.testing.assert_array_equal(summed(table, matrix), walked(table, matrix))


@pytest.mark.parametrize("n_rows", [0, 1, 7, 64, 511, 512, 513])
def test_any_number_of_rows_is_summed(n_rows: int) -> None:
    table = grown(1, depth=5)
    matrix = rows(1, n_rows, table)
    np.testing.assert_array_equal(summed(table, matrix), walked(table, matrix))


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    table = grown(2, depth=30, gaps=True, single=True)
    matrix = rows(2, 300, table)
    whole = summed(table, matrix)
    apart = np.concatenate([summed(table, matrix[place : place + 1]) for place in range(300)])
    np.testing.assert_array_equal(whole, apart)


def test_many_columns_are_taken_in_smaller_blocks() -> None:
    table = replace(grown(3, depth=6), n_columns=900)
    table = replace(table, column=np.where(table.column < 0, -1, table.column * 200))
    wide = np.zeros((130, 900))
    wide[:, ::200] = rows(3, 130, table)[:, :5]
    np.testing.assert_array_equal(summed(table, wide), walked(table, wide))
    many = packed(grown(3, depth=6))
    assert block_rows(many) > block_rows(many._replace(at_top=np.zeros(900, bool)))


def test_one_kernel_serves_many_threads_at_once() -> None:
    table = grown(4, depth=12, n_trees=50, gaps=True)
    parts = [rows(seed, 1500, table) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: summed(table, part), parts))
    for part, sums in zip(parts, found, strict=True):
        np.testing.assert_array_equal(sums, walked(table, part))


def test_nothing_is_compiled_for_a_model_alone() -> None:
    for seed in range(5, 12):
        for variant in VARIANTS.values():
            summed(grown(seed, **variant), np.zeros((3, N_COLUMNS)))
    # float32 and float64 splits, float32 and float64 sums
    assert 1 <= native._ready.cache_info().currsize <= 4


def test_numbers_may_lie_as_they_like() -> None:
    table = grown(8, depth=6, sets=True)
    matrix = rows(8, 600, table)
    apart = np.zeros((1200, 2 * N_COLUMNS))[::2, ::2]
    apart[:] = matrix
    odd = np.frombuffer(b"x" + matrix.tobytes(), np.uint8)[1:].view(np.float64)
    fixed = matrix.copy()
    fixed.flags.writeable = False
    odd = odd.reshape(matrix.shape)
    for way in (np.asfortranarray(matrix), apart, odd, fixed, matrix.astype(">f8")):
        np.testing.assert_array_equal(summed(table, way), walked(table, matrix))


def test_a_table_survives_its_file() -> None:
    table = grown(6, depth=6, sets=True, gaps=True, n_targets=3)
    read = TreeTable.from_bytes(table.to_bytes(), "trees.npz")
    for name in TreeTable.__slots__:
        found, wanted = getattr(read, name), getattr(table, name)
        np.testing.assert_array_equal(found, wanted)
    assert read.to_bytes() == table.to_bytes()


def _moved(name: str, place: int, value: Any) -> Any:
    def change(table: TreeTable) -> TreeTable:
        part = getattr(table, name).copy()
        part[place] = value
        return replace(table, **{name: part})

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_moved("link", 0, 10**6), "no children"),
        (_moved("link", 0, 0), "no children"),
        (_moved("link", -1, 10**6), "no value"),
        (_moved("link", -1, -5), "no value"),
        (_moved("column", 0, 99), "compares nothing"),
        (_moved("split", 0, np.nan), "compares nothing"),
        (_moved("sets", 0, 99), "a set that there is not"),
        (_moved("words", 0, 99), "leads out of the words"),
        (_moved("target", 0, 7), "a target that there is not"),
        (_moved("target", 0, -1), "no target"),
        (_moved("width", 0, 2), "a target that there is not"),
        (_moved("first", 1, 10**6), "one behind the other"),
        (lambda table: replace(table, sets=table.sets[1:]), "differ in number"),
        (lambda table: replace(table, values=table.values.astype(int)), "not numbers"),
        (lambda table: replace(table, start=table.start[:0]), "do not begin"),
    ],
)
def test_trees_that_would_lead_out_of_their_arrays_are_refused(change: Any, words: str) -> None:
    table = grown(6, depth=5, sets=True, n_trees=20)
    assert table.column[0] >= 0
    table = _moved("sets", 0, 0)(table)
    table = _moved("column", 0, N_COLUMNS - 1)(table)
    TreeTable.from_bytes(table.to_bytes(), "trees.npz")
    with pytest.raises(BadPackage, match=words):
        TreeTable.from_bytes(change(table).to_bytes(), "trees.npz")


@pytest.mark.parametrize("cut", [0, 10, 700])
def test_a_damaged_file_is_refused(cut: int) -> None:
    with pytest.raises(BadPackage, match=r"trees.npz holds no readable trees"):
        TreeTable.from_bytes(grown(0).to_bytes()[:cut], "trees.npz")


PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
import numpy as np
from foretell.runtimes.trees.layout import packed
from foretell.runtimes.trees.native import Sums
from foretell.runtimes.trees.table import TreeTable

table = TreeTable.from_bytes(open(sys.argv[1], "rb").read(), "trees")
np.save(sys.argv[3], Sums(packed(table))(np.load(sys.argv[2])))
print("compiled" if "numba" in sys.modules else "read")
"""


class Elsewhere(NamedTuple):
    """What another process did that summed trees: rightly."""

    did: str
    said: str


def asked_elsewhere(folder: Path, environment: dict[str, str], **form: Any) -> Elsewhere:
    """Sum trees in another process."""
    table = grown(7, depth=6, **form)
    matrix = rows(7, 50, table)
    (folder / "trees").write_bytes(table.to_bytes())
    np.save(folder / "rows.npy", matrix)
    done = run(
        [sys.executable, "-c", PROGRAM, "trees", "rows.npy", "sums.npy"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(folder / "sums.npy"), walked(table, matrix))
    return Elsewhere(done.stdout.strip(), done.stderr)


def keeping(python: object, user: object) -> dict[str, str]:
    """Where Python keeps compiled files, and where the user's home is."""
    return {"PYTHONPYCACHEPREFIX": str(python), "HOME": str(user)}


NOWHERE = "/dev/null"


def kept_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix == ".bin"]


def test_the_compiled_kernel_is_kept_and_a_damaged_one_is_made_anew(tmp_path: Path) -> None:
    where = keeping(tmp_path / "kept", NOWHERE)
    assert asked_elsewhere(tmp_path, where) == ("compiled", "")
    assert asked_elsewhere(tmp_path, where) == ("read", "")
    (kept,) = kept_in(tmp_path)
    code = kept.read_bytes()
    for damaged in (b"", code[:5000] + b"x" + code[5001:]):
        kept.write_bytes(damaged)
        did, said = asked_elsewhere(tmp_path, where)
        assert did == "compiled"
        assert f"{kept} are damaged" in said
        assert asked_elsewhere(tmp_path, where) == ("read", "")
    assert kept_in(tmp_path) == [kept]


def test_where_python_keeps_nothing_the_users_own_cache_does(tmp_path: Path) -> None:
    where = keeping(NOWHERE, tmp_path / "home")
    assert asked_elsewhere(tmp_path, where) == ("compiled", "")
    assert asked_elsewhere(tmp_path, where) == ("read", "")
    assert [path.parent for path in kept_in(tmp_path)] == [tmp_path / "home" / ".cache/foretell"]


def test_where_nothing_can_be_kept_each_process_compiles(tmp_path: Path) -> None:
    did, said = asked_elsewhere(tmp_path, keeping(NOWHERE, NOWHERE))
    assert did == "compiled"
    assert "compiled trees are not kept" in said


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
def test_what_is_kept_asks_for_nothing_of_numba(tmp_path: Path, single: bool, narrow: bool) -> None:
    summed(grown(7, single=single, narrow=narrow), np.zeros((1, N_COLUMNS)))
    assert asked_elsewhere(tmp_path, {}, single=single, narrow=narrow) == ("read", "")


@pytest.mark.parametrize("setting", ["NUMBA_OPT=0", "NUMBA_DEBUGINFO=1"])
def test_what_is_compiled_for_debugging_is_not_kept(tmp_path: Path, setting: str) -> None:
    name, value = setting.split("=")
    where = keeping(tmp_path / "kept", NOWHERE) | {name: value}
    did, said = asked_elsewhere(tmp_path, where)
    assert did == "compiled"
    assert f"numba is set otherwise: {name.removeprefix('NUMBA_')}" in said
    assert kept_in(tmp_path) == []


def test_a_numba_that_compiles_nothing_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", 1)
    with pytest.raises(MissingExtra, match=r"numba .* \(unset NUMBA_DISABLE_JIT\)"):
        native._made("trees.bin", "float32", "float64", native._machine())


FORKING = """
import os, sys, threading, time
from foretell.runtimes.trees import native

held = threading.Thread(target=native._one_at_a_time.acquire)
held.start()
held.join()
child = os.fork()
if not child:
    native._ready("float32", "float64")
    os._exit(0)
for _ in range(6000):
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.01)
os.kill(child, 9)
sys.exit("the child waits for a thread that it does not have")
"""


def test_a_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    done = run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(native, "_folders", lambda: [tmp_path])
    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.INFO):
        native._keep("trees.bin", bytes(1000))
    assert "No space left" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_function_that_there_is_not_is_told_of_before_it_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asking = """
declare double @no_such_function(double)
define void @sums(ptr %told) {
  %1 = call double @no_such_function(double 0.0)
  ret void
}
"""
    monkeypatch.setattr(kernel, "compiled", lambda *_: (asking, "sums"))
    told = r"numba \S+ does not compile trees \(.* ask for no_such_function, which there is not\)"
    with pytest.raises(MissingExtra, match=told):
        native._made("trees.bin", "float32", "float64", native._machine())
