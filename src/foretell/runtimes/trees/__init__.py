"""Trees for many rows: the plain arrays of an ensemble, and the compiled loop that sums them."""
