"""How many messages a second `foretell stream` takes from each broker, and for how much CPU.

    python -m benchmarks.streams [--messages 100000] [--brokers kafka,redis]

A broker has all the messages before the stream starts: JSON of the four features of the synthetic
churn example, with 20 keys; results go back to the same broker, on the same machine. Starting
is left out: the clock runs from the first result that is there to the last one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from examples.train_churn_synthetic import synthetic_customers
from prometheus_client.parser import text_string_to_metric_families
from tests.redis_server import free_port
from tests.transports.stream.daemons import Daemon
from tests.transports.stream.daemons_kafka import Kafka
from tests.transports.stream.daemons_mqtt import Mosquitto
from tests.transports.stream.daemons_nats import Nats
from tests.transports.stream.daemons_rabbit import Rabbit
from tests.transports.stream.daemons_redis import Redis

from benchmarks.scenarios import boosted
from foretell.packing import pack

KINDS: dict[str, type[Daemon]] = {
    "kafka": Kafka,
    "nats": Nats,
    "rabbit": Rabbit,
    "mqtt": Mosquitto,
    "redis": Redis,
}
_PART = 5000
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--brokers", default=",".join(KINDS))
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = boosted(Path(folder)).model_folder
        files = (made / "scaler.pkl", made / "model.pkl")
        sample = made / "sample.csv"
        package = pack(files, name="churn", sample=sample, repository=Path(folder) / "models")
        values = _values(told.messages)
        print("| broker | messages/s | CPU of the stream, µs a message | messages a batch |")
        print("|---|---|---|---|")
        for name in told.brokers.split(","):
            own = Path(folder) / name
            own.mkdir()
            print(f"| {name} | {_measured(KINDS[name](own), package, values)} |", flush=True)


def _values(count: int) -> list[bytes]:
    customers, _ = synthetic_customers(5_000, seed=8)
    rows = [json.dumps(row).encode() for row in customers.to_dict("records")]
    return [rows[number % len(rows)] for number in range(count)]


def _measured(daemon: Daemon, package: Path, values: list[bytes]) -> str:
    port = free_port()
    try:
        daemon.prepare("in", "out", "dead")
        for at in range(0, len(values), _PART):
            part = values[at : at + _PART]
            daemon.put("in", ((b"key-%d" % (n % 20), one) for n, one in enumerate(part)))
        flags = ["--from", daemon.source("in"), "--to", daemon.sink("out"), "--quiet"]
        flags += ["--dead-letters", daemon.sink("dead"), "--metrics-bind", f"127.0.0.1:{port}"]
        command = [sys.executable, "-m", "foretell", "stream", str(package), *flags]
        with subprocess.Popen(command) as stream:
            try:
                return _followed(stream.pid, port, len(values))
            finally:
                stream.terminate()
    finally:
        daemon.stop()


def _followed(pid: int, port: int, count: int) -> str:
    began: tuple[float, float, float] | None = None
    while True:
        time.sleep(0.05)
        done, batches = _counts(port)
        now = (time.perf_counter(), _cpu_s(pid), done)
        if done and began is None:
            began = now
        if done >= count and began is not None:
            wall, cpu, messages = (after - before for before, after in zip(began, now, strict=True))
            return f"{messages / wall:,.0f} | {1e6 * cpu / messages:.0f} | {done / batches:,.0f}"


def _counts(port: int) -> tuple[float, float]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
            text = reply.read().decode()
    except OSError:  # it has not begun
        return 0.0, 0.0
    samples = (one for family in text_string_to_metric_families(text) for one in family.samples)
    told = {one.name: one.value for one in samples}
    batches = told.get("foretell_stream_batch_messages_count", 0.0)
    return told.get("foretell_stream_consumed_total", 0.0), batches


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


if __name__ == "__main__":
    main()
