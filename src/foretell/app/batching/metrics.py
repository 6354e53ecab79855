"""Metrics of a job for schedulers: Prometheus' text, in a file or pushed to a gateway.

They are those of one run, written when it ends, however it does.
"""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

from foretell.errors import BadSettings, StartFailed
from foretell.transports.batch.report import Progress

_METRICS = {
    "success": "Whether the last run ended well.",
    "completed_timestamp_seconds": "When the last run ended.",
    "duration_seconds": "How long the last run took.",
    "rows": "Rows that the last run went through.",
    "bad_rows": "Rows that the last run left out.",
    "parts": "Parts that the last run finished.",
    "rows_per_second": "Rows that the last run went through a second.",
}
_PUSH_S = 10.0


def text_of(labels: dict[str, str], progress: Progress | None, *, success: bool) -> str:
    """All metrics in Prometheus' text format; without `progress` the run did not begin."""
    values: dict[str, float] = {"success": success, "completed_timestamp_seconds": time.time()}
    if progress is not None:
        values |= {
            "duration_seconds": progress.seconds,
            "rows": progress.rows,
            "bad_rows": progress.bad,
            "parts": progress.parts,
            "rows_per_second": progress.rows_per_s,
        }
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    lines = []
    for name, value in values.items():
        full = f"foretell_batch_{name}"
        lines += [f"# HELP {full} {_METRICS[name]}", f"# TYPE {full} gauge"]
        lines.append(f"{full}{{{told}}} {float(value)!r}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def check(path: Path | None, url: str | None) -> None:
    """Raise BadSettings when metrics could go neither to the file nor to the gateway.

    It is asked before a job: what ends an hour later is no time to learn of a misspelt folder.
    """
    if path is not None and not path.parent.is_dir():
        raise BadSettings(f"metrics_file is {path}, but there is no folder {path.parent}")
    if url is not None and not url.startswith(("http://", "https://")):
        raise BadSettings(f"pushgateway is {url!r}, but must be a URL, as in http://gateway:9091")


def write(path: Path, text: str) -> None:
    """Put `text` in the file at once: who reads it sees the old metrics or the new ones."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # node_exporter reads *.prom only
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StartFailed(f"the metrics cannot be written to {path}: {error.strerror}") from error


def push(url: str, model: str, text: str) -> None:
    """Replace what the gateway has of this model's jobs. Raises StartFailed."""
    place = f"{url.rstrip('/')}/metrics/job/foretell_batch/model/{quote(model, safe='')}"
    headers = {"Content-Type": "text/plain; version=0.0.4"}
    request = urllib.request.Request(place, text.encode(), headers, method="PUT")  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=_PUSH_S):  # noqa: S310 - checked above
            pass
    except (urllib.error.URLError, TimeoutError) as error:
        raise StartFailed(f"the metrics cannot be pushed to {url}: {error}") from error
