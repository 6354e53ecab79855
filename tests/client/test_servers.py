"""The clients against running servers: every form of rows, many calls at once, servers that die."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pytest
import trustme
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import foretell
from foretell.app.local import LocalModel
from foretell.client.balancing import Upstream
from foretell.client.predictions import Predictions
from foretell.errors import (
    BadSettings,
    DeadlineExceeded,
    ForetellError,
    InvalidInput,
    NoAnswer,
    NotFound,
)
from foretell.packing import pack
from tests.contract.conftest import churn_table, plans_table
from tests.servers import Server, running, start

pytestmark = pytest.mark.slow

Table = Any  # a DataFrame
FORMS: dict[str, Callable[[Table], Any]] = {
    "dicts": lambda table: table.astype(object).where(table.notna(), None).to_dict("records"),
    "lists": lambda table: table.astype(object).where(table.notna(), None).to_numpy().tolist(),
    "numpy": lambda table: table.to_numpy(dtype=object if "plan" in table else float),
    "pandas": lambda table: table,
    "pandas, other dtypes": lambda table: table.convert_dtypes(),
    "arrow": lambda table: pa.Table.from_pandas(table, preserve_index=False),
}
WIDE = """
import foretell
import numpy as np

class Wide:
    signature = foretell.Signature(
        (foretell.Field("x", "FP64"),),
        (
            foretell.Field("wide", "FP32", shape=(2, 3)),
            foretell.Field("whole", "UINT64"),
            foretell.Field("yes", "BOOL"),
            foretell.Field("text", "BYTES"),
            foretell.Field("small", "INT8", shape=(2,)),
        ),
        example=(1.0,),
    )

    def predict(self, columns):
        x = columns["x"]
        return {
            "wide": np.stack([x / part for part in range(1, 7)], 1).reshape(-1, 2, 3).astype("f4"),
            "whole": x.astype("u8") + np.uint64(2**63),
            "yes": x > 3,
            "text": np.array([f"é{value:g}" for value in x], dtype=object),
            "small": np.stack([x, -x], 1).astype("i1"),
        }
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers (churn, compiled), and texts and booleans with gaps (plans); outputs of all kinds."""
    folder = tmp_path_factory.mktemp("client")
    churn, plans = churn_table(), plans_table()
    boosting = GradientBoostingClassifier(n_estimators=3, random_state=0)
    joblib.dump(boosting.fit(churn, churn["tenure"] < 20), folder / "churn.pkl")
    mixed = make_pipeline(
        ColumnTransformer(
            [
                ("n", make_pipeline(SimpleImputer(), StandardScaler()), ["usage"]),
                ("s", OneHotEncoder(handle_unknown="ignore"), ["plan"]),
                ("b", "passthrough", ["active"]),
            ]
        ),
        LogisticRegression(),
    )
    label = np.where(plans["usage"].fillna(0) > 10, "high", "low")
    joblib.dump(mixed.fit(plans, label), folder / "plans.pkl")
    churn.to_csv(folder / "churn.csv", index=False)
    plans.to_parquet(folder / "plans.parquet")
    (folder / "wide.py").write_text(WIDE)
    made = folder / "models"
    pack([folder / "churn.pkl"], sample=folder / "churn.csv", repository=made)
    pack([folder / "plans.pkl"], sample=folder / "plans.parquet", repository=made)
    pack(["wide:Wide"], name="wide", repository=made, python_path=folder)
    return made


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with running(repository) as server:
        yield server


@pytest.fixture(scope="module")
def local(repository: Path) -> Callable[[str], LocalModel]:
    loaded = {
        name: foretell.load(repository / name / "1.0.0") for name in ("churn", "plans", "wide")
    }
    return loaded.__getitem__


def addresses(server: Server) -> dict[str, str]:
    return {"rest": server.url, "grpc": server.url.replace("http", "grpc")}


def assert_same(answer: Predictions, wanted: dict[str, Any]) -> None:
    assert list(answer.outputs) == list(wanted)
    for name, values in wanted.items():
        got = answer.outputs[name]
        assert (got.dtype, got.shape) == (values.dtype, values.shape)
        assert got.tolist() == values.tolist()


@pytest.mark.parametrize("rows", [1, 5, 150])
@pytest.mark.parametrize("model", ["churn", "plans"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_every_form_is_answered_as_the_loaded_model_answers_it(
    server: Server,
    local: Callable[[str], LocalModel],
    protocol: str,
    form: str,
    model: str,
    rows: int,
) -> None:
    table = churn_table(rows) if model == "churn" else plans_table(rows)
    if protocol == "grpc" and model == "plans":
        table["plan"] = table["plan"].fillna("basic")  # a tensor has no missing text
    told = FORMS[form](table)
    with foretell.Client(addresses(server)[protocol]) as client:
        assert_same(client.predict(model, told), local(model).predict(told))


@pytest.mark.parametrize("rows", [1, 3, 60])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_outputs_of_every_kind_come_as_they_are(
    server: Server, local: Callable[[str], LocalModel], protocol: str, rows: int
) -> None:
    told = [[float(value)] for value in range(rows)]
    with foretell.Client(addresses(server)[protocol]) as client:
        answer = client.predict("wide", told)
    assert_same(answer, local("wide").predict(told))
    frame, table = answer.to_pandas(), answer.to_arrow()
    assert list(frame.columns)[:7] == [f"wide_{place}" for place in range(6)] + ["whole"]
    assert frame["small_1"].tolist() == [-value for value in range(rows)]
    assert table.column("wide").to_pylist() == answer.outputs["wide"].tolist()
    assert table.num_rows == len(answer) == rows
    with pytest.raises(KeyError, match="several outputs"):
        _ = answer.predictions


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_two_hundred_calls_at_once(
    server: Server, local: Callable[[str], LocalModel], protocol: str
) -> None:
    table = churn_table(200)

    async def main() -> list[Predictions]:
        async with foretell.AsyncClient(addresses(server)[protocol]) as client:
            calls = [client.predict("churn", table.iloc[[row]]) for row in range(200)]
            return await asyncio.gather(*calls)

    answers = asyncio.run(main())
    wanted = local("churn").predict(table)["prediction"]
    assert [answer.predictions[0] for answer in answers] == wanted.tolist()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_one_client_serves_many_threads(
    server: Server, local: Callable[[str], LocalModel], protocol: str
) -> None:
    table = churn_table(100)
    wanted = local("churn").predict(table)["prediction"].tolist()
    with foretell.Client(addresses(server)[protocol]) as client, ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda row: client.predict("churn", table.iloc[[row]]), range(100))
        assert [answer.predictions[0] for answer in answers] == wanted


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_mistakes_are_told_before_anything_is_sent(
    server: Server, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with foretell.Client(addresses(server)[protocol]) as client:
        client.signature("churn")
        monkeypatch.setattr(client._current().link, "exchange", None)  # whoever sends now fails
        with pytest.raises(InvalidInput, match="row 1: 'tenure' is \"x\"") as caught:
            client.predict("churn", [[1, 2, 3, 4], [1, "x", 3, 4]])
        assert (caught.value.field, caught.value.row) == ("tenure", 1)
        with pytest.raises(InvalidInput, match="field 'tenure' is missing"):
            client.predict("churn", {"age": 1})


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_what_is_not_there_is_told(server: Server, protocol: str) -> None:
    with foretell.Client(addresses(server)[protocol]) as client:
        with pytest.raises(NotFound, match="no model 'nobody'; served are churn"):
            client.predict("nobody", [[1]])
        with pytest.raises(NotFound, match=r"no version '9'; loaded are 1\.0\.0"):
            client.predict("churn", churn_table(1), version="9")
        assert client.predict("churn", churn_table(1), version="1.0.0").version == "1.0.0"


def test_a_missing_text_is_told_to_have_no_place_in_a_tensor(server: Server) -> None:
    refused = pytest.raises(InvalidInput, match=r"send rows with missing texts .* over REST")
    with foretell.Client(addresses(server)["grpc"]) as client, refused as told:
        client.predict("plans", [[1.0, "pro", True], [1.0, None, True]])
    assert (told.value.field, told.value.row) == ("plan", 1)


@pytest.mark.parametrize("balance", ["round_robin", "least_outstanding"])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_under_load_takes_no_call_with_it(
    repository: Path,
    local: Callable[[str], LocalModel],
    protocol: str,
    balance: Any,
    how: signal.Signals,
) -> None:
    table = churn_table(64)
    wanted = local("churn").predict(table)["prediction"].tolist()
    under_way, ended = threading.Barrier(9), threading.Event()

    def ask(row: int) -> list[Any]:
        told, more = [], 10
        while more:
            told.append(client.predict("churn", table.iloc[[row]]).predictions[0])
            if len(told) == 10:
                under_way.wait(60)
            more -= ended.is_set()
        return told

    other = start(repository)
    try:
        other.wait()
        with running(repository) as one:
            urls = [addresses(server)[protocol] for server in (one, other)]
            with foretell.Client(urls, balance=balance) as client, ThreadPoolExecutor(8) as pool:
                calls = [pool.submit(ask, row) for row in range(8)]
                try:
                    under_way.wait(60)
                    _kill(other, how)
                finally:
                    ended.set()
                for row, call in enumerate(calls):
                    assert set(call.result()) == {wanted[row]}
    finally:
        other.stop(signal.SIGKILL)


def _kill(server: Server, how: signal.Signals) -> None:
    """End a server, with its workers where they would outlive it."""
    threads = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    workers = [int(child) for thread in threads for child in thread.read_text().split()]
    server.process.send_signal(how)
    if how is signal.SIGKILL:
        for worker in workers:
            os.kill(worker, how)
    assert server.process.wait(30) == (0 if how is signal.SIGTERM else -how)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_server_that_comes_back_is_asked_again(repository: Path, protocol: str) -> None:
    row = churn_table(1)
    with running(repository) as one:
        with running(repository) as other:
            address = other.url.removeprefix("http://")
            urls = [addresses(server)[protocol] for server in (one, other)]
            client = foretell.Client(urls)
            client.predict("churn", row)
        for _ in range(8):
            client.predict("churn", row)
        gone = client._current().asking.calls.balancer.upstreams[1]
        assert _is_out(gone)
        with running(repository, "--bind", address):
            patience = time.monotonic() + 40
            while time.monotonic() < patience and _is_out(gone):
                client.predict("churn", row)
            assert not _is_out(gone)
        client.close()


def _is_out(upstream: Upstream) -> bool:
    return upstream.out_until is not None


@pytest.mark.parametrize("protocol", ["https", "grpcs"])
def test_tls_with_an_authority_of_ones_own(repository: Path, tmp_path: Path, protocol: str) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.private_key_pem.write_to_path(tmp_path / "key")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    files: list[str | Path] = ["--certfile", tmp_path / "cert", "--keyfile", tmp_path / "key"]
    with running(repository, *files) as server:
        url = server.url.replace("https", protocol)
        with foretell.Client(url, verify=tmp_path / "ca") as client:
            assert client.predict("churn", churn_table(3)).version == "1.0.0"

        async def main() -> Predictions:
            async with foretell.AsyncClient(url, verify=tmp_path / "ca") as client:
                return await client.predict("churn", churn_table(3))

        assert asyncio.run(main()).version == "1.0.0"
        with foretell.Client(url, timeout_s=5) as stranger, pytest.raises(ForetellError) as told:
            stranger.predict("churn", churn_table(3))
        assert isinstance(told.value, NoAnswer)
        assert "name its authority's certificate with verify=" in told.value.message
        if protocol == "https":
            with foretell.Client(url, verify=False, http2=True) as anybody:
                assert anybody.predict("churn", churn_table(3)).version == "1.0.0"
        else:
            with pytest.raises(BadSettings, match="give verify="):
                foretell.Client(url, verify=False).signature("churn")
        with pytest.raises(BadSettings, match="cannot be"):
            foretell.Client(url, verify=tmp_path / "absent").signature("churn")


def test_http2_without_tls(server: Server) -> None:
    with foretell.Client(server.url, http2=True) as client:
        assert client.predict("churn", churn_table(40)).version == "1.0.0"


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_slow_model_is_left_at_the_deadline(tmp_path: Path, protocol: str) -> None:
    (tmp_path / "slow.py").write_text(
        "import time, foretell\n"
        "class Slow:\n"
        "    signature = foretell.Signature((foretell.Field('x', 'FP64'),),\n"
        "        (foretell.Field('prediction', 'FP64'),), example=(0.0,))\n"
        "    def predict(self, columns):\n"
        "        time.sleep(float(columns['x'].max()))\n"
        "        return columns['x']\n"
    )
    pack(["slow:Slow"], repository=tmp_path / "models", python_path=tmp_path)
    with (
        running(tmp_path / "models", "--executor", "thread") as server,
        foretell.Client(addresses(server)[protocol]) as client,
    ):
        with pytest.raises(DeadlineExceeded):
            client.predict("slow", [[3.0]], timeout_s=0.3)
        assert client.predict("slow", [[0.0]]).predictions.tolist() == [0.0]
