"""Real gateways for tests: `foretell gateway` in a process of its own, in front of real servers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.daemons import until
from tests.transports.batch.stores.servers import free_ports

STOP_S = 30.0


def toml(told: Mapping[str, Any]) -> str:
    """Settings as a file has them: tables after all else."""
    plain = [f"{key} = {_value(one)}\n" for key, one in told.items() if not isinstance(one, dict)]
    tables = []
    for key, one in told.items():
        if not isinstance(one, dict):
            continue
        nested = {name: part for name, part in one.items() if isinstance(part, dict)}
        own = {name: part for name, part in one.items() if name not in nested}
        if own:
            tables.append(f"[{key}]\n{toml(own)}")
        tables += [f"[{key}.{name}]\n{toml(part)}" for name, part in nested.items()]
    return "".join([*plain, *tables])


def _value(one: Any) -> str:
    if isinstance(one, list | tuple):
        return f"[{', '.join(map(_value, one))}]"
    return f'"{one}"' if isinstance(one, str) else str(one).lower()


class Gateway:
    """A running `foretell gateway` of one file of settings."""

    def __init__(self, folder: Path, told: Mapping[str, Any]) -> None:
        self.config = folder / "gateway.toml"
        port, metrics_port = free_ports(2)
        self._places = {
            "bind": f"127.0.0.1:{port}",
            "metrics_bind": f"127.0.0.1:{metrics_port}",
        }
        self._places |= {key: told[key] for key in self._places if key in told}
        self.address = self._places["bind"]
        self.url = f"http://{self.address}"
        self._log = folder / "gateway.log"
        self.write(told)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "foretell", "gateway", "--config", str(self.config)],
                stdout=log,
                stderr=log,
            )

    def write(self, told: Mapping[str, Any]) -> None:
        """Change its settings: the file is another one at once."""
        new = self.config.with_suffix(".new")
        new.write_text(toml({**self._places, **told}))
        new.replace(self.config)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def metric(self, name: str, **labels: str) -> float:
        """A number of Envoy's; 0 while it is not there."""
        told = httpx.get(f"http://{self._places['metrics_bind']}/metrics").text
        found = 0.0
        for line in told.splitlines():
            if line.startswith(f"{name}{{") and all(
                f'{k}="{v}"' in line for k, v in labels.items()
            ):
                found += float(line.rpartition(" ")[2])
        return found

    def healthy(self, cluster: str = "default") -> int:
        """How many servers it takes for ready."""
        return int(self.metric("envoy_cluster_membership_healthy", envoy_cluster_name=cluster))

    def until_healthy(self, count: int, cluster: str = "default") -> None:
        until(lambda: self.healthy(cluster) == count, lambda: (count, self.log))

    def envoys(self) -> list[int]:
        """The processes that it started."""
        at = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return list(map(int, at.read_text().split()))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(STOP_S)
        finally:
            self.process.kill()
            self.process.wait(STOP_S)


@contextmanager
def gateway(folder: Path, **told: Any) -> Iterator[Gateway]:
    """One that listens; ended at the end, which must be clean."""
    made = Gateway(folder, told)
    try:
        until(lambda: "Listening" in made.log or made.process.poll() is not None, lambda: made.log)
        assert made.process.poll() is None, made.log
        yield made
    except BaseException:
        made.stop(signal.SIGKILL)
        raise
    assert made.stop() == 0, made.log


def is_alive(pid: int) -> bool:
    """Whether a process still runs."""
    try:
        os.kill(pid, 0)
        state = re.search(r"^State:\s+(\S)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state is not None and state.group(1) != "Z"
