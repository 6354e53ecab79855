"""The rules, without I/O: signatures, batches, manifests, calls."""
