"""Ray runs a job's parts on a cluster: Ray Data hands them to a pool of actors."""

from __future__ import annotations

import logging
import pickle
import socket
from collections.abc import Sequence
from typing import Any

from foretell.errors import MissingExtra, StartFailed
from foretell.transports.batch.engines.elsewhere import Deputy, Order, failed
from foretell.transports.batch.parts import PartStream

_KNOCK_S = 10.0


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
        self._ours = not ray.is_initialized()

    def run(self, order: Order, streams: Sequence[PartStream]) -> None:
        """Have actors do the streams: one for each core of the cluster, but one.

        A core is left for what hands out the work. Where an actor dies, another one takes its
        stream again. Raises StartFailed.
        """
        self._connect()
        try:
            for _ in self._handed_out(order, streams).iter_batches(batch_size=None):
                if self._cancelled:
                    return
        except Exception as error:
            if not self._cancelled:
                raise failed("Ray", error) from error
        finally:
            if self._ours:
                self._ray.shutdown()

    def cancel(self) -> None:
        """End the work: at once where Ray was started for it, else with the parts under way."""
        self._cancelled = True
        if self._ours:
            self._ray.shutdown()

    def _connect(self) -> None:
        """To the cluster; a program that is connected already stays so."""
        if not self._ours:
            return
        try:
            _knock(self._address)
            self._ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            told = f"the Ray cluster at {self._address} does not answer: {error}"
            raise StartFailed(told) from error

    def _handed_out(self, order: Order, streams: Sequence[PartStream]) -> Any:
        """A Ray data set of what becomes of the streams, one block each."""
        data = self._ray.data
        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        most = max(1, int(self._ray.cluster_resources().get("CPU", 1)) - 1)
        items = [{"stream": pickle.dumps(stream)} for stream in streams]
        return data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Actor,
            fn_constructor_args=(pickle.dumps(order),),
            batch_size=1,
            compute=data.ActorPoolStrategy(min_size=1, max_size=min(most, len(items))),
            num_cpus=1,
        )


def _knock(address: str | None) -> None:
    """Raise OSError where nobody listens: Ray itself would go on trying for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _KNOCK_S).close()


class _Actor:
    """A deputy, as Ray Data calls it."""

    def __init__(self, order: bytes) -> None:
        self._deputy = Deputy(pickle.loads(order))  # noqa: S301 - made by `run`

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for stream in batch["stream"]:
            self._deputy.do(pickle.loads(stream))  # noqa: S301 - made by `run`
        return {"done": [True] * len(batch["stream"])}
