"""Engines run a job: this machine, Ray, Spark."""
