"""NATS with JetStream, streams in files."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from typing import Any

from tests.transports.stream.daemons import Daemon, Put


class Nats(Daemon):
    @property
    def command(self) -> list[str]:
        found = shutil.which("nats-server")
        assert found is not None, "make packages installs nats-server"
        options = ["--addr", "127.0.0.1", "--port", str(self.port), "--jetstream"]
        return [found, *options, "--store_dir", str(self.folder)]

    def answers(self) -> bool:
        return self.connects()

    def source(self, name: str, consumer: str = "one") -> str:
        return f"nats://127.0.0.1:{self.port}/{name}?durable=d&ack_s=5"

    def sink(self, name: str) -> str:
        return f"nats://127.0.0.1:{self.port}/{name}"

    def _run(self, work: Any) -> Any:
        import nats

        async def connected() -> Any:
            client = await nats.connect(f"nats://127.0.0.1:{self.port}")
            try:
                return await work(client)
            finally:
                await client.close()

        return asyncio.run(connected())

    def prepare(self, *names: str) -> None:
        async def streams(client: Any) -> None:
            for name in names:
                await client.jetstream().add_stream(name=f"all-{name}", subjects=[name])

        self._run(streams)

    def put(self, name: str, told: Iterable[Put]) -> None:
        async def publish(client: Any) -> None:
            context = client.jetstream()
            out = [
                await context.publish_async(name, value, headers={"foretell-key": key.decode()})
                for key, value in told
            ]
            await asyncio.gather(*out)

        self._run(publish)

    def told(self, name: str) -> list[bytes]:
        async def read(client: Any) -> list[bytes]:
            context = client.jetstream()
            there = (await context.stream_info(f"all-{name}")).state.messages
            subscription = await context.subscribe(name, ordered_consumer=True)
            return [(await subscription.next_msg(5)).data for _ in range(there)]

        values: list[bytes] = self._run(read)
        return values
