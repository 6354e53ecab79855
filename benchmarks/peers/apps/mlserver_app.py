"""MLServer: the model for ONNX files, which MLServer has no runtime for.

The scikit-learn model is served by MLServer's own runtime, mlserver_sklearn.SKLearnModel, from
a joblib file of a pipeline; `mlserver start FOLDER` reads settings.json and model-settings.json.
"""

# mypy: ignore-errors
# MLServer is installed in an environment of its own, not where mypy runs.

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, NumpyRequestCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.apps import churn


class OnnxModel(MLModel):
    """The custom runtime that MLServer's documentation has one write."""

    async def load(self) -> bool:
        self.model = churn.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = self.decode_request(payload, default_codec=NumpyRequestCodec)
        labels, probabilities = self.model(rows)
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[
                NumpyCodec.encode_output("predict", labels),
                NumpyCodec.encode_output("predict_proba", probabilities),
            ],
        )
