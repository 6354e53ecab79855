"""Streams as the command line starts them."""
