"""The batch door: files in, files out, a part at a time, each exactly once."""
