"""Redis Streams."""

from __future__ import annotations

from collections.abc import Iterable

from tests.transports.stream.daemons import Daemon, Put


class Redis(Daemon):
    @property
    def command(self) -> list[str]:
        port, folder = str(self.port), str(self.folder)
        options = ["--port", port, "--dir", folder, "--appendonly", "yes", "--save", ""]
        return ["redis-server", *options, "--appendfsync", "everysec"]

    def answers(self) -> bool:
        import redis

        with redis.Redis(port=self.port) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def source(self, name: str, consumer: str = "one") -> str:
        return f"redis://127.0.0.1:{self.port}/{name}?claim_s=0.5&consumer={consumer}"

    def sink(self, name: str) -> str:
        return f"redis://127.0.0.1:{self.port}/{name}"

    def prepare(self, *names: str) -> None:
        """Streams are made by who writes first."""

    def put(self, name: str, told: Iterable[Put]) -> None:
        import redis

        with redis.Redis(port=self.port) as client, client.pipeline(transaction=False) as pipe:
            for key, value in told:
                pipe.xadd(name, {"data": value, "key": key})
            pipe.execute()

    def told(self, name: str) -> list[bytes]:
        import redis

        with redis.Redis(port=self.port) as client:
            return [fields[b"data"] for _, fields in client.xrange(name)]
