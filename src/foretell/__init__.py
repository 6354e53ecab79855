"""Foretell serves a trained model everywhere it is needed, from one package with one signature."""

from foretell.core.signature import Field, Signature
from foretell.errors import ForetellError

__all__ = ["Field", "ForetellError", "Signature"]
__version__ = "0.1.0"
