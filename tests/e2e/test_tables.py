"""Tables at their limits, and the page about them: it is run as it is written."""

import csv
import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest

from foretell.packing import pack
from tests.contract.tables import ask, parquet, read, stream
from tests.servers import running

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
HERE = "http://127.0.0.1:8000"


def test_the_page_about_tables_works_as_written(churn: Path) -> None:
    with running(churn) as server:
        ran = set()
        for (kind, text), (after, shown) in pairwise([*BLOCKS, ("", "")]):
            code = text.replace(HERE, server.url)
            if kind not in ("", "python"):
                continue
            argv = ["sh", "-c", code] if not kind else [sys.executable, "-c", code]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            ran.add(after or kind)
            if after == "csv":
                got, want = (list(csv.reader(t.splitlines())) for t in (done.stdout, shown))
                assert got[0] == want[0]
                assert [len(row) for row in got] == [len(row) for row in want]
            elif after == "json":
                lines = zip(done.stdout.splitlines(), shown.splitlines(), strict=True)
                for got_line, want_line in lines:
                    told, wanted = json.loads(got_line), json.loads(want_line)
                    assert list(told) == list(wanted)
                    same = ("error", "code", "field", "row", "model_version")
                    assert {k: told.get(k) for k in same} == {k: wanted.get(k) for k in same}
            elif kind == "python":
                assert "['prediction', 'probability']" in done.stdout
        assert ran == {"csv", "json", "python"}


def test_bodies_of_64_mib_are_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    (tmp_path / "lengths.py").write_text(
        "import foretell, numpy\n"
        "class Lengths:\n"
        "    signature = foretell.Signature((foretell.Field('s', 'BYTES'),),\n"
        "        (foretell.Field('prediction', 'INT64'),), example=('a',))\n"
        "    def predict(self, columns):\n"
        "        return numpy.array([len(text) for text in columns['s']])\n"
    )
    pack(["lengths:Lengths"], repository=tmp_path / "models", python_path=tmp_path)
    most, rows = 64 * 2**20, 60_000
    draw = np.random.default_rng(0)
    texts = [draw.bytes(500).hex() for _ in range(rows)]
    table = pa.table({"s": texts})
    bodies = {
        "arrow": stream(table),
        "parquet": parquet(table, compression="none", use_dictionary=False),
        "csv": "\r\n".join(["s", *texts]).encode(),
        "ndjson": "".join(f'{{"s": "{text}"}}\n' for text in texts).encode(),
    }
    with running(tmp_path / "models") as server, httpx.Client(base_url=server.url) as client:
        client.timeout = httpx.Timeout(120)
        for form, body in bodies.items():
            assert 55 * 2**20 < len(body) < most
            reply = ask(client, "/batch_predict", form, body, "json")
            assert reply.status_code == 200, (form, reply.text[:300])
            assert read("json", reply.content)["predictions"] == [1000] * rows
            padded = body + b" " * (most - len(body) + 1)
            assert ask(client, "/batch_predict", form, padded, "csv").status_code == 413
