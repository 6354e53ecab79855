"""The peers: Foretell next to other model servers, each serving the same model its own way.

Optional, because each peer needs a virtual environment of its own, of several hundred megabytes.
Run it with `make peers`; `python -m benchmarks.peers --help` tells the rest.
"""
