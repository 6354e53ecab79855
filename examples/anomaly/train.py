"""Train an isolation forest on an hour of healthy pumps, and pack it with its windows.

    python -m examples.anomaly.train [REPOSITORY]

The features of the past come from `foretell.rolling`, which is what a stream fills in later.
"""

import sys
import tempfile
from pathlib import Path

import joblib
import pandas as pd
from sklearn.ensemble import IsolationForest

import foretell
from examples.anomaly.readings import readings

WINDOWS = Path(__file__).parent / "windows.toml"
MEASURED = ["temperature", "vibration"]


def train(repository: Path) -> Path:
    """The package `anomaly` in `repository`."""
    rows = list(readings(3600, healthy=True))
    past = foretell.rolling(rows, WINDOWS)
    table = pd.DataFrame(rows)[MEASURED].assign(**past)
    table = table.iloc[200:].astype(float)  # a pump that has just been started is no example
    model = IsolationForest(max_samples=2048, contamination=0.005, random_state=0).fit(table)
    with tempfile.TemporaryDirectory() as folder:
        saved, sample = Path(folder) / "model.joblib", Path(folder) / "sample.csv"
        joblib.dump(model, saved)
        table.sample(500, random_state=0).to_csv(sample, index=False)
        return foretell.pack(
            [saved], name="anomaly", sample=sample, windows=WINDOWS, repository=repository
        )


if __name__ == "__main__":
    print(train(Path(sys.argv[1] if len(sys.argv) > 1 else "models")))
