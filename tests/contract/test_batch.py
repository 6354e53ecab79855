"""The batch door answers what the REST door does, to the last bit, whatever form its files have."""

from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell
from foretell.errors import InvalidInput
from tests.contract.conftest import churn_table, plans_table
from tests.contract.tables import ask, stream, written

pytestmark = pytest.mark.slow

TABLES = {
    "churn": churn_table(200),
    "plans": plans_table(),
    "compiled": plans_table(),
    "price": churn_table(200),
}
VERSIONS = {"churn": "1.10.0"}


@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson", "arrow"])
@pytest.mark.parametrize("model", TABLES)
def test_the_answers_are_those_of_the_rest_door(
    client: httpx.Client, repository: Path, tmp_path: Path, model: str, form: str
) -> None:
    table = TABLES[model]
    body = stream(pa.Table.from_pandas(table, preserve_index=False))
    reply = ask(client, f"/models/{model}/batch_predict", "arrow", body)
    online = pa.ipc.open_stream(reply.content).read_all()
    package = repository / model / VERSIONS.get(model, "1.0.0")
    (tmp_path / f"in.{form}").write_bytes(written(form, table))
    foretell.batch(package, tmp_path / f"in.{form}", tmp_path / "out.parquet", probabilities="all")
    got = pq.read_table(tmp_path / "out.parquet")
    assert got.select(online.column_names).equals(online.replace_schema_metadata(None))
    assert set(got["model_version"].to_pylist()) == {reply.headers["x-model-version"]}


def test_a_row_that_the_rest_door_refuses_is_refused_in_the_same_words(
    client: httpx.Client, repository: Path, tmp_path: Path
) -> None:
    table = plans_table(20)
    table["usage"] = table["usage"].fillna(1.0)
    table.loc[13, "usage"] = float("inf")
    body = stream(pa.Table.from_pandas(table, preserve_index=False))
    reply = ask(client, "/models/plans/batch_predict", "arrow", body)
    assert reply.status_code == 400
    told = reply.json()
    table.to_parquet(tmp_path / "in.parquet", index=False)
    with pytest.raises(InvalidInput) as refused:
        foretell.batch(repository / "plans" / "1.0.0", tmp_path / "in.parquet", tmp_path / "out")
    assert (refused.value.row, refused.value.field) == (told["row"], told["field"]) == (13, "usage")
    assert told["error"].removeprefix("row 13: ") in refused.value.message
