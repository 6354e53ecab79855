"""Who may ask a server: the keys that are made for callers, and what lets them pass."""
