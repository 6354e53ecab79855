"""A tumour classifier on real data: the breast-cancer table that comes with scikit-learn.

569 tumours, 30 numeric features with spaces in their names, and labels that are words.

    python examples/train_breast_cancer.py .demo

writes .demo/breast-cancer/model.joblib and .demo/breast-cancer/sample.csv.
"""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler


def train(folder: Path) -> str:
    """Write model.joblib and sample.csv to `folder`; say how good the model is."""
    bunch = load_breast_cancer(as_frame=True)
    X = bunch.data
    y = bunch.target.map(dict(enumerate(bunch.target_names)))
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)

    model = Pipeline([("scale", StandardScaler()), ("classify", LogisticRegression())])
    model.fit(X_train, y_train)

    folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, folder / "model.joblib")
    X_train.head(200).to_csv(folder / "sample.csv", index=False)

    accuracy = accuracy_score(y_test, model.predict(X_test))
    probability = model.predict_proba(X_test)[:, list(model.classes_).index("malignant")]
    auc = roc_auc_score(y_test == "malignant", probability)
    usual = y_test.value_counts(normalize=True).max()
    return (
        f"breast-cancer: accuracy {accuracy:.3f}, AUC {auc:.3f} on {len(y_test)} held-out "
        f"tumours; always guessing the commoner answer gives {usual:.3f}"
    )


if __name__ == "__main__":
    print(train(Path(sys.argv[1] if len(sys.argv) > 1 else ".demo") / "breast-cancer"))
