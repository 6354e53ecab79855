"""Packing makes a package of model files: inspect, infer the signature, prove, digest, write."""

from foretell.packing.inspection import Inspection, inspect_file
from foretell.packing.package import pack

__all__ = ["Inspection", "inspect_file", "pack"]
