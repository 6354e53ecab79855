"""The contestants of a run: Foretell with both kinds of model, and every peer that can be had."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.harness import BenchFailed, Server
from benchmarks.peers import environments
from benchmarks.peers.measuring import Contestant
from benchmarks.peers.report import Served
from benchmarks.peers.table import (
    CUSTOMER_BODY,
    FORETELL,
    KINDS,
    ONE_THREAD,
    ONNX,
    SKLEARN,
    Peer,
    plain_answer,
    server_name,
)
from benchmarks.servers import Site, foretell, pack_churn, serve

_PACKAGES = ("foretell", "h2corn", "uvloop", "msgspec")


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
    folder = site.own("foretell-original") / "models"
    pack_churn(site, folder, "--no-compile")
    return serve(folder)


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
