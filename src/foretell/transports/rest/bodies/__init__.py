"""Bodies in other forms than JSON: which there are, tables, and lines without an end."""
