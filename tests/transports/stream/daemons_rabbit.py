"""RabbitMQ, a node of its own in a folder; the port beside its own is Erlang's."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.redis_server import free_port
from tests.transports.stream.daemons import WAIT_S, Daemon, Put


class Rabbit(Daemon):
    def __init__(self, folder: Path) -> None:
        self.between = free_port()
        logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it tells of each try to connect
        super().__init__(folder)

    @property
    def command(self) -> list[str]:
        # the command of that name would become another user first, who may not write here
        found = "/usr/lib/rabbitmq/bin/rabbitmq-server"
        assert Path(found).exists(), "make packages installs rabbitmq-server"
        plugins = self.folder / "enabled_plugins"
        plugins.write_text("[].")
        told = {
            "HOME": self.folder,
            "RABBITMQ_NODENAME": f"foretell-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": self.between,
            "RABBITMQ_MNESIA_BASE": self.folder / "data",
            "RABBITMQ_LOG_BASE": self.folder / "logs",
            "RABBITMQ_ENABLED_PLUGINS_FILE": plugins,
            "RABBITMQ_PID_FILE": self.folder / "pid",
            "ERL_CRASH_DUMP": self.folder / "crash.dump",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        return ["env", *(f"{name}={value}" for name, value in told.items()), found]

    def answers(self) -> bool:
        async def ask(channel: Any) -> bool:
            return True

        try:
            return bool(self._run(ask))
        except (OSError, RuntimeError):
            return False

    def stop(self) -> None:
        number = int((self.folder / "pid").read_text())
        os.kill(number, signal.SIGTERM)
        self.process.wait(WAIT_S)

    def source(self, name: str, consumer: str = "one") -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{name}"

    def sink(self, name: str) -> str:
        return self.source(name)

    def _run(self, work: Any) -> Any:
        import aio_pika

        async def connected() -> Any:
            async with await aio_pika.connect(port=self.port, timeout=2) as connection:
                return await work(await connection.channel())

        return asyncio.run(connected())

    def prepare(self, *names: str) -> None:
        async def declare(channel: Any) -> None:
            for name in names:
                await channel.declare_queue(name, durable=True)

        self._run(declare)
        self.read: dict[str, list[bytes]] = {name: [] for name in names}

    def put(self, name: str, told: Iterable[Put]) -> None:
        import aio_pika

        persistent = aio_pika.DeliveryMode.PERSISTENT

        async def publish(channel: Any) -> None:
            out = []
            for key, value in told:
                headers: dict[str, Any] = {"foretell-key": key.decode()}
                one = aio_pika.Message(value, headers=headers, delivery_mode=persistent)
                out.append(channel.default_exchange.publish(one, name))
            await asyncio.gather(*out)

        self._run(publish)

    def told(self, name: str) -> list[bytes]:
        """A queue gives a message once: what was read before is kept here."""

        async def read(channel: Any) -> None:
            queue = await channel.get_queue(name)
            last = None
            while (one := await queue.get(fail=False)) is not None:
                self.read[name].append(one.body)
                last = one
            if last is not None:
                await last.ack(multiple=True)

        self._run(read)
        return self.read[name]
