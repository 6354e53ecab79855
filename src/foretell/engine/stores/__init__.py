"""A result cache answers rows that were answered before: keys, stores, and what is between."""
