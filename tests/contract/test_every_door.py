"""One table of cases at every door: the same answers, the same refusals.

What a door has no form for is not a failure, but it must be an expected one, with its reason.
"""

import numpy as np
import pandas as pd
import pytest

from tests.contract import moody
from tests.contract.conftest import Originals, churn_table, plans_table
from tests.contract.doors import DOORS, Door, Outputs, Refused
from tests.servers import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("server", ["h2corn"], indirect=True),
]

NO_TEXTS = "32-bit numbers are all that its messages carry"
NO_MISSING_TEXT = "the protocol has no missing text"


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


def tables(name: str) -> tuple[str, pd.DataFrame]:
    """A model, and the rows it is asked for."""
    plans = plans_table(40)
    known = {
        "numbers": ("churn", churn_table(40)),
        "one row": ("churn", churn_table(1)),
        "regression": ("price", churn_table(40)),
        "texts": ("plans", plans.dropna()),
        "compiled texts": ("compiled", plans.dropna()),
        "missing numbers": ("plans", plans.assign(plan="basic")),
        "missing texts": ("plans", plans),
        "many rows": ("churn", churn_table(5000)),
    }
    return known[name]


def expected(originals: Originals, model: str, table: pd.DataFrame) -> Outputs:
    """What the original itself answers."""
    if model == "price":
        return {"prediction": originals["price"].predict(table.to_numpy()).tolist()}
    if model == "churn":
        scaled = originals["scaler"].transform(table)
        told = originals["churn"].predict(scaled), originals["churn"].predict_proba(scaled)
    else:
        told = originals["plans"].predict(table), originals["plans"].predict_proba(table)
    return {"prediction": told[0].tolist(), "probability": told[1].tolist()}


CASES = (
    "one row",
    "numbers",
    "regression",
    "texts",
    "compiled texts",
    "missing numbers",
    "missing texts",
    "many rows",
)


@pytest.mark.parametrize("case", CASES)
def test_the_answers_are_the_originals(
    server: Server,
    originals: Originals,
    door: Door,
    case: str,
    request: pytest.FixtureRequest,
) -> None:
    model, table = tables(case)
    if not door.texts and model in ("plans", "compiled", "price"):
        request.applymarker(pytest.mark.xfail(reason=NO_TEXTS, strict=True))
    if case == "missing texts" and request.node.callspec.params["door"] in (
        "OIP binary",
        "gRPC raw",
        "gRPC typed",
        "client over gRPC",
        "async client over gRPC",
    ):
        request.applymarker(pytest.mark.xfail(reason=NO_MISSING_TEXT, strict=True))
    if door.single:
        table = table.head(1)
    told = door.ask(server.url, model, table, None)
    right = expected(originals, model, table)
    assert set(told) == set(right) & set(door.says)
    if model == "price":  # compiled: the last bits of a sum
        np.testing.assert_allclose(told["prediction"], right["prediction"], rtol=1e-12, atol=0)
    else:
        assert told["prediction"] == right["prediction"]
    if "probability" in told:
        exact = 0.0 if model != "compiled" else 1e-12
        tolerance = exact if door.exact else 1e-6
        np.testing.assert_allclose(
            told["probability"], right["probability"], rtol=0, atol=tolerance
        )


@pytest.mark.parametrize("bad", [0, 2])
def test_a_wrong_value_is_refused_with_its_field_and_row(
    server: Server, door: Door, bad: int
) -> None:
    table = churn_table(1 if door.single else 3)
    bad = 0 if door.single else bad
    table["tenure"] = table["tenure"].astype(float)
    table.loc[bad, "tenure"] = 24.5
    with pytest.raises(Refused) as told:
        door.ask(server.url, "churn", table, None)
    assert (told.value.code, told.value.field) == ("invalid_input", "tenure")
    assert told.value.row == (None if door.single else bad)
    assert "24.5" in told.value.words


def test_a_missing_value_is_refused_where_none_may_be(server: Server, door: Door) -> None:
    table = churn_table(1 if door.single else 3)
    table.loc[0, "age"] = np.nan
    with pytest.raises(Refused) as told:
        door.ask(server.url, "churn", table, None)
    assert (told.value.code, told.value.field) == ("invalid_input", "age")


def test_an_unknown_model_is_not_found(server: Server, door: Door) -> None:
    with pytest.raises(Refused) as told:
        door.ask(server.url, "nobody", churn_table(1), None)
    assert told.value.code == "not_found"
    assert "'nobody'" in told.value.words


def moods(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"x": np.array(values, float)})


@pytest.mark.parametrize("mood", [moody.RAISE, moody.NOT_A_NUMBER, moody.SHORT, moody.INFINITE])
def test_a_model_that_fails_is_told_without_its_secrets(
    server: Server, door: Door, mood: float, request: pytest.FixtureRequest
) -> None:
    if not door.texts:
        request.applymarker(pytest.mark.xfail(reason=NO_TEXTS, strict=True))
    with pytest.raises(Refused) as told:
        door.ask(server.url, "moody", moods(mood), None)
    assert told.value.code == "model_failed"
    assert "secret" not in told.value.words
    assert door.ask(server.url, "moody", moods(2.0), None) == {"prediction": [4.0]}


def test_a_deadline_is_kept_by_a_slow_model(server: Server, door: Door) -> None:
    if not door.texts:
        return  # asked of that model, it refuses at once: see above
    with pytest.raises(Refused) as told:
        door.ask(server.url, "moody", moods(moody.SLOW), 0.05)
    assert told.value.code == "deadline_exceeded"


def test_an_unloved_value_of_any_kind_is_never_a_server_error(server: Server, door: Door) -> None:
    for value in (1e308, -1e308, 5e-324, float("inf")):
        assert outcome(server, door, churn_table(1).assign(age=value)) in ("", "invalid_input")


def outcome(server: Server, door: Door, table: pd.DataFrame) -> str:
    """The code of the refusal, empty for an answer."""
    try:
        door.ask(server.url, "churn", table, None)
    except Refused as refused:
        return refused.code
    return ""
