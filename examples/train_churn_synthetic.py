"""A churn model on SYNTHETIC data: made-up customers, drawn from a formula below.

It is here because it has four features and is saved the way most people save a model: a
scaler and a classifier in two files. Nothing about real customers can be learned from it.

    python examples/train_churn_synthetic.py .demo

writes .demo/churn/scaler.pkl, .demo/churn/model.pkl and .demo/churn/sample.csv.
"""

import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

CUSTOMER = {"age": 35.0, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}


def synthetic_customers(n: int, seed: int) -> tuple[pd.DataFrame, pd.Series]:
    """`n` invented customers, and whether each left (1) or stayed (0)."""
    rng = np.random.default_rng(seed)
    tenure = rng.integers(1, 73, n)
    monthly = rng.uniform(18.0, 120.0, n).round(2)
    customers = pd.DataFrame(
        {
            "age": rng.uniform(18.0, 80.0, n).round(1),
            "tenure": tenure,
            "monthly_charges": monthly,
            "total_charges": (monthly * tenure * rng.uniform(0.9, 1.1, n)).round(2),
        }
    )
    score = 0.2 - 0.05 * tenure + 0.02 * monthly - 0.01 * (customers["age"] - 45.0)
    left = rng.uniform(size=n) < 1 / (1 + np.exp(-score))
    return customers, left.astype(int).rename("churn")


def train(folder: Path) -> str:
    """Write scaler.pkl, model.pkl and sample.csv to `folder`; say how good the model is."""
    X, y = synthetic_customers(5_000, seed=8)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)

    scaler = StandardScaler().fit(X_train)
    model = LogisticRegression().fit(scaler.transform(X_train), y_train)

    folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(scaler, folder / "scaler.pkl")
    joblib.dump(model, folder / "model.pkl")
    sample = pd.concat([pd.DataFrame([CUSTOMER]), X_train.head(199)])
    sample.to_csv(folder / "sample.csv", index=False)

    scaled = scaler.transform(X_test)
    accuracy = accuracy_score(y_test, model.predict(scaled))
    auc = roc_auc_score(y_test, model.predict_proba(scaled)[:, 1])
    usual = y_test.value_counts(normalize=True).max()
    return (
        f"churn (synthetic): accuracy {accuracy:.3f}, AUC {auc:.3f} on {len(y_test)} held-out "
        f"customers; always guessing the commoner answer gives {usual:.3f}"
    )


if __name__ == "__main__":
    print(train(Path(sys.argv[1] if len(sys.argv) > 1 else ".demo") / "churn"))
