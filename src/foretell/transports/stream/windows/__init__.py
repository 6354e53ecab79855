"""What a stream remembers of each key, and where it is kept."""
