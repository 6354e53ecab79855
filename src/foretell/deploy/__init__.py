"""Deploying: what a platform needs to run models, written as text and built by its own tools."""
