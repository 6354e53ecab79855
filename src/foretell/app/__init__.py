"""The composition root: settings, wiring, the server, and the command line."""
