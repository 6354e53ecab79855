"""Runtimes turn the artifact files of one framework into a servable."""

from foretell.runtimes.loading import RUNTIMES, load, load_bulk

__all__ = ["RUNTIMES", "load", "load_bulk"]
