"""Sending: connections that carry requests, and an alarm that says when."""
