"""The churn model, as every peer loads it: scikit-learn's two files, or the ONNX file.

Both take an array of rows in the order of FEATURES and give labels and probabilities. One
thread runs them: the environment bounds BLAS and OpenMP, the session options ONNX Runtime.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime

FEATURES = ("age", "tenure", "monthly_charges", "total_charges")

Predict = Callable[[Any], tuple[Any, Any]]


def load() -> Predict:
    """The model that MODEL names: rows (n, 4) -> labels (n,), probabilities (n, 2)."""
    path = Path(os.environ["MODEL"])
    return _onnx(path) if path.suffix == ".onnx" else _sklearn(path)


def port() -> int:
    """Where to listen."""
    return int(os.environ["PORT"])


def row(customer: Any) -> list[float]:
    """The features of one customer, as a JSON object holds them."""
    return [customer[name] for name in FEATURES]


def answers(predict: Predict, customers: list[Any]) -> list[dict[str, Any]]:
    """One JSON-ready answer a customer, all of them predicted together."""
    labels, probabilities = predict(np.array([row(customer) for customer in customers], np.float64))
    return [
        {"prediction": label, "probability": probability}
        for label, probability in zip(labels.tolist(), probabilities.tolist(), strict=True)
    ]


def _onnx(path: Path) -> Predict:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()

    def predict(rows: Any) -> tuple[Any, Any]:
        labels, probabilities = session.run(["prediction", "probability"], {source.name: rows})
        return labels.reshape(-1), probabilities  # a column of labels, in some graphs

    return predict


def _sklearn(folder: Path) -> Predict:
    scaler, model = plain(folder)

    def predict(rows: Any) -> tuple[Any, Any]:
        scaled = scaler.transform(rows)
        return model.predict(scaled), model.predict_proba(scaled)

    return predict


def plain(folder: Path) -> tuple[Any, Any]:
    """Scaler and model. Plain arrays, which are quicker than tables, come without a warning."""
    scaler, model = joblib.load(folder / "scaler.pkl"), joblib.load(folder / "model.pkl")
    del scaler.feature_names_in_
    return scaler, model
