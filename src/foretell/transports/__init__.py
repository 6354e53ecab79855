"""The doors: each turns one protocol into calls of the data plane; none imports another."""
