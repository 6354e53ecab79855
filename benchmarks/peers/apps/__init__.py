"""One small application per peer: the churn model, served the way that peer recommends.

Each runs in the peer's own virtual environment with PYTHONPATH naming the checkout, finds the
model through MODEL (a folder of scaler.pkl and model.pkl, or an ONNX file) and listens on PORT.
"""
