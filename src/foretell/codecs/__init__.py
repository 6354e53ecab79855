"""Bytes to rows and back, one module a format; pure, without I/O."""
