"""The example of the docs: pumps by MQTT, an isolation forest with their past, results in Kafka."""

from __future__ import annotations

import json
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from examples.anomaly.picture import picture
from examples.anomaly.readings import PUMPS, readings
from examples.anomaly.train import MEASURED, WINDOWS, train

import foretell
from tests.transports.stream.consumers import Consumer, stopped
from tests.transports.stream.daemons_kafka import Kafka
from tests.transports.stream.daemons_mqtt import Mosquitto
from tests.transports.stream.test_brokers import documents, wait_for

ROOT = Path(__file__).parents[4]
SECONDS = 200


@pytest.mark.slow
def test_the_command_of_the_docs_scores_pumps(tmp_path: Path) -> None:
    package = train(tmp_path / "models")
    (command,) = (
        line
        for line in (ROOT / "docs" / "streaming.md").read_text().splitlines()
        if line.startswith("foretell stream models/ --from 'mqtt:")
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    source, sink = Mosquitto(tmp_path / "in"), Kafka(tmp_path / "out")
    told = [row | {"n": n} for n, row in enumerate(readings(SECONDS))]
    try:
        source.prepare("in", "unused")
        sink.prepare("out", "dead")
        command = command.replace(":1883/", f":{source.port}/").replace(":9092/", f":{sink.port}/")
        # the daemon has a session of that name, which loses nothing until the stream is there
        command = command.replace("/readings?client=watch", "/in?client=c-one")
        flags = shlex.split(command.replace("/scored", "/out"))[2:]
        flags += ["--dead-letters", sink.sink("dead")]
        with Consumer(*flags, cwd=tmp_path) as stream:
            source.put("in", ((b"", json.dumps(row).encode()) for row in told))
            wait_for(sink, len(told), stream, 60)
            stopped(stream)
        results = sorted(documents(sink, "out"), key=lambda one: int(one["n"]))
    finally:
        source.stop()
        sink.stop()
    past = foretell.rolling(told, WINDOWS)
    inputs = [
        {name: row[name] for name in MEASURED} | {name: past[name][n] for name in past}
        for n, row in enumerate(told)
    ]
    model = foretell.load(package)
    assert [one["prediction"] for one in results] == model.predict(inputs)["prediction"].tolist()
    found = {one["pump"] for one in results if one["prediction"] == -1}
    assert found == set(PUMPS)
    ET.fromstring(picture(results))
