"""What a job finds of itself, and of others, in its output."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from foretell.errors import JobRefused
from foretell.transports.batch.dataset import Form, Source
from foretell.transports.batch.job import BatchOptions, Job, changes, described
from foretell.transports.batch.ledger import Ledger, PartRecord, open_ledger, put_record
from foretell.transports.batch.storage import Store, open_store

JOB = Job(
    (
        Source("/in/day=1/a.csv", 10, "1", Form.CSV, (("day", "1"),)),
        Source("/in/day=2/b.csv", 20, "2", Form.CSV, (("day", "2"),)),
    ),
    "churn",
    "1.0.0",
    "abc",
    BatchOptions(),
    "2024-01-01T00:00:00+00:00",
)


def record(part: int) -> PartRecord:
    name = f"part-00000-{part:05}"
    return PartRecord(name, 0, part, part + 1, 1, 0, f"day=1/{name}.parquet", last=False)


def do(store: Store, ledger: Ledger, *parts: int) -> None:
    for part in parts:
        store.put(record(part).file, b"rows")
        ledger.commit(record(part))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "out"))


def told(old: Job, new: Job) -> list[str]:
    return list(changes(*(json.loads(json.dumps(described(job))) for job in (old, new))))


def test_a_job_goes_on_where_it_stopped(store: Store) -> None:
    with open_ledger(store, JOB) as ledger:
        assert not ledger.done
        do(store, ledger, 0, 1)
    again = replace(JOB, predicted_at="later", options=BatchOptions(threads=9, batch_rows=7))
    with open_ledger(store, again) as ledger:
        assert list(ledger.done.values()) == [record(0), record(1)]
        assert ledger.predicted_at == JOB.predicted_at
        assert not ledger.is_finished


def test_what_changed_is_told_thing_by_thing() -> None:
    assert told(JOB, replace(JOB, predicted_at="later")) == []
    a, b = JOB.sources
    other = replace(
        JOB,
        sources=(replace(a, stamp="3"), replace(b, path="/in/c.csv")),
        version="1.1.0",
        options=BatchOptions(on_bad_row="skip", keep=("id", "date"), columns={"age": "years"}),
    )
    assert told(JOB, other) == [
        "the model is churn 1.1.0, but was churn 1.0.0",
        "/in/c.csv is new",
        "/in/day=2/b.csv is gone",
        "/in/day=1/a.csv was written anew",
        "--columns is age=years, but was empty",
        "--keep is id,date, but was not given",
        "--on-bad-row is skip, but was fail",
    ]
    assert told(JOB, replace(JOB, digest="def")) == [
        "churn 1.0.0 was packed anew and is another model"
    ]
    many = tuple(Source(f"/in/{n}.csv", 1, "1", Form.CSV) for n in range(7))
    assert told(replace(JOB, sources=()), replace(JOB, sources=many)) == [
        "/in/0.csv, /in/1.csv, /in/2.csv, /in/3.csv, /in/4.csv and 2 more are new"
    ]


def test_another_job_is_refused_and_nothing_is_touched(store: Store) -> None:
    with open_ledger(store, JOB) as ledger:
        do(store, ledger, 0)
    before = {name: store.read(name) for name in store.names() if name != "_foretell/lock"}
    with (
        pytest.raises(JobRefused, match=r"another job's work: .* 1\.1\.0.*--overwrite"),
        open_ledger(store, replace(JOB, version="1.1.0")),
    ):
        pass
    assert {name: store.read(name) for name in before} == before


def test_overwriting_removes_what_the_former_job_wrote_and_nothing_else(store: Store) -> None:
    with open_ledger(store, JOB) as ledger:
        do(store, ledger, 0, 1)
        store.put("_quarantine/part-00000-00000.ndjson", b"{}")
        store.put("day=2/part-00001-00000.csv.gz", b"killed before its record")
        ledger.finish({})
    kept = ["README.txt", "_metadata/schema.json", "day=2/part-00001-00000.notes.parquet"]
    for name in kept[:2]:
        store.put(name, b"mine")
    other = replace(JOB, version="2", options=BatchOptions(overwrite=True))
    with open_ledger(store, other) as ledger:
        assert not ledger.done
        assert not ledger.is_finished
        left = [name for name in store.names() if not name.startswith("_foretell/")]
        assert left == sorted(kept[:2])
        do(store, ledger, 0)
    with open_ledger(store, other) as ledger:
        assert list(ledger.done) == [record(0).part], "the same job is not started afresh"


def test_a_removal_that_was_killed_is_taken_up_again(store: Store) -> None:
    with open_ledger(store, JOB) as ledger:
        do(store, ledger, 0, 1)
    store.remove(record(0).file)
    store.remove("_foretell/done/part-00000-00000.json")
    other = replace(JOB, version="2")
    with pytest.raises(JobRefused), open_ledger(store, other):
        pass
    with open_ledger(store, replace(other, options=BatchOptions(overwrite=True))) as ledger:
        assert not ledger.done


@pytest.mark.parametrize("text", [b"", b'{"part": "par', b"[]", b'{"part": "x"}', b"\xff\x00"])
def test_a_part_whose_record_is_torn_is_done_anew(store: Store, text: bytes) -> None:
    with open_ledger(store, JOB) as ledger:
        do(store, ledger, 0, 1)
    store.put("_foretell/done/part-00000-00001.json", text)
    with open_ledger(store, JOB) as ledger:
        assert list(ledger.done.values()) == [record(0)]


def test_a_part_whose_file_is_gone_is_done_anew(store: Store) -> None:
    with open_ledger(store, JOB) as ledger:
        do(store, ledger, 0, 1)
    store.remove(record(0).file)
    with open_ledger(store, JOB) as ledger:
        assert list(ledger.done.values()) == [record(1)]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff"])
def test_a_torn_job_is_another_one(store: Store, text: bytes) -> None:
    store.put("_foretell/job.json", text)
    with pytest.raises(JobRefused, match="--overwrite"), open_ledger(store, JOB):
        pass
    with open_ledger(store, replace(JOB, options=BatchOptions(overwrite=True))):
        pass


def test_a_job_does_not_begin_among_files_that_no_job_wrote(store: Store) -> None:
    store.put("notes.txt", b"no data")
    store.put("_old/x.parquet", b"hidden")
    with open_ledger(store, JOB):
        pass
    store.remove("_foretell/job.json")
    store.put("day=1/x.parquet", b"data")
    with (
        pytest.raises(JobRefused, match=r"files that are not this job's \(day=1/x\.parquet\)"),
        open_ledger(store, JOB),
    ):
        pass


def test_what_others_have_done_is_read_when_asked(store: Store) -> None:
    with open_ledger(store, JOB) as ledger:
        do(store, ledger, 0)
        store.put(record(1).file, b"rows")
        put_record(store, record(1))
        assert list(ledger.done) == [record(0).part]
        ledger.refresh()
        assert list(ledger.done) == [record(0).part, record(1).part]


def test_a_finished_job_stays_as_it_is(store: Store) -> None:
    with open_ledger(store, JOB) as ledger:
        ledger.finish({"rows": 1})
    with open_ledger(store, JOB) as ledger:
        assert ledger.is_finished
        ledger.finish({"rows": 2})
    assert store.read("_SUCCESS") == b'{"rows": 1}'


def test_a_job_whose_lock_was_removed_stops(store: Store, tmp_path: Path) -> None:
    with open_ledger(store, JOB) as ledger:
        (tmp_path / "out" / "_foretell" / "lock").unlink()
        with pytest.raises(JobRefused, match="was removed: leave it alone"):
            ledger.commit(record(0))
        with pytest.raises(JobRefused, match="was removed"):
            ledger.held()


def test_parts_of_nobody_knows_whom_are_refused(store: Store) -> None:
    """Their rows would be read with those of the new job, which may have fewer parts."""
    with open_ledger(store, JOB) as ledger:
        do(store, ledger, 0, 1)
    store.remove("_foretell/job.json")
    with pytest.raises(JobRefused, match="not this job's"), open_ledger(store, JOB):
        pass
    store.remove(record(0).file)
    store.remove(record(1).file)
    store.put("_SUCCESS", b"{}")
    with pytest.raises(JobRefused, match="_SUCCESS"), open_ledger(store, JOB):
        pass


def test_overwriting_leaves_another_job_below_alone(store: Store) -> None:
    with open_ledger(store, replace(JOB, sources=(DAY,))) as ledger:
        do(store, ledger, 0)
    below = open_store(f"{store.place}/other")
    with open_ledger(below, replace(JOB, sources=(DAY,))) as ledger:
        do(below, ledger, 0)
        ledger.finish({})
    anew = replace(JOB, digest="another", options=BatchOptions(overwrite=True))
    with pytest.raises(JobRefused, match="not this job's"), open_ledger(store, anew):
        pass
    assert set(below.names()) >= {record(0).file, "_SUCCESS", "_foretell/job.json"}
    assert record(0).file not in set(store.names())


DAY = Source("/in/day=1/a.csv", 10, "1", Form.CSV, (("day", "1"),))


def test_success_goes_while_a_lost_part_is_made_anew(store: Store) -> None:
    with open_ledger(store, JOB) as ledger:
        do(store, ledger, 0, 1)
        ledger.finish({})
    store.remove(record(1).file)
    with open_ledger(store, JOB) as ledger:
        assert set(ledger.done) == {record(0).part}
        ledger.reopen()
        assert "_SUCCESS" not in set(store.names())
        do(store, ledger, 1)
        ledger.finish({})
    assert "_SUCCESS" in set(store.names())


def test_a_torn_job_is_told_of(store: Store) -> None:
    store.put("_foretell/job.json", b'{"model": ')
    unread = pytest.raises(JobRefused, match=r"job\.json cannot be read.*--overwrite")
    with unread, open_ledger(store, JOB):
        pass
    with open_ledger(store, replace(JOB, options=BatchOptions(overwrite=True))) as ledger:
        assert not ledger.done


def test_the_same_file_by_another_name_is_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    near, far = (replace(DAY, path=path) for path in ("in/a.csv", str(tmp_path / "in" / "a.csv")))
    assert told(replace(JOB, sources=(near,)), replace(JOB, sources=(far,))) == []


def test_a_job_keeps_the_form_that_was_measured_when_it_began(store: Store) -> None:
    """Rows of both forms could differ in their last bit from those of a job never interrupted."""
    with open_ledger(store, replace(JOB, bulk=True)) as ledger:
        assert ledger.bulk
    with open_ledger(store, replace(JOB, bulk=False)) as ledger:
        assert ledger.bulk
