"""An environment is a peer's own virtual environment, made from its pinned requirements.

It lives in .bench/venvs/NAME of the checkout and is made again when the requirements change.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness import BenchFailed
from benchmarks.servers import ROOT

VENVS = ROOT / ".bench" / "venvs"
REQUIREMENTS = Path(__file__).with_name("requirements")
MODEL_LIBRARIES = ("joblib", "numpy", "onnxruntime", "scikit-learn")
_STAMP = "installed-requirements.txt"
_VERSIONS = """\
import importlib.metadata, json, platform, sys
found = {name: importlib.metadata.version(name) for name in sys.argv[1:]}
print(json.dumps({"python": platform.python_version(), **found}))
"""


def prepare(name: str, python: str | None, tell: Callable[[str], None]) -> Path:
    """The folder of `name`'s programs, installed when needed. Raises BenchFailed.

    `python` is the interpreter that the peer insists on; None means this one.
    """
    interpreter = shutil.which(python or sys.executable)
    if interpreter is None:
        raise BenchFailed(f"it needs {python}, which is not here")
    venv, wanted = VENVS / name, requirements(name)
    stamp = venv / _STAMP
    if not stamp.exists() or stamp.read_text() != wanted:
        tell(f"installing {name} into {venv.relative_to(ROOT)}")
        shutil.rmtree(venv, ignore_errors=True)
        _run(interpreter, "-m", "venv", str(venv))
        pip = (str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet")
        _run(*pip, "--disable-pip-version-check", "-r", str(REQUIREMENTS / f"{name}.txt"))
        stamp.write_text(wanted)
    return venv / "bin"


def requirements(name: str) -> str:
    """The requirements of `name`, with those that they include."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    return "".join(
        requirements(line.removeprefix("-r ").removesuffix(".txt"))
        if line.startswith("-r ")
        else f"{line}\n"
        for line in lines
    )


def versions(programs: Path, packages: Sequence[str]) -> dict[str, str]:
    """The versions of Python, of `packages` and of the model's libraries in an environment."""
    told = _run(str(programs / "python"), "-c", _VERSIONS, *packages, *MODEL_LIBRARIES)
    found: dict[str, str] = json.loads(told)
    return found


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise BenchFailed(f"{Path(argv[0]).name} {argv[2]} failed: {' '.join(last)}")
    return done.stdout
