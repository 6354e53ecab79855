"""The demo: trains three models, packs them, serves them, and shows requests with their answers.

`make demo` runs it. Everything it writes is under one folder, `.demo` unless told otherwise.
"""

import argparse
import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

HERE = Path(__file__).resolve().parent
FORETELL = str(Path(sys.executable).with_name("foretell"))
READY_WITHIN_S = 60.0
VERSION = "1.0.0"
# What the demo serves: name -> (training script, model files in order).
MODELS = {
    "churn": ("train_churn_synthetic.py", ("scaler.pkl", "model.pkl")),
    "breast-cancer": ("train_breast_cancer.py", ("model.joblib",)),
    "telco-churn": ("train_telco_churn.py", ("model.joblib",)),
}
CUSTOMER = {"age": 35.0, "tenure": 24, "monthly_charges": 65.5, "total_charges": 1572.0}
OTHER_CUSTOMER = {"age": 61.5, "tenure": 2, "monthly_charges": 104.0, "total_charges": 208.0}

console = Console(highlight=False, soft_wrap=True)


class DemoFailed(Exception):
    """The demo cannot go on; the message is one sentence for its user."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the demo makes and shows; `body` None is a GET."""

    url: str
    body: Any = None

    @property
    def curl(self) -> str:
        """The same request as a line for a shell."""
        if self.body is None:
            return f"curl -s {self.url}"
        data = shlex.quote(json.dumps(self.body))
        return f"curl -s {self.url} -H 'Content-Type: application/json' -d {data}"

    def send(self) -> tuple[int, str]:
        """Status and body of the answer, a refusal included."""
        data = None if self.body is None else json.dumps(self.body).encode()
        request = urllib.request.Request(self.url, data, {"Content-Type": "application/json"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def run(*command: str, quiet: bool = False) -> None:
    """Run `command`, its output going to the terminal. Raises DemoFailed."""
    told = subprocess.run(  # noqa: S603
        command, stdout=subprocess.DEVNULL if quiet else None, check=False
    )
    if told.returncode:
        raise DemoFailed(f"`{shlex.join(command)}` failed with exit code {told.returncode}")


def check_port(port: int) -> None:
    """Raises DemoFailed when something listens on `port` already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DemoFailed(
                f"port {port} is taken; choose another with: make demo PORT={port + 80}"
            ) from error


def train_and_pack(folder: Path) -> Path:
    """The repository with all models, made anew in `folder`."""
    repository = folder / "models"
    shutil.rmtree(repository, ignore_errors=True)
    for name, (script, files) in MODELS.items():
        console.rule(f"[bold]{name}", align="left")
        run(sys.executable, str(HERE / script), str(folder))
        paths = [str(folder / name / file) for file in files]
        sample = str(folder / name / "sample.csv")
        told = ["--name", name, "--version", VERSION, "--sample", sample, "-o", str(repository)]
        console.print(f"[dim]$ foretell pack {shlex.join([*paths, *told])}")
        run(FORETELL, "pack", *paths, *told, "--quiet")
    return repository


def start(repository: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    """A server of `repository`, in a session of its own: Ctrl-C reaches only the demo."""
    told = ["serve", str(repository), "--default-model", "churn", "--bind", f"127.0.0.1:{port}"]
    console.rule("[bold]serve", align="left")
    console.print(f"[dim]$ foretell {shlex.join(told)}")
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603
            [FORETELL, *told], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return when the server at `url` takes requests. Raises DemoFailed."""
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise DemoFailed("the server did not start:\n" + "\n".join(last))
        try:
            if Request(f"{url}/health/ready").send()[0] == 200:
                return
        except OSError:  # not listening yet
            time.sleep(0.05)
    raise DemoFailed(f"the server was not ready within {READY_WITHIN_S:.0f} s; see {log}")


def stop(server: subprocess.Popen[bytes]) -> int:
    """End the server; its exit code."""
    server.terminate()
    try:
        return server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        server.kill()
        return server.wait()


def requests(url: str) -> list[Request]:
    """What to try on the server at `url`: each model is asked for its own example."""
    found = [
        Request(f"{url}/predict", CUSTOMER),
        Request(f"{url}/batch_predict", {"instances": [CUSTOMER, OTHER_CUSTOMER]}),
    ]
    for name in ("breast-cancer", "telco-churn"):
        status, text = Request(f"{url}/models/{name}").send()
        if status != 200:
            raise DemoFailed(f"GET /models/{name} answered {status}: {text}")
        found.append(Request(f"{url}/models/{name}/predict", json.loads(text)["example"]))
    return [*found, Request(f"{url}/health")]


def show(asked: list[Request]) -> bool:
    """Make each request, print it with its answer; whether all were answered well."""
    good = True
    console.rule("[bold]try it: these lines, and what they just answered", align="left")
    for request in asked:
        status, answer = request.send()
        good = good and status == 200
        console.print(f"\n{request.curl}", style="cyan", markup=False)
        console.print(answer, style="green" if status == 200 else "red", markup=False)
    return good


def demo(folder: Path, port: int, *, check: bool) -> int:
    """The exit code of the whole demo."""
    check_port(port)
    repository = train_and_pack(folder)
    url, log = f"http://127.0.0.1:{port}", folder / "server.log"
    server = start(repository, port, log)
    try:
        wait_until_ready(server, url, log)
        good = show(requests(url))
        console.print(f"\nThe interactive docs are at {url}/docs, the server's log is {log}.")
        if not check:
            console.print("Serving until you press Ctrl-C.")
            code = server.wait()
            raise DemoFailed(f"the server ended with exit code {code}; see {log}")
    except KeyboardInterrupt:
        console.print("\nStopping.")
        good = True
    finally:
        code = stop(server)
    if code:
        raise DemoFailed(f"the server ended with exit code {code}; see {log}")
    return 0 if good else 1


def main() -> int:
    """Read the command line and run the demo."""
    parser = argparse.ArgumentParser(description="Train, pack and serve three models.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(".demo"))
    parser.add_argument("--port", type=int, default=8000, help="where to serve (8000)")
    parser.add_argument("--check", action="store_true", help="stop after the requests were made")
    told = parser.parse_args()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    try:
        return demo(told.folder, told.port, check=told.check)
    except DemoFailed as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"demo: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
