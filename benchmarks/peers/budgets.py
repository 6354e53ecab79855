"""The budgets against the peers: ratios of two medians, on the same ONNX file."""

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.budgets import Budget, Verdict, at_least, at_most, judge
from benchmarks.harness import Measurement
from benchmarks.peers.measuring import Failure
from benchmarks.peers.table import FORETELL, ONNX, load_name, server_name

BUDGETS = (
    *(
        Budget(
            f"the same ONNX file, 32 connections: {peer}'s CPU per request over Foretell's",
            load_name(32),
            server_name(peer, ONNX),
            (server_name(FORETELL, ONNX),),
            "cpu_us",
            at_least(times),
        )
        for peer, times in {
            "mosec": 1.5,
            **dict.fromkeys(("LitServe", "BentoML", "MLServer", "Ray Serve", "Triton"), 10),
        }.items()
    ),
    Budget(
        "the same ONNX file, 1 connection: Foretell's p50 over bare FastAPI + ONNX Runtime's",
        load_name(1),
        server_name(FORETELL, ONNX),
        (server_name("bare FastAPI", ONNX),),
        "p50_ms",
        at_most(1.2),
    ),
)


def judge_peers(
    medians: Sequence[Measurement], absent: Mapping[str, str], failures: Iterable[Failure]
) -> list[Verdict]:
    """A verdict for every budget; `absent` says by peer why it could not be had."""
    reasons = {one.server: one.says for one in failures}
    reasons |= {server_name(name, ONNX): why for name, why in absent.items() if why}
    return judge(BUDGETS, medians, reasons)
