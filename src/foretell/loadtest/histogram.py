"""A histogram holds latencies as an HDR histogram does: three digits of each, from 1 µs to 1 h.

Values come in by the thousand, so they are sorted into its buckets with numpy; `hdrh` alone says
what the buckets are and reads them, and writes them in the form that other tools can add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from foretell.core.field import Array
from foretell.errors import MissingExtra

PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
_MOST_US = 3_600_000_000
_DIGITS = 3


class Histogram:
    """Latencies, given and told in seconds. Raises MissingExtra."""

    def __init__(self) -> None:
        try:
            from hdrh.histogram import HdrHistogram
        except ImportError as error:
            raise MissingExtra(
                "a load test needs hdrhistogram: pip install 'foretell[loadtest]'"
            ) from error
        self._hdr: Any = HdrHistogram(1, _MOST_US, _DIGITS)
        self._half = int(self._hdr.sub_bucket_half_count_magnitude)
        self._counts = np.zeros(self._hdr.counts_len, dtype=np.int64)
        self._sum_s, self._least_us, self._most_us = 0.0, _MOST_US, 0
        self._is_read = True

    def add(self, seconds: Sequence[float] | Array) -> None:
        """Count these, too."""
        values = np.asarray(seconds, dtype=np.float64)
        if not len(values):
            return
        self._sum_s += float(values.sum())
        whole = np.clip(np.rint(values * 1e6), 1, _MOST_US).astype(np.int64)
        self._least_us = min(self._least_us, int(whole.min()))
        self._most_us = max(self._most_us, int(whole.max()))
        # hdrh's own _counts_index_for, of all at once: as many leading digits as a half bucket has
        bits = np.frexp(whole.astype(np.float64))[1]
        bucket = np.maximum(0, bits - (self._half + 1))
        places = ((bucket + 1) << self._half) + (whole >> bucket) - (1 << self._half)
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._is_read = False

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    @property
    def mean_s(self) -> float:
        return self._sum_s / self.count if self.count else 0.0

    @property
    def max_s(self) -> float:
        return self._most_us / 1e6

    def percentile_s(self, percentile: float) -> float:
        """The latency that so many percent do not exceed; 0 when there are none."""
        return min(float(self._read().get_value_at_percentile(percentile)) / 1e6, self.max_s)

    def curve(self) -> list[tuple[float, float]]:
        """(percentile, seconds), closer together towards the slowest."""
        points = [
            (float(at.percentile), min(at.value_iterated_to / 1e6, self.max_s))
            for at in self._read().get_percentile_iterator(5)
        ]
        return [point for point in points if point[0] < 100.0] + [(100.0, self.max_s)]

    def encoded(self) -> str:
        """All of it in HdrHistogram's V2 form, base64: microseconds."""
        told: bytes = self._read().encode()
        return told.decode()

    def _read(self) -> Any:
        """The histogram of hdrh, with these counts."""
        if not self._is_read:
            self._hdr.reset()
            for place in np.flatnonzero(self._counts).tolist():
                value = self._hdr.get_value_from_index(place)
                self._hdr.record_value(value, int(self._counts[place]))
            self._hdr.min_value, self._hdr.max_value = self._least_us, self._most_us
            self._is_read = True
        return self._hdr
