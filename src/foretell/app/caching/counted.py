"""What a running server has counted of a model's cache, as its metrics tell."""

from __future__ import annotations

import urllib.error
import urllib.request
from urllib.parse import urlsplit

from foretell.errors import BadSettings, NoAnswer, NotFound

_TIMEOUT_S = 10
_PREFIX = "foretell_cache_"


def counted(server: str, model: str) -> dict[str, float]:
    """The numbers of all versions of `model`, by name and labels.

    Raises BadSettings, NoAnswer, and NotFound when it has no cache there.
    """
    from prometheus_client.parser import text_string_to_metric_families

    if urlsplit(server).scheme not in ("http", "https"):
        raise BadSettings(f"{server!r} is no address of a server, as in http://127.0.0.1:8000")
    place = f"{server.rstrip('/')}/metrics"
    try:
        with urllib.request.urlopen(place, timeout=_TIMEOUT_S) as reply:  # noqa: S310 - http alone
            text = reply.read().decode()
    except (OSError, ValueError) as error:
        said = error.reason if isinstance(error, urllib.error.URLError) else error
        raise NoAnswer(f"{place} does not answer: {said}") from error
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name.startswith(_PREFIX) else ():
            if sample.labels.get("model") == model:
                told = [value for label, value in sample.labels.items() if label != "model"]
                found[" ".join([sample.name, *told])] = sample.value
    if not found:
        raise NotFound(f"the server at {server} has no cache of a model {model!r}")
    return found
