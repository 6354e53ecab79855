"""The contestants of a run: Foretell with both kinds of model, and every peer that can be had."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import joblib
import pandas as pd
from examples.train_churn_synthetic import CUSTOMER, train

from benchmarks.harness import BenchFailed, Server
from benchmarks.peers import environments
from benchmarks.peers.measuring import Contestant
from benchmarks.peers.report import Served
from benchmarks.peers.table import (
    CUSTOMER_BODY,
    KINDS,
    ONE_THREAD,
    ONNX,
    SKLEARN,
    Peer,
    plain_answer,
    server_name,
)
from benchmarks.peers.verdicts import FORETELL
from benchmarks.servers import FORETELL as FORETELL_PROGRAM
from benchmarks.servers import Site, foretell, free_port

_PACKAGES = ("foretell", "h2corn", "uvloop", "msgspec")


def prepare_site(folder: Path) -> Site:
    """The model's files, and the right answer from scikit-learn itself."""
    model_folder = folder / "model"
    train(model_folder)
    scaler, model = (joblib.load(model_folder / name) for name in ("scaler.pkl", "model.pkl"))
    scaled = scaler.transform(pd.DataFrame([CUSTOMER]))
    answer = {
        "prediction": int(model.predict(scaled)[0]),
        "probability": model.predict_proba(scaled)[0].tolist(),
        "model_version": "1.0.0",
    }
    return Site(folder, model_folder, answer)


def of_foretell(site: Site) -> tuple[Served, list[Contestant]]:
    """Foretell with the compiled package, and with the same package not compiled."""
    versions = environments.versions(Path(sys.executable).parent, _PACKAGES)
    how = f"JSON; `foretell serve`, nothing set; {SKLEARN}: a package made with `--no-compile`"
    found = []
    for kind, server in {ONNX: foretell(site), SKLEARN: _original(site)}.items():
        env = {**ONE_THREAD, **server.env}
        named = replace(server, name=server_name(FORETELL, kind), env=env)
        found.append(Contestant(named, "/predict", CUSTOMER_BODY, plain_answer))
    return Served(FORETELL, versions, _PACKAGES, how), found


def _original(site: Site) -> Server:
    repository, port = site.own("foretell-original") / "models", free_port()
    files = [str(site.model_folder / name) for name in ("scaler.pkl", "model.pkl")]
    told = ["--name", "churn", "--sample", str(site.model_folder / "sample.csv"), "--quiet"]
    argv = [FORETELL_PROGRAM, "pack", *files, *told, "--no-compile", "-o", str(repository)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"foretell pack failed: {done.stderr.strip()}")
    serve = (FORETELL_PROGRAM, "serve", str(repository), "--bind", f"127.0.0.1:{port}")
    return Server("foretell", serve, f"http://127.0.0.1:{port}/health/ready")


def of_peer(peer: Peer, site: Site, tell: Callable[[str], None]) -> tuple[Served, list[Contestant]]:
    """The peer with both kinds of model; none, with the reason, when it cannot be had."""
    try:
        programs = environments.prepare(peer.environment, peer.python, tell)
        versions = environments.versions(programs, peer.packages)
    except BenchFailed as error:
        return Served(peer.name, {}, peer.packages, peer.how, str(error)), []
    (compiled,) = site.own("foretell").rglob("model.onnx")
    models = {ONNX: compiled, SKLEARN: site.model_folder}
    found = []
    for kind in KINDS:
        folder = site.own(f"{peer.environment}-{'onnx' if kind == ONNX else 'sklearn'}")
        server = peer.server(kind, programs, folder, models[kind])
        found.append(Contestant(server, peer.path, peer.body, peer.read))
    return Served(peer.name, versions, peer.packages, peer.how), found
