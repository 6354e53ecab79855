"""Jobs on clusters: two Ray nodes, two Spark executors, and the answers of this one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell
from foretell.errors import InvalidInput
from tests.e2e.test_load import descendants, until
from tests.transports.batch.conftest import arrow
from tests.transports.batch.files import write, written

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("clusters"),  # there is one of each, and memory for no more
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and pipes of both libraries
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A cluster of two nodes, each with two cores."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    try:
        cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        import ray

        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def spark_session() -> Iterator[Any]:
    """A session with two executors, each a process of its own."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local-cluster[2,1,1024]").appName("tests")
    session = builder.config("spark.ui.enabled", "false").getOrCreate()
    try:
        yield session
    finally:
        session.stop()


@pytest.fixture(params=["ray", "spark"])
def engine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a job is told to run on."""
    if request.param == "ray":
        return {"engine": "ray", "ray_address": request.getfixturevalue("ray_address")}
    request.getfixturevalue("spark_session")
    return {"engine": "spark"}


def files(folder: Path) -> Path:
    """Three files, one of them text, in two folders, and one without rows."""
    table = arrow(300)
    write(table.slice(0, 120), folder / "day=1" / "a.parquet")
    write(table.slice(120, 0), folder / "day=1" / "empty.parquet")
    write(table.slice(120), folder / "day=2" / "c.parquet")
    return folder


def same_but_for_the_time(here: Path, there: Path) -> None:
    names, others = (
        [path.relative_to(root) for path in sorted(root.rglob("part-*.parquet"))]
        for root in (here, there)
    )
    assert names == others
    assert names
    for name in names:
        tables = [pq.read_table(root / name, partitioning=None) for root in (here, there)]
        ours, theirs = (table.drop_columns("predicted_at") for table in tables)
        assert ours.equals(theirs), name


def test_a_cluster_writes_what_this_process_writes(
    repository: Path, tmp_path: Path, engine: dict[str, Any]
) -> None:
    data = files(tmp_path / "in")
    choices: dict[str, Any] = {"part_rows": 40, "batch_rows": 25, "probabilities": "all"}
    own = foretell.batch(repository, data, tmp_path / "here", **choices)
    report = foretell.batch(repository, data, tmp_path / "there", **choices, **engine)
    same_but_for_the_time(tmp_path / "here", tmp_path / "there")
    about = {"output", "predicted_at", "seconds", "rows_per_s"}
    told = [{k: v for k, v in one.describe().items() if k not in about} for one in (own, report)]
    assert told[0] == told[1]
    assert json.loads((tmp_path / "there" / "_SUCCESS").read_text())["rows_scored"] == 300


def test_a_cluster_makes_one_file(repository: Path, tmp_path: Path, engine: dict[str, Any]) -> None:
    data = write(arrow(150), tmp_path / "in.csv")
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    foretell.batch(repository, data, here, part_rows=40, keep=["id"])
    foretell.batch(repository, data, there, part_rows=40, keep=["id"], **engine)
    lines = [path.read_text().splitlines() for path in (here, there)]
    cut = [[line.rpartition(",")[0] for line in one] for one in lines]  # the time comes last
    assert cut[0] == cut[1]
    assert len(cut[0]) == 151
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.csv", "in.csv", "there.csv"]


def spoilt(path: Path) -> Path:
    table = arrow(100)
    lines = [json.dumps(row, default=str) for row in table.to_pylist()]
    lines[57] = lines[57].replace('"active": ', '"active": "perhaps", "was": ')
    path.write_text("\n".join(lines))
    return path


def test_a_bad_row_ends_the_job_with_the_same_words(
    repository: Path, tmp_path: Path, engine: dict[str, Any]
) -> None:
    data = spoilt(tmp_path / "in.ndjson")
    with pytest.raises(InvalidInput) as own:
        foretell.batch(repository, data, tmp_path / "here", keep=["id"])
    with pytest.raises(InvalidInput) as told:
        foretell.batch(repository, data, tmp_path / "there", keep=["id"], **engine)
    assert (told.value.message, told.value.field, told.value.row) == (
        own.value.message,
        own.value.field,
        own.value.row,
    )
    assert told.value.row == 57


def test_bad_rows_are_quarantined_alike(
    repository: Path, tmp_path: Path, engine: dict[str, Any]
) -> None:
    data = spoilt(tmp_path / "in.ndjson")
    choices: dict[str, Any] = {"keep": ["id"], "on_bad_row": "quarantine", "part_rows": 30}
    foretell.batch(repository, data, tmp_path / "here", **choices)
    report = foretell.batch(repository, data, tmp_path / "there", **choices, **engine)
    assert (report.rows_scored, report.bad_rows) == (99, 1)
    same_but_for_the_time(tmp_path / "here", tmp_path / "there")
    apart = [path.read_text() for path in sorted(tmp_path.rglob("*/_quarantine/*"))]
    assert apart[0] == apart[1]


def done(output: Path) -> int:
    return len(list(output.glob("_foretell/done/*.json")))


def test_a_job_goes_on_on_another_engine(
    repository: Path, tmp_path: Path, engine: dict[str, Any]
) -> None:
    data = files(tmp_path / "in")
    foretell.batch(repository, data, tmp_path / "here", part_rows=40)
    foretell.batch(repository, data, tmp_path / "there", part_rows=40)
    (tmp_path / "there" / "_SUCCESS").unlink()
    lost = sorted((tmp_path / "there").glob("_foretell/done/*.json"))[1:4]
    for record in lost:
        (tmp_path / "there" / json.loads(record.read_text())["file"]).unlink()
        record.unlink()
    report = foretell.batch(repository, data, tmp_path / "there", part_rows=40, **engine)
    assert report.parts - report.parts_before == len(lost)
    same_but_for_the_time(tmp_path / "here", tmp_path / "there")


def actors() -> list[int]:
    """The processes of Ray's actors that run parts of a job."""
    found = []
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            if b"MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def test_a_killed_ray_worker_costs_nothing(
    repository: Path, tmp_path: Path, ray_address: str
) -> None:
    for number in range(20):
        write(arrow(2000, seed=number), tmp_path / "in" / f"{number:02}.parquet")
    foretell.batch(repository, tmp_path / "in", tmp_path / "here", part_rows=200)
    options: dict[str, Any] = {"part_rows": 200, "engine": "ray", "ray_address": ray_address}
    there = tmp_path / "there"
    with ThreadPoolExecutor(1) as beside:
        job = beside.submit(foretell.batch, repository, tmp_path / "in", there, **options)
        until(lambda: done(there) > 5)
        killed = actors()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        left = 200 - done(there)
        report = job.result()
    assert killed
    assert left > 0
    assert report.rows_scored == 40_000
    same_but_for_the_time(tmp_path / "here", there)


