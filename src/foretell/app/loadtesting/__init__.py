"""The command `foretell loadtest`."""
