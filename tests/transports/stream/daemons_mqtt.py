"""MQTT: mosquitto, which writes down its sessions when it is stopped."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.transports.stream.daemons import WAIT_S, Daemon, Put


class Mosquitto(Daemon):
    @property
    def command(self) -> list[str]:
        found = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        assert found is not None, "make packages installs mosquitto"
        settings = Path(self.folder) / "mosquitto.conf"
        settings.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
            f"persistence true\npersistence_location {self.folder}/\n"
            "max_inflight_messages 1024\nmax_queued_messages 0\n"
        )
        return [found, "-c", str(settings)]

    def answers(self) -> bool:
        return self.connects()

    def source(self, name: str, consumer: str = "one") -> str:
        # mosquitto 2.0.11 forgets shared subscriptions when it is restarted, but no others
        shared = "&group=g&leave=1" if consumer != "one" else ""
        return f"mqtt://127.0.0.1:{self.port}/{name}?client=c-{consumer}{shared}"

    def sink(self, name: str) -> str:
        return f"mqtt://127.0.0.1:{self.port}/{name}"

    def _connected(self, name: str, clean: bool = True) -> Any:
        one: Any = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
        one.max_inflight_messages_set(1000)
        ready = threading.Event()
        one.on_connect = lambda *_: ready.set()
        lasting = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        lasting.SessionExpiryInterval = 0 if clean else 3600
        one.connect("127.0.0.1", self.port, clean_start=clean, properties=lasting)
        one.loop_start()
        assert ready.wait(WAIT_S)
        return one

    def prepare(self, *names: str) -> None:
        """A topic keeps nothing, sessions do: the consumers' and the reader's."""
        self.read: dict[str, list[bytes]] = {name: [] for name in names}
        reader = self._connected("reader", clean=False)
        done = threading.Event()
        reader.on_subscribe = lambda *_: done.set()
        reader.subscribe([(name, SubscribeOptions(1)) for name in names if name != "in"])
        assert done.wait(WAIT_S)
        reader.disconnect()
        reader.loop_stop()
        for consumer in ("one", "two", "three"):
            one = self._connected(f"c-{consumer}", clean=False)
            begun = threading.Event()
            one.on_subscribe = lambda *_, begun=begun: begun.set()
            one.subscribe("in" if consumer == "one" else "$share/g/in", 1)
            assert begun.wait(WAIT_S)
            one.disconnect()
            one.loop_stop()

    def put(self, name: str, told: Iterable[Put]) -> None:
        one = self._connected("producer")
        out = []
        for key, value in told:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.UserProperty = [("foretell-key", key.decode())]
            out.append(one.publish(name, value, 1, properties=properties))
        for sent in out:
            sent.wait_for_publish(WAIT_S)
            assert sent.is_published()
        one.disconnect()
        one.loop_stop()

    def told(self, name: str) -> list[bytes]:
        """A session gives a message once: what came before is kept here."""
        one: Any = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="reader", protocol=paho.MQTTv5
        )
        last = [time.monotonic()]

        def came(_: Any, __: Any, told: Any) -> None:
            self.read[told.topic].append(told.payload)
            last[0] = time.monotonic()

        one.on_message = came
        lasting = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        lasting.SessionExpiryInterval = 3600
        one.connect("127.0.0.1", self.port, clean_start=False, properties=lasting)
        while time.monotonic() < last[0] + 0.3:
            one.loop(0.05)
        one.disconnect()
        one.loop(0.05)
        return self.read[name]
