"""A builder is what makes an image of its context: docker, podman or buildah."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from foretell.errors import BadSettings, StartFailed

Answer = tuple[int, str]
Asks = Callable[[Sequence[str]], Answer | None]
_ASK_S = 30.0
_TOLD_LINES = 20


@dataclass(frozen=True, slots=True)
class Builder:
    """One that answers: its command, and what makes it build."""

    name: str
    verb: tuple[str, ...]
    check: tuple[str, ...]

    def command(self, folder: Path, tag: str, more: Sequence[str] = ()) -> list[str]:
        """The command that builds `folder` as `tag`."""
        return [self.name, *self.verb, "--tag", tag, *more, str(folder)]


# Without --format docker, podman and buildah leave HEALTHCHECK out.
BUILDERS = (
    Builder("docker", ("build",), ("version", "--format", "{{.Server.Version}}")),
    Builder("podman", ("build", "--format", "docker"), ("info", "--format", "{{.Host.Arch}}")),
    Builder("buildah", ("build", "--format", "docker"), ("info",)),
)


def asked(command: Sequence[str]) -> Answer | None:
    """The exit code and the last line of what a command says; None when it is not installed."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - one of the commands above
            command, capture_output=True, text=True, errors="replace", timeout=_ASK_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, f"no answer in {_ASK_S:.0f} s"
    except OSError as error:
        return 1, str(error)
    lines = (done.stderr or done.stdout).strip().splitlines()
    return done.returncode, lines[-1] if lines else f"exit code {done.returncode}"


def find(ask: Asks = asked) -> Builder:
    """The first builder that works here. Raises StartFailed, which says what is in its way."""
    silent = []
    for builder in BUILDERS:
        answer = ask([builder.name, *builder.check])
        if answer is not None and answer[0] == 0:
            return builder
        if answer is not None:
            silent.append(f"{builder.name} is installed, but does not answer ({answer[1]})")
    if silent:
        raise StartFailed("; ".join(silent))
    names = ", ".join(builder.name for builder in BUILDERS)
    raise StartFailed(f"nothing here builds images: install one of {names}, or leave out --build")


def build(builder: Builder, folder: Path, tag: str, *, more: Sequence[str], quiet: bool) -> None:
    """Build the image; the builder's own output goes to stderr. Raises StartFailed, BadSettings."""
    if not tag or tag.startswith("-"):
        raise BadSettings(f"{tag!r} is no name of an image; take NAME:TAG, as in churn:1.0.0")
    command = builder.command(folder, tag, more)
    try:
        done = subprocess.run(  # noqa: S603 - the builder that was found
            command,
            stdout=subprocess.PIPE if quiet else sys.stderr,
            stderr=subprocess.STDOUT if quiet else None,
            check=False,
        )
    except OSError as error:
        raise StartFailed(f"{builder.name} cannot be run: {error}") from error
    if done.returncode != 0:
        lines = (done.stdout or b"").decode(errors="replace").splitlines()[-_TOLD_LINES:]
        told = "".join(f"\n{line}" for line in lines)
        raise StartFailed(f"{builder.name} ended with {done.returncode}, no image was made{told}")
