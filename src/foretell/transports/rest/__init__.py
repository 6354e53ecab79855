"""The REST door: the brief's inference routes, health, models and docs over HTTP."""
