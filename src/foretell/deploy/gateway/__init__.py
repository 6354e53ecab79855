"""A gateway in front of several servers: what is chosen, as Envoy takes it."""
