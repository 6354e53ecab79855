"""Telemetry listens to the engine's hooks and tells who watches over a server."""
