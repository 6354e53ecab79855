"""The stream door answers what the REST door does, but for the last bit of what ran together."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.contract.conftest import churn_table, plans_table
from tests.contract.tables import rows_of

pytestmark = pytest.mark.slow

TABLES = {
    "churn": churn_table(60),
    "plans": plans_table(60),
    "compiled": plans_table(60),
    "price": churn_table(60),
}
VERSIONS = {"churn": "1.10.0"}


@pytest.mark.parametrize("model", TABLES)
def test_the_answers_are_those_of_the_rest_door(
    client: httpx.Client, repository: Path, model: str
) -> None:
    rows = [json.dumps(row, default=lambda value: value.item()) for row in rows_of(TABLES[model])]
    package = repository / model / VERSIONS.get(model, "1.0.0")
    command = [sys.executable, "-m", "foretell", "stream", package, "--quiet"]
    streamed = subprocess.run(
        [*map(str, command)], input="\n".join(rows), capture_output=True, text=True, check=False
    )
    assert streamed.returncode == 0, streamed.stderr
    lines = streamed.stdout.splitlines()
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines, strict=True):
        headers = {"content-type": "application/json"}
        reply = client.post(f"/models/{model}/predict", content=row, headers=headers)
        assert reply.status_code == 200, reply.text
        told = json.loads(line)
        assert len(told.pop("id")) == 32
        online = reply.json()
        assert told.keys() == online.keys()
        for name, value in online.items():
            assert told[name] == pytest.approx(value, rel=1e-12)
