"""The brokers behind TLS: each demands a client's certificate. Tests put and read as before."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from pathlib import Path
from typing import Any

import trustme

from tests.redis_server import free_port
from tests.transports.stream.daemons import Daemon
from tests.transports.stream.daemons_kafka import Kafka
from tests.transports.stream.daemons_mqtt import Mosquitto
from tests.transports.stream.daemons_nats import Nats
from tests.transports.stream.daemons_rabbit import Rabbit
from tests.transports.stream.daemons_redis import Redis


class Certificates:
    """Files of an authority, of a server's and a client's certificate by it, and of a stranger."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.other = folder / "ca.pem", folder / "other.pem"
        self.client, self.client_key = folder / "client.pem", folder / "client.key"
        self.server, self.server_key = folder / "server.pem", folder / "server.key"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        trustme.CA().cert_pem.write_to_path(self.other)
        for name, cert, key in (
            ("127.0.0.1", self.server, self.server_key),
            ("client.test", self.client, self.client_key),
        ):
            issued = authority.issue_cert(name)
            issued.cert_chain_pems[0].write_to_path(cert)
            issued.private_key_pem.write_to_path(key)

    @property
    def own(self) -> str:
        return f"ca={self.ca}&cert={self.client}&key={self.client_key}"


class Behind(Daemon):
    """What a broker behind TLS has beside its other port."""

    scheme: str

    def __init__(self, folder: Path) -> None:
        self.certificates, self.secure = Certificates(folder), free_port()
        super().__init__(folder)

    def tls(self, url: str, told: str) -> str:
        """`url` over TLS, with options."""
        place = url.partition("://")[2].replace(f":{self.port}/", f":{self.secure}/")
        return f"{self.scheme}://{place}{'&' if '?' in place else '?'}{told}"


class SecureRedis(Behind, Redis):
    scheme = "rediss"

    @property
    def command(self) -> list[str]:
        files, told = self.certificates, ["--tls-port", str(self.secure)]
        told += ["--tls-ca-cert-file", str(files.ca), "--tls-cert-file", str(files.server)]
        return [*super().command, *told, "--tls-key-file", str(files.server_key)]


class SecureNats(Behind, Nats):
    """NATS has one port."""

    scheme = "nats+tls"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.secure = self.port

    @property
    def command(self) -> list[str]:
        files = self.certificates
        told = ["--tlsverify", "--tlscacert", str(files.ca), "--tlscert", str(files.server)]
        return [*super().command, *told, "--tlskey", str(files.server_key)]

    def _run(self, work: Any) -> Any:
        import nats

        context = ssl.create_default_context(cafile=self.certificates.ca)
        context.load_cert_chain(self.certificates.client, self.certificates.client_key)

        async def connected() -> Any:
            client = await nats.connect(f"tls://127.0.0.1:{self.port}", tls=context)
            try:
                return await work(client)
            finally:
                await client.close()

        return asyncio.run(connected())


class SecureMosquitto(Behind, Mosquitto):
    scheme = "mqtts"

    @property
    def command(self) -> list[str]:
        found, files = super().command, self.certificates
        with Path(found[-1]).open("a") as settings:
            settings.write(f"listener {self.secure} 127.0.0.1\ncafile {files.ca}\n")
            settings.write(f"certfile {files.server}\nkeyfile {files.server_key}\n")
            settings.write("require_certificate true\n")
        return found


class SecureRabbit(Behind, Rabbit):
    scheme = "amqps"

    @property
    def command(self) -> list[str]:
        env, *told = super().command
        files, settings = self.certificates, self.folder / "rabbitmq.conf"
        settings.write_text(
            f"listeners.ssl.1 = 127.0.0.1:{self.secure}\nssl_options.cacertfile = {files.ca}\n"
            f"ssl_options.certfile = {files.server}\nssl_options.keyfile = {files.server_key}\n"
            "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
        )
        return [env, f"RABBITMQ_CONFIG_FILE={settings}", *told]


class SecureKafka(Behind, Kafka):
    """noida-db has no TLS: a relay in front of it ends it, and has itself told as the broker."""

    scheme = "kafka+ssl"

    def start(self) -> None:
        super().start()
        ready = threading.Event()
        self._loop, self._end = asyncio.new_event_loop(), asyncio.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._relay(ready),)
        )
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()
        super().stop()

    async def _relay(self, ready: threading.Event) -> None:
        files = self.certificates
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(files.server, files.server_key)
        plain, secure = (
            b"127.0.0.1" + port.to_bytes(4, "big") for port in (self.port, self.secure)
        )

        async def pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(1 << 20):
                    writer.write(data.replace(plain, secure))
                    await writer.drain()
            writer.close()

        async def relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            back, out = await asyncio.open_connection("127.0.0.1", self.port)
            await asyncio.gather(pumped(reader, out), pumped(back, writer))

        server = await asyncio.start_server(relayed, "127.0.0.1", self.secure, ssl=context)
        ready.set()
        await self._end.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)
