"""Ray runs a job's parts on a cluster: Ray Data hands them to a pool of actors."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from typing import Any

from foretell.errors import MissingExtra, StartFailed
from foretell.transports.batch.engines.elsewhere import Deputy, Order, failed
from foretell.transports.batch.parts import PartStream


class RayEngine:
    """The cluster at `address` (`auto`: the one this machine is a node of); None makes one here."""

    def __init__(self, address: str | None) -> None:
        try:
            import ray.data
        except ImportError as error:
            raise MissingExtra("engine ray is not installed: install foretell[ray]") from error
        self._ray: Any = ray
        self._address = address
        self._cancelled = False

    def run(self, order: Order, streams: Sequence[PartStream]) -> None:
        """Have actors do the streams: one for each core of the cluster, but one.

        A core is left for what hands out the work. Where an actor dies, another one takes its
        stream again.
        """
        ray = self._ray
        try:
            ray.init(
                address=self._address,
                ignore_reinit_error=True,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise StartFailed(
                f"the Ray cluster at {self._address} does not answer: {error}"
            ) from error
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        most = max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
        items = [{"stream": pickle.dumps(stream)} for stream in streams]
        done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Actor,
            fn_constructor_args=(pickle.dumps(order),),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(most, len(items))),
            num_cpus=1,
        )
        try:
            for _ in done.iter_batches(batch_size=None):
                pass
        except Exception as error:
            if not self._cancelled:
                raise failed("Ray", error) from error

    def cancel(self) -> None:
        """Leave the cluster: Ray ends what was started from here."""
        self._cancelled = True
        self._ray.shutdown()


class _Actor:
    """A deputy, as Ray Data calls it."""

    def __init__(self, order: bytes) -> None:
        self._deputy = Deputy(pickle.loads(order))  # noqa: S301 - made by `run`

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for stream in batch["stream"]:
            self._deputy.do(pickle.loads(stream))  # noqa: S301 - made by `run`
        return {"done": [True] * len(batch["stream"])}
