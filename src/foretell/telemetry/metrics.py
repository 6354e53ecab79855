"""Metrics are what a server counts, for Prometheus: made once, before its workers are forked."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Sequence

from foretell.telemetry import processes
from foretell.telemetry.board import Board
from foretell.telemetry.counting import Counting
from foretell.telemetry.layout import Layout

_PLAIN = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of a server of these `versions` (model and version), nothing counted yet.

    `bounds` are the upper bounds of the buckets of times, in seconds and ascending; `in_service`
    says of each model whether it is; `release` is Foretell's own version. `cached` are the models
    that have a result cache.
    """

    def __init__(
        self,
        versions: Sequence[tuple[str, str]],
        bounds: tuple[float, ...],
        *,
        in_service: Callable[[str], bool],
        release: str,
        cached: Collection[str] = (),
    ) -> None:
        self._layout = Layout(versions, bounds)
        self._board = Board(self._layout.width, self._layout.gauges)
        self._in_service = in_service
        self._release = release
        self._cached = cached
        self._measured = functools.partial(processes.measured, os.getpid())

    def listener(self, reloading: Callable[[], bool]) -> Counting:
        """Who counts in this process, for as long as it lives. Raises StartFailed.

        `reloading` says, when it has answered its last request, whether it makes room for a
        successor.
        """
        return Counting(self._board, self._layout, reloading)

    def render(self, accept: str) -> tuple[bytes, str]:
        """What all processes counted, in a form that `accept` allows; and its Content-Type."""
        # Imported when it is asked for the first time: it takes 25 ms.
        from prometheus_client.exposition import choose_encoder, generate_latest
        from prometheus_client.registry import CollectorRegistry

        from foretell.telemetry.exposition import Exposition

        registry = CollectorRegistry(auto_describe=False)
        registry.register(
            Exposition(
                self._board,
                self._layout,
                in_service=self._in_service,
                processes=self._measured,
                version=self._release,
                cached=self._cached,
            )
        )
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # its versions are none
            encode, content_type = generate_latest, _PLAIN
        return encode(registry), content_type
