"""What the doors that speak ASGI have in common: an exchange's body, ids, leaving clients."""
