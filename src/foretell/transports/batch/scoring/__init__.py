"""Scoring makes answers of pieces."""
