"""The naive stream: a FastStream subscriber that asks scikit-learn for one message at a time.

It is written in its favour: plain lists instead of DataFrames, one call of the model for label and
probabilities, and no names that scikit-learn would warn of in every call. $FOLDER has scaler.pkl
and model.pkl, $SERVER is Kafka's; it reads the topic `in` as the group $GROUP, and writes to `out`.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import joblib
from faststream import FastStream
from faststream.confluent import KafkaBroker
from pydantic import BaseModel

folder = Path(os.environ["FOLDER"])
scaler, model = joblib.load(folder / "scaler.pkl"), joblib.load(folder / "model.pkl")
del scaler.feature_names_in_
broker = KafkaBroker(os.environ["SERVER"], logger=None)


class Customer(BaseModel):
    age: float
    tenure: float
    monthly_charges: float
    total_charges: float


@broker.subscriber("in", group_id=os.environ["GROUP"], auto_offset_reset="earliest")
@broker.publisher("out")
async def score(one: Customer) -> dict[str, Any]:
    row = [[one.age, one.tenure, one.monthly_charges, one.total_charges]]
    probability = model.predict_proba(scaler.transform(row))[0]
    prediction = model.classes_[probability.argmax()]
    return {"prediction": int(prediction), "probability": probability.tolist()}


if __name__ == "__main__":
    asyncio.run(FastStream(broker, logger=None).run())
