"""The usual recipe: FastAPI, pydantic, pandas and scikit-learn, as most people write it.

The application that tutorials recommend, kept as it is (a lifespan instead of the older
startup event, `model_dump` instead of `dict`, both without effect on a request), so that its
cost is the one people pay. FOLDER names the folder of scaler.pkl and model.pkl.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

model: Any = None
scaler: Any = None


@asynccontextmanager
async def load_model(app: FastAPI) -> AsyncIterator[None]:
    """Load model at application startup"""
    global model, scaler  # noqa: PLW0603 - that is the recipe
    folder = Path(os.environ.get("FOLDER", "."))
    model = joblib.load(folder / "model.pkl")
    scaler = joblib.load(folder / "scaler.pkl")
    yield


app = FastAPI(
    title="ML Model API",
    description="Machine Learning Model Serving API",
    version="1.0.0",
    lifespan=load_model,
)


class PredictionInput(BaseModel):
    """Prediction input schema"""

    age: float = Field(..., description="Customer age")
    tenure: int = Field(..., description="Months as customer")
    monthly_charges: float = Field(..., description="Monthly charges")
    total_charges: float = Field(..., description="Total charges")


class PredictionOutput(BaseModel):
    """Prediction output schema"""

    prediction: int
    probability: list[float]
    model_version: str


class BatchInput(BaseModel):
    """Batch input schema"""

    instances: list[PredictionInput]


class BatchOutput(BaseModel):
    """Batch output schema"""

    predictions: list[int]
    probabilities: list[list[float]]


@app.get("/health")
async def health() -> dict[str, Any]:
    """Health check"""
    return {"status": "healthy", "model_loaded": model is not None}


@app.post("/predict", response_model=PredictionOutput)
async def predict(input_data: PredictionInput) -> PredictionOutput:
    """Single prediction"""
    if model is None:
        raise HTTPException(status_code=503, detail="Model not loaded")
    df = pd.DataFrame([input_data.model_dump()])
    df_scaled = scaler.transform(df)
    prediction = int(model.predict(df_scaled)[0])
    probability = model.predict_proba(df_scaled)[0].tolist()
    return PredictionOutput(prediction=prediction, probability=probability, model_version="1.0.0")


@app.post("/batch_predict", response_model=BatchOutput)
async def batch_predict(input_data: BatchInput) -> BatchOutput:
    """Batch prediction"""
    if model is None:
        raise HTTPException(status_code=503, detail="Model not loaded")
    df = pd.DataFrame([item.model_dump() for item in input_data.instances])
    df_scaled = scaler.transform(df)
    predictions = model.predict(df_scaled).tolist()
    probabilities = model.predict_proba(df_scaled).tolist()
    return BatchOutput(predictions=predictions, probabilities=probabilities)
