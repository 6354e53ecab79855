"""The servers that are compared: a table from a name to how it is prepared and started.

A row is a function of a `Site` that returns a `Server` (or a `Script`, which serves nothing);
what it writes first (a package, a configuration) goes to its own folder there.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.harness import BenchFailed, Script, Server, find_tool
from benchmarks.loads import GRPC, HTTP

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PROTOS = ROOT / "src" / "foretell" / "codecs" / "protos"
FORETELL = str(Path(sys.executable).with_name("foretell"))


@dataclass(frozen=True, slots=True)
class Site:
    """Where and what the servers serve: `model_folder` holds scaler.pkl, model.pkl, sample.csv.

    `answer` is what the one-row request is answered with: the floor's bytes.
    """

    folder: Path
    model_folder: Path
    answer: dict[str, Any]

    def own(self, name: str) -> Path:
        """A folder for one server's files."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def free_port() -> int:
    """A TCP port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def floor(site: Site) -> Server:
    """nginx, returning the same bytes from memory: what HTTP itself costs."""
    folder, port = site.own("floor"), free_port()
    body = json.dumps(site.answer, separators=(",", ":"))
    if set(body) & set("$'\\"):
        raise BenchFailed(f"nginx cannot return this answer as it is: {body}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"  {kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"""\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 2048; }}
http {{
{temporary}
  access_log off;
  keepalive_requests 1000000000;
  default_type application/json;
  server {{
    listen 127.0.0.1:{port};
    location = /health {{ return 200 '{{}}'; }}
    location = /predict {{ return 200 '{body}'; }}
  }}
}}
"""
    )
    argv = (
        find_tool("nginx") or "nginx",
        "-e",
        "stderr",
        "-p",
        str(folder),
        "-c",
        str(folder / "nginx.conf"),
    )
    return Server("floor", argv, f"http://127.0.0.1:{port}/health")


def usual_recipe(site: Site) -> Server:
    """FastAPI + pydantic + pandas + scikit-learn under uvicorn, uvloop and httptools."""
    port = free_port()
    told = ["--app-dir", str(ROOT), "--port", str(port), "--no-access-log"]
    argv = (sys.executable, "-m", "uvicorn", "benchmarks.usual_recipe:app", *told)
    env = {"FOLDER": str(site.model_folder)}
    return Server("usual recipe", argv, f"http://127.0.0.1:{port}/health", env)


def foretell(site: Site) -> Server:
    """The same two files, packed and served by Foretell with one worker."""
    return serve(repository(site))


def repository(site: Site) -> Path:
    """A repository with the site's model in it as churn 1.0.0; packed when first asked for."""
    folder = site.own("foretell") / "models"
    if not folder.exists():
        pack_churn(site, folder)
    return folder


def pack_churn(site: Site, folder: Path, *told: str) -> None:
    """Pack the site's model into the repository `folder`, with the flags `told`."""
    files = [str(site.model_folder / name) for name in ("scaler.pkl", "model.pkl")]
    sample = str(site.model_folder / "sample.csv")
    pack(*files, "--name", "churn", "--sample", sample, "-o", str(folder), *told)


def pack(*told: str) -> None:
    """Run `foretell pack`, where the benchmarks' own models are found. Raises BenchFailed."""
    argv = [FORETELL, "pack", *told, "--quiet"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=HERE)
    if done.returncode:
        raise BenchFailed(f"foretell pack failed: {done.stderr.strip()}")


def serve(folder: Path, *told: str) -> Server:
    """Foretell, serving the repository in `folder` with one worker and the flags `told`."""
    port = free_port()
    argv = (FORETELL, "serve", str(folder), "--bind", f"127.0.0.1:{port}", *told)
    ready = f"http://127.0.0.1:{port}/health/ready"
    return Server("foretell", argv, ready, speaks=(HTTP, GRPC))


def over(
    protocol: str, name: str, server: Callable[[Site], Server] = foretell
) -> Callable[[Site], Server]:
    """The server under another name, for the loads of one protocol."""
    return lambda site: replace(server(site), name=name, speaks=(protocol,))


def grpcio(kind: str, name: str) -> Callable[[Site], Server]:
    """grpcio's own server on the same ONNX file: benchmarks/grpcio_server.py."""

    def prepared(site: Site) -> Server:
        folder, port = site.own("grpcio"), free_port()
        generate(PROTOS / "prediction.proto", folder)
        argv = (sys.executable, "-m", "benchmarks.grpcio_server", kind, str(graph_of(site)))
        env = {"PORT": str(port), "FOLDER": str(folder)}
        ready = f"grpc://127.0.0.1:{port}/prediction.PredictionService/HealthCheck"
        return Server(name, argv, ready, env, speaks=(GRPC,))

    return prepared


def generate(proto: Path, folder: Path) -> None:
    """The Python modules of a .proto file, in `folder`. Raises BenchFailed."""
    told = ["-I", str(proto.parent), f"--python_out={folder}", f"--grpc_python_out={folder}"]
    argv = [sys.executable, "-m", "grpc_tools.protoc", *told, proto.name]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"grpc_tools failed: {done.stderr.strip()}")


def echo(_: Site) -> Server:
    """What carrying a body there and back costs on Foretell's server: benchmarks/echo.py."""
    port = free_port()
    argv = (sys.executable, "-m", "benchmarks.echo")
    ready, env = f"http://127.0.0.1:{port}/", {"PORT": str(port)}
    return Server("echo", argv, ready, env, speaks=(HTTP, GRPC), echoes=True)


def graph_of(site: Site) -> Path:
    """The ONNX file that Foretell made of the site's model. Raises BenchFailed."""
    graph = repository(site) / "churn" / "1.0.0" / "model.onnx"
    if not graph.exists():
        raise BenchFailed("the model was not compiled, so there is no graph to compare with")
    return graph


def script(name: str, module: str) -> Callable[[Site], Script]:
    """A program of this folder that gets the site's ONNX file."""
    return lambda site: Script(name, (sys.executable, "-m", module, str(graph_of(site))))


SERVERS: dict[str, Callable[[Site], Server | Script]] = {
    "floor": floor,
    "usual recipe": usual_recipe,
    "foretell": foretell,
    "lower bound": script("lower bound", "benchmarks.lower_bound"),
    "foretell over REST": over(HTTP, "foretell over REST"),
    "foretell over gRPC": over(GRPC, "foretell over gRPC"),
    "grpcio": grpcio("threads", "grpcio"),
    "grpcio.aio": grpcio("asyncio", "grpcio.aio"),
    "echo": echo,
    "echo over REST": over(HTTP, "echo over REST", echo),
    "echo over gRPC": over(GRPC, "echo over gRPC", echo),
    "model alone": script("model alone", "benchmarks.model_alone"),
}
