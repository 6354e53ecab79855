"""`foretell gateway`: reads what is chosen, runs Envoy, and follows changes."""