def test_a_cluster_that_is_not_there_is_told_of(repository: Path, tmp_path: Path) -> None:
    data = write(arrow(10), tmp_path / "in.parquet")
    command = [sys.executable, "-m", "foretell", "batch", str(repository), str(data)]
    told = [str(tmp_path / "out"), "--engine", "ray", "--ray-address", "127.0.0.1:1"]
    ended = subprocess.run(
        [*command, *told], check=False, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1
    assert "the Ray cluster at 127.0.0.1:1 does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_frame_gets_the_answers_of_a_job(
    repository: Path, tmp_path: Path, spark_session: Any
) -> None:
    import foretell.spark

    data = write(arrow(200), tmp_path / "in.parquet")
    foretell.batch(repository, data, tmp_path / "here")
    frame = spark_session.read.parquet(str(data))
    scored = foretell.spark.predict(frame, repository).drop("predicted_at")
    expected = written(tmp_path / "here").drop_columns("predicted_at")
    plain = expected.set_column(
        expected.schema.get_field_index("model_version"),
        "model_version",
        expected["model_version"].cast(pa.string()),
    )
    got = sorted(scored.toArrow().to_pylist(), key=lambda row: row["id"])
    assert got == plain.to_pylist()


def test_what_does_not_fit_a_frame_is_told_before_anything_runs(
    repository: Path, tmp_path: Path, spark_session: Any
) -> None:
    import foretell.spark

    frame = spark_session.read.parquet(str(write(arrow(20), tmp_path / "in.parquet")))
    wrong = frame.drop("active").withColumnRenamed("usage", "usages")
    with pytest.raises(InvalidInput) as told:
        foretell.spark.predict(wrong, repository)
    assert "'active' is missing" in told.value.message
    assert "usage=usages would take that" in told.value.message


def test_bad_rows_of_a_frame_end_it_or_are_left_out(
    repository: Path, tmp_path: Path, spark_session: Any
) -> None:
    from pyspark.errors import PythonException
    from pyspark.sql import functions

    import foretell.spark

    frame = spark_session.read.parquet(str(write(arrow(20), tmp_path / "in.parquet")))
    broken = functions.when(functions.col("id") != 3, functions.col("active"))
    wrong = frame.withColumn("active", broken)
    with pytest.raises(PythonException, match=r"'id': 3.*on_bad_row='skip'"):
        foretell.spark.predict(wrong, repository).collect()
    left = foretell.spark.predict(wrong, repository, on_bad_row="skip").collect()
    assert [row["id"] for row in left] == [n for n in range(20) if n != 3]
