"""Compiling: a model's own arithmetic as an ONNX graph, proven to answer as the model does."""

from foretell.packing.compiling.compiled import Compiled, compile_chain
from foretell.packing.compiling.packaged import compiled_package

__all__ = ["Compiled", "compile_chain", "compiled_package"]
