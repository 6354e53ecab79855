"""What a request is compared with does the whole work: it gives the right answer."""

import json
from pathlib import Path

import pytest
from benchmarks.answers import says
from benchmarks.lower_bound import answering
from benchmarks.scenarios import linear
from benchmarks.servers import repository
from examples.train_churn_synthetic import CUSTOMER


@pytest.mark.slow
@pytest.mark.parametrize("row", [CUSTOMER, list(CUSTOMER.values())], ids=["by name", "in order"])
def test_the_lower_bound_answers_every_row_as_the_model_does(row: object, tmp_path: Path) -> None:
    site = linear(tmp_path)
    graph = repository(site) / "churn" / "1.0.0" / "model.onnx"
    body = json.dumps({"instances": [row] * 3}).encode()
    right = {
        "predictions": [site.answer["prediction"]] * 3,
        "probabilities": [site.answer["probability"]] * 3,
        "model_version": "1.0.0",
    }
    assert says(answering(graph, body)(), right)
