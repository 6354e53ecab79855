"""The benchmarks: what a request costs, next to the floor and next to the usual recipe.

Run them with `make bench`, or `python -m benchmarks.run --help`; `make peers` measures other model
servers.
"""
