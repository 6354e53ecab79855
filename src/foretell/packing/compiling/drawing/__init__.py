"""Drawing: a model's own arithmetic, step by step, as an ONNX graph."""
