"""Podman with a storage of its own, and a base image in it that trusts what this machine trusts."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BASE = ROOT / ".containers" / "base.tar"
BASE_IMAGE = "localhost/python:test"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

# crun refuses mixed cgroup hierarchies, and machines without CAP_SYS_RESOURCE the usual limits.
# Both numbers of a limit are the same: `podman play kube` swaps them (4.3).
_CONTAINERS = """
[containers]
default_ulimits = ["nofile=8192:8192", "nproc=8192:8192"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""


def wheel_of_checkout(folder: Path) -> Path:
    """The wheel of this checkout, made in `folder`."""
    words = ["pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", *words], check=True, timeout=300)
    return next(folder.glob("foretell-*.whl"))


class Podman:
    """One storage of images and containers, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "containers.conf").write_text(_CONTAINERS)
        (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
        # A Docker without a daemon: what looks for a builder must find this Podman.
        (folder / "bin").mkdir()
        (folder / "bin" / "docker").write_text("#!/bin/sh\necho no daemon >&2\nexit 1\n")
        (folder / "bin" / "docker").chmod(0o755)
        self.full_environ = {
            **os.environ,
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def __call__(self, *words: str | Path, code: int = 0) -> str:
        """What `podman …` or `buildah …` prints; it must end with `code`."""
        command = [str(word) for word in words]
        if command[0] != "buildah":
            command = ["podman", *command]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env=self.full_environ,
            timeout=300,
        )
        assert done.returncode == code, f"{command}:\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def make_base(self) -> None:
        """The base image: Python where Debian has it, pip trusting this machine's authorities."""
        assert BASE.exists(), "the base image is not there: make containers"
        made = self("buildah", "from", "scratch")
        at = Path(self("buildah", "mount", made))
        untar = ["tar", "-C", str(at), "-xf", str(BASE), "--exclude=./dev/*"]
        subprocess.run(untar, check=True, timeout=120)
        if AUTHORITIES.exists():
            inside = at / AUTHORITIES.relative_to("/")
            inside.write_bytes(AUTHORITIES.read_bytes())
            (at / "etc/pip.conf").write_text(f"[global]\ncert = {AUTHORITIES}\n")
        path = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        self("buildah", "config", "--env", path, "--cmd", "python3", made)
        self("buildah", "umount", made)
        self("buildah", "commit", "--quiet", "--rm", made, BASE_IMAGE)

    def build(self, target: Path, wheel: Path, tag: str, context: Path) -> dict[str, Any]:
        """What `foretell image TARGET --build --json` says of the image it has built."""
        words = ["image", target, "--build", "--json", "-t", tag, "-o", context]
        words += ["--wheel", wheel, "--base-image", BASE_IMAGE]
        words += ["--", "--network", "host", "--layers=false"]
        done = subprocess.run(
            [sys.executable, "-m", "foretell", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            env=self.full_environ,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def size(self, image: str) -> int:
        """Bytes of an image, its base included."""
        return int(self("image", "inspect", "--format", "{{.Size}}", image))

    def logs(self, container: str) -> str:
        """What it wrote to stdout and stderr."""
        done = subprocess.run(
            ["podman", "logs", container],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            env=self.full_environ,
            timeout=60,
        )
        return done.stdout

    def until_it_listens(self, container: str) -> None:
        """Until the server in it has written where it listens; fails after a minute without."""
        following = subprocess.Popen(
            ["podman", "logs", "--follow", container],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.full_environ,
        )
        assert following.stdout is not None
        late = threading.Timer(60, following.kill)
        late.start()
        try:  # the log ends with the container
            assert any('"url":"http' in line for line in following.stdout), self.logs(container)
        finally:
            late.cancel()
            following.kill()
            following.wait(30)
            following.stdout.close()

    @contextmanager
    def running(self, image: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[str]:
        """The name of a container of `image`, removed at the end."""
        name = self("run", "--detach", *options, image, *command)
        try:
            yield name
        finally:
            self("rm", "--force", "--time", "0", name)

    def port(self, container: str, inside: int) -> int:
        """Where a published port is on this machine."""
        told = self("port", container, f"{inside}/tcp")
        found = re.search(r":(\d+)$", told.splitlines()[0])
        assert found, told
        return int(found.group(1))

    def remove(self) -> None:
        """Take all of it off the disk."""
        self("rm", "--force", "--all", "--time", "0")
        self("rmi", "--force", "--all")
