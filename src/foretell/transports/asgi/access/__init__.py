"""Access is who may ask what: keys, what they allow, and the gate that all requests pass."""
