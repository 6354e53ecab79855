"""Tables are rows in other forms than JSON objects: Arrow, Parquet, CSV, NDJSON."""
