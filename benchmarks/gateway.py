"""The gateway: what it adds to a call, and what is lost when one of three servers is killed.

Rules:

1. Gateway and server share one core, the load is on the other. CPU is each one's own process tree.
2. Latency is that of one connection, which waits for nobody.
3. Clients that keep connections and never retry ask at full speed while a server is killed (-9);
   it had calls under way, which is the point.
"""

import http.client
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.budgets import Verdict, at_most
from benchmarks.harness import BenchFailed, Measurement, Server, check_answer, measure, running
from benchmarks.loads import is_ready
from benchmarks.scenarios import boosted, one_row
from benchmarks.sections import Effort, Section
from benchmarks.servers import FORETELL, free_port, repository, serve

CONNECTIONS = 32
CLIENTS = 16
_TEXT = (
    "`foretell gateway` with one worker thread, on the core of the server that it asks. CPU is "
    "each one's own process tree, at {connections} connections; latency that of one. Killed: "
    "{clients} clients that keep their connections and never retry, in front of three servers, "
    "one of which is killed (-9) in the midst; {answered:,} calls were answered, {failed} failed."
)


def gateway(effort: Effort) -> Section:
    """Measure and judge. Raises BenchFailed."""
    folder = effort.own("gateway")
    models = repository(site := boosted(folder))
    loads = one_row(site, [1, CONNECTIONS], effort.seconds)
    server = serve(models)
    before = _gateway([server.root_url])
    found: dict[tuple[str, int], list[Measurement]] = {}
    for number in range(effort.rounds):
        effort.tell(f"round {number + 1} of {effort.rounds}")
        with running(server, folder / "log") as pid, running(before, folder / "gateway.log") as at:
            for load in loads:
                told = replace(load, answer_bytes=check_answer(before, load))
                for name, who, its in (("direct", server, pid), ("through", before, at)):
                    key = (name, load.connections)
                    found.setdefault(key, []).append(measure(who, its, told))
    effort.tell("killing one of three")
    answered, failed = _killed(models, folder)
    cpu = {name: _median(found[name, CONNECTIONS], "cpu_us") for name in ("direct", "through")}
    p50 = {name: _median(found[name, 1], "p50_ms") for name in ("direct", "through")}
    text = _TEXT.format(connections=CONNECTIONS, clients=CLIENTS, answered=answered, failed=failed)
    rows = [
        ("the server, asked directly", f"{cpu['direct']:.1f}", f"{p50['direct']:.3f}"),
        ("the gateway alone", f"{cpu['through']:.1f}", f"{p50['through'] - p50['direct']:.3f}"),
    ]
    says = "calls that failed when one of three servers behind the gateway was killed"
    return Section(
        "The gateway",
        text,
        ("who", "CPU µs/request", "p50 ms (the gateway: added)"),
        rows,
        [Verdict(says, at_most(0, "calls"), failed)],
        labels=1,
        data=[{"cpu_us": cpu, "p50_ms": p50, "answered": answered, "failed": failed}],
    )


def _gateway(upstreams: Sequence[str]) -> Server:
    port = free_port()
    argv = [FORETELL, "gateway", "--bind", f"127.0.0.1:{port}", "--quiet"]
    for url in upstreams:
        argv += ["--upstream", url]
    return Server("foretell gateway", tuple(argv), f"http://127.0.0.1:{port}/health/ready")


def _median(measured: Sequence[Measurement], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in measured))


def _killed(models: Path, folder: Path) -> tuple[int, int]:
    """How many calls were answered, and how many failed."""
    servers = [serve(models) for _ in range(3)]
    with ExitStack() as stack:
        for server in servers[:2]:
            stack.enter_context(running(server, folder / "log"))
        third = subprocess.Popen(servers[2].argv, stderr=subprocess.DEVNULL, start_new_session=True)
        stack.callback(third.wait)
        stack.callback(third.kill)
        _until_ready(servers[2])
        before = _gateway([server.root_url for server in servers])
        stack.enter_context(running(before, folder / "gateway.log"))
        stop = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as pool:
            asking = [pool.submit(_ask, before, stop) for _ in range(CLIENTS)]
            time.sleep(1.5)
            third.send_signal(signal.SIGKILL)
            time.sleep(2.5)
            stop.set()
        counts = [one.result() for one in asking]
    return sum(one[0] for one in counts), sum(one[1] for one in counts)


def _until_ready(server: Server) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if is_ready(server.ready_url):
                return
        except OSError:
            time.sleep(0.05)
    raise BenchFailed(f"{server.name} was not ready")


def _ask(server: Server, stop: threading.Event) -> tuple[int, int]:
    """Ask over one connection until `stop`: how many calls were answered, and how many failed."""
    place = urlsplit(server.root_url).netloc
    link = http.client.HTTPConnection(place, timeout=30)
    answered = failed = 0
    body = '{"features": [35.0, 24, 65.5, 1572.0]}'
    while not stop.is_set():
        try:
            link.request("POST", "/predict", body)
            reply = link.getresponse()
            reply.read()
            fine = reply.status == 200
        except (OSError, http.client.HTTPException):
            link.close()
            fine = False
        answered, failed = answered + fine, failed + (not fine)
    link.close()
    return answered, failed
