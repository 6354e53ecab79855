"""What a model sees of the recent past: rolling features, declared and computed without I/O."""
