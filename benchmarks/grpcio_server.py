"""grpcio's own server, as its documentation writes one: the usual recipe of gRPC in Python.

    PORT=50051 FOLDER=generated python -m benchmarks.grpcio_server threads|asyncio model.onnx

FOLDER holds the modules that grpc_tools made of the published prediction.proto. `threads` is
the synchronous server with the thread pool of grpcio's examples, `asyncio` its other one. The
model runs in ONNX Runtime, with one thread.
"""

import asyncio
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import grpc
import numpy as np
import onnxruntime

THREADS = 10  # in every example of grpcio


class Predicting:
    """The service's answers: `predict` and `health`, called by either server."""

    def __init__(self, graph: str, messages: Any) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        (matrix,) = self._session.get_inputs()
        self._name = matrix.name
        self._messages = messages

    def predict(self, request: Any) -> Any:
        """The PredictResponse to a PredictRequest."""
        row = np.array([request.features], dtype=np.float64)
        labels, probabilities = self._session.run(None, {self._name: row})
        return self._messages.PredictResponse(
            prediction=int(labels.reshape(-1)[0]),
            probabilities=probabilities[0].tolist(),
            model_version="1.0.0",
        )

    def health(self) -> Any:
        """The HealthResponse."""
        return self._messages.HealthResponse(status="healthy", model_loaded=True)


def serve_with_threads(predicting: Predicting, services: Any, address: str) -> None:
    """Serve until SIGTERM."""

    class Service(services.PredictionServiceServicer):  # type: ignore[misc] # it was just made
        def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
            return predicting.predict(request)

        def HealthCheck(self, request: Any, context: Any) -> Any:  # noqa: N802
            return predicting.health()

    server = grpc.server(ThreadPoolExecutor(max_workers=THREADS))
    services.add_PredictionServiceServicer_to_server(Service(), server)
    server.add_insecure_port(address)
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(None))
    server.wait_for_termination()


async def serve_with_asyncio(predicting: Predicting, services: Any, address: str) -> None:
    """Serve until SIGTERM."""

    class Service(services.PredictionServiceServicer):  # type: ignore[misc] # it was just made
        async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
            return predicting.predict(request)

        async def HealthCheck(self, request: Any, context: Any) -> Any:  # noqa: N802
            return predicting.health()

    server = grpc.aio.server()
    services.add_PredictionServiceServicer_to_server(Service(), server)
    server.add_insecure_port(address)
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(None)


def main() -> None:
    """Serve what the command line names."""
    kind, graph = sys.argv[1:]
    sys.path.insert(0, os.environ["FOLDER"])
    messages, services = map(import_module, ("prediction_pb2", "prediction_pb2_grpc"))
    predicting = Predicting(graph, messages)
    address = f"127.0.0.1:{os.environ['PORT']}"
    if kind == "threads":
        serve_with_threads(predicting, services, address)
    else:
        asyncio.run(serve_with_asyncio(predicting, services, address))


if __name__ == "__main__":
    main()
