"""The result cache: what can be chosen of it."""
