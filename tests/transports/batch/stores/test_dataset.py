"""Which files are a job's input, on this machine and in a store."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from foretell.errors import BadSettings, InvalidInput, StoreFailed
from foretell.transports.batch.dataset import Form, check_apart, find, folder_of
from foretell.transports.batch.storage import clouds, open_store
from tests.transports.batch.stores.conftest import Started, library, new_folder
from tests.transports.batch.stores.servers import StoreServer

EMPTY = "__HIVE_DEFAULT_PARTITION__"


@pytest.fixture(
    params=[
        "local",
        *(pytest.param(scheme, marks=pytest.mark.slow) for scheme in ("s3", "gs", "az")),
    ]
)
def base(request: pytest.FixtureRequest, tmp_path: Path, started: Started) -> str:
    """An empty folder."""
    if request.param == "local":
        return str(tmp_path / "in")
    return new_folder(started(request.param))


def put(base: str, *names: str) -> None:
    store = open_store(base)
    for name in names:
        store.put(name, name.encode())


def names(base: str, place: str) -> list[str]:
    return [source.path.removeprefix(f"{base}/") for source in find(place)]


def test_a_folder_has_its_files_in_order_but_for_hidden_ones(base: str) -> None:
    wanted = ["a/10.csv", "a/9.csv", "a-b/1.csv", "a/ü ä.csv.gz", "b.CSV"]
    put(base, *reversed(wanted))
    put(base, "_SUCCESS", "_foretell/done/x.csv", ".part.csv.tmp", "a/_x.csv", "a/.crc/y.csv")
    assert names(base, base) == sorted(wanted, key=lambda name: name.split("/"))
    assert names(base, f"{base}/") == names(base, base)
    assert names(base, f"{base}/a/_x.csv") == ["a/_x.csv"], "it was named itself"


def test_a_neighbour_with_a_longer_name_is_not_in_it(base: str) -> None:
    put(base, "in/a.csv", "in2/b.csv", "in.csv/part-0.csv")
    assert names(base, f"{base}/in") == ["in/a.csv"]
    assert names(base, f"{base}/in.csv") == ["in.csv/part-0.csv"]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("[ab].csv", ["a.csv", "b.csv"]),
        ("?/*.csv", ["x/c.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "x/c.csv", "x/day=1/d.csv"]),
        ("x", ["x/c.csv", "x/day=1/d.csv"]),
        ("[x]", ["x/c.csv", "x/day=1/d.csv"]),
        ("x/day=*", ["x/day=1/d.csv"]),
    ],
)
def test_a_pattern_names_files_or_folders(base: str, pattern: str, wanted: list[str]) -> None:
    put(base, "a.csv", "b.csv", "_c.csv", "x/c.csv", "x/day=1/d.csv", "x/day=1/_e.csv", "y.txt")
    assert names(base, f"{base}/{pattern}") == wanted


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_store_lists_what_begins_as_a_pattern_does_and_no_more(
    scheme: str, started: Started
) -> None:
    base = new_folder(started(scheme))
    put(base, "2023-12.csv", "2024-01.csv", "2024-02.csv", "x/2024-03.csv")
    listed = [found.url.removeprefix(f"{base}/") for found in clouds.listed(base, "2024-")]
    assert sorted(listed) == ["2024-01.csv", "2024-02.csv"]
    assert names(base, f"{base}/2024-*.csv") == ["2024-01.csv", "2024-02.csv"]


def test_folders_tell_columns_below_the_one_that_was_named(base: str) -> None:
    put(base, f"year=2024/plan=a%20b%2Fc/region={EMPTY}/x.csv", "year=2025/=x/plain/_k=v/y.csv")
    first, second = find(base)
    assert first.partition == (("year", "2024"), ("plan", "a b/c"), ("region", EMPTY))
    assert second.partition == (("year", "2025"), ("_k", "v"))
    (inner,) = find(f"{base}/year=2024")
    assert inner.partition == first.partition[1:]
    assert find(f"{base}/*/plan=*")[0].partition == first.partition
    assert find(first.path)[0].partition == ()


def test_a_source_is_read_as_it_was_found_or_not_at_all(base: str) -> None:
    store = open_store(base)
    store.put("x.csv.gz", gzip.compress(b"rows"))
    (source,) = find(base)
    assert (source.form, source.size) == (Form.CSV, len(gzip.compress(b"rows")))
    with source.open() as file:
        assert file.read() == b"rows"
    store.put("x.csv.gz", gzip.compress(b"other"))
    (again,) = find(base)
    assert again.stamp != source.stamp
    with pytest.raises(StoreFailed, match="was written anew while the job ran"):
        source.open()
    store.remove("x.csv.gz")
    with pytest.raises(StoreFailed, match="is not there"):
        source.open()


@pytest.mark.parametrize(
    ("files", "place", "words"),
    [
        ([], "", "has no files"),
        (["_a.csv", "b/.c.csv"], "", "has no files but 2 whose names begin with _ or ."),
        (["a.csv"], "none.csv", "none.csv has no files"),
        (["a.csv"], "*.parquet", "has no files"),
        (["a.csv", "b.parquet"], "", "files of csv and parquet: name those of one form"),
        (["a.csv", "notes.txt"], "", "notes.txt tell no form"),
        (["a.csv", *(f"{n}.log" for n in range(5))], "", "and 2 more tell no form"),
        (["a.parquet.gz"], "a.parquet.gz", "tell no form"),
    ],
)
def test_what_is_no_data_set_is_refused(
    base: str, files: list[str], place: str, words: str
) -> None:
    put(base, *files)
    with pytest.raises(InvalidInput, match=re.escape(words)):
        find(f"{base}/{place}")


def test_a_path_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has no files: it does not exist"):
        find(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("hdfs://x/y", "there are s3://, gs://, az://"),
        ("s3a://x/y", "there are s3://"),
        ("s3://", "names no bucket"),
    ],
)
def test_places_that_nobody_knows_are_refused(place: str, words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        find(place)
    with pytest.raises(BadSettings, match=words):
        open_store(place)


def test_a_pattern_does_not_stand_for_a_bucket() -> None:
    with pytest.raises(InvalidInput, match="leaves the bucket open"):
        find("s3://buck*/a.csv")


def refused_for(words: str, place: str, target: str) -> None:
    """Whether this output is refused in these words; '' is not at all."""
    sources = find(place)
    with pytest.raises(BadSettings, match=words) if words else contextlib.nullcontext():
        check_apart(place, sources, target)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("in/out", "lies in INPUT"),
        ("in/out.csv", "lies in INPUT"),
        ("in/a.csv", "has files of INPUT"),
        ("in", "has files of INPUT"),
        (".", "has files of INPUT"),
        ("in/_out", ""),
        ("in-out", ""),
        ("out", ""),
    ],
)
def test_output_and_input_lie_apart(base: str, output: str, words: str) -> None:
    put(base, "in/a.csv")
    place, target = f"{base}/in", base if output == "." else f"{base}/{output}"
    refused_for(words, place, target)


@pytest.mark.parametrize(
    ("pattern", "output", "words"),
    [
        ("*.csv", "scored.csv", "lies in INPUT"),
        ("*", "out", "lies in INPUT"),
        ("*", "out/deeper", "lies in INPUT"),
        ("**", "out/deeper", "lies in INPUT"),
        ("**/?.csv", "b.csv", "lies in INPUT"),
        ("*.csv", "out", ""),
        ("*.csv", "out/scored.csv", ""),
        ("*.csv", "_scored.csv", ""),
        ("?.csv", "scored.csv", ""),
        ("*", "_out", ""),
    ],
)
def test_an_output_is_not_what_the_pattern_would_find_the_next_time(
    base: str, pattern: str, output: str, words: str
) -> None:
    put(base, "in/a.csv")
    place, target = f"{base}/in/{pattern}", f"{base}/in/{output}"
    refused_for(words, place, target)


@pytest.mark.parametrize(
    ("place", "output"),
    [
        ("link/a.csv", "in/a.csv"),
        ("in/a.csv", "link/a.csv"),
        ("link", "in/out"),
        ("in", "link/out"),
        ("in/*", "link/out"),
        ("link.csv", "in/a.csv"),
    ],
)
def test_a_link_does_not_hide_that_the_output_is_the_input(
    tmp_path: Path, place: str, output: str
) -> None:
    put(str(tmp_path), "in/a.csv")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "link.csv").symlink_to(tmp_path / "in" / "a.csv")
    place = f"{tmp_path}/{place}"
    with pytest.raises(BadSettings, match="INPUT"):
        check_apart(place, find(place), f"{tmp_path}/{output}")


def test_what_a_folder_tells_is_one_folder_of_the_output() -> None:
    assert folder_of([("k/1", "../../x"), ("e", "a=b c")]) == "k%2F1=..%2F..%2Fx/e=a%3Db%20c/"


def test_a_relative_path_is_apart_from_itself_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put("in", "a.csv")
    with pytest.raises(BadSettings, match="has files of INPUT"):
        check_apart("./in", find("./in"), str(tmp_path / "in" / "a.csv"))
    assert find("./in")[0].path == find("in/")[0].path == os.path.join("in", "a.csv")


@pytest.mark.slow
def test_ten_thousand_files_are_one_listing(
    s3: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = new_folder(s3)
    files: Any = library(s3)
    key = base.partition("://")[2]
    files.pipe({f"{key}/day={n % 10}/{n:05}.csv": b"x" for n in range(10_000)}, batch_size=64)
    calls: list[str] = []
    asked = type(files)._call_s3

    async def counted(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        calls.append(method)
        return await asked(self, method, *arguments, **options)

    monkeypatch.setattr(type(files), "_call_s3", counted)
    started_at = time.perf_counter()
    assert len(find(base)) == 10_000
    seconds = time.perf_counter() - started_at
    assert calls == ["list_objects_v2"] * 10, "pages of 1,000 keys, and nothing else"
    assert seconds < 30


def test_linked_folders_are_read_once_each(tmp_path: Path) -> None:
    for name in ("in/a.csv", "elsewhere/b.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n1\n")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    found = [source.path for source in find(str(tmp_path / "in"))]
    assert found == [str(tmp_path / "in" / name) for name in ("a.csv", "linked/b.csv")]


def test_a_pipe_is_no_file_to_be_read_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(InvalidInput, match="not a regular file"):
        find(str(tmp_path))


@pytest.mark.slow
def test_empty_objects_that_stand_for_folders_are_no_files(started: Started) -> None:
    server = started("s3")
    base = new_folder(server)
    put(base, "k=1/a.csv")
    library(server).pipe_file(f"{base}/k=1/", b"")
    assert names(base, base) == ["k=1/a.csv"]
