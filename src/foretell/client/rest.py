"""REST as the clients speak it: requests out, replies and failures in; no I/O."""

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from foretell.client.asking import Description
from foretell.client.calling import Kind, Outcome, Reply, Request
from foretell.client.failures import rebuilt
from foretell.client.predictions import Predictions
from foretell.codecs.asking import tensor_bodies
from foretell.codecs.asking.json_bodies import JsonAsking, columns_of, version_in
from foretell.core.batch import Batch
from foretell.core.signature import Signature
from foretell.errors import ForetellError, NoAnswer

_HEADER_LENGTH = "inference-header-content-length"
_JSON = {"content-type": "application/json", "accept": "application/json"}
_KINDS = {429: Kind.SHED, 502: Kind.SPOILT, 503: Kind.UNREADY}
_MOST_SHOWN = 200
_MOST_BLANKS = 64
TENSOR_ROWS = 32
"""From so many rows on, raw tensors cost both sides less than JSON, whatever the columns."""


class RestLanguage:
    """The inference routes of a server: `/predict` for one row, `/batch_predict` for a few.

    Many go as raw tensors to `/infer`, unless raw tensors cannot hold the answer.
    """

    per_version = False

    def describe(self, model: str, version: str | None) -> Request:
        """`GET /models/{name}` tells of all versions."""
        return Request(f"/models/{quote(model, safe='')}", method="GET", headers=_JSON)

    def description(self, reply: Reply, model: str, version: str | None) -> Description:
        told = json.loads(reply.body)
        signatures = {
            str(one["version"]): Signature.from_description(one["signature"])
            for one in told["versions"]
        }
        routed = str(told["version"])
        if routed not in signatures:
            raise ValueError(f"version {routed} has no signature")
        return Description(model, routed, signatures)

    def ask(self, signature: Signature, batch: Batch, model: str, version: str | None) -> Request:
        path = f"/models/{quote(model, safe='')}"
        if version is not None:
            path += f"/versions/{quote(version, safe='')}"
        if len(batch) >= TENSOR_ROWS and tensor_bodies.suits(signature):
            body, length = tensor_bodies.write(batch)
            told = {"content-type": "application/octet-stream", _HEADER_LENGTH: str(length)}
            return Request(f"/v2{path}/infer", body, headers=told)
        codec = JsonAsking(signature)
        if len(batch) == 1:
            return Request(f"{path}/predict", codec.write_row(batch), headers=_JSON)
        return Request(f"{path}/batch_predict", codec.write_rows(batch), headers=_JSON)

    def answer(self, reply: Reply, asked: Request, described: Description) -> Predictions | None:
        if asked.path.endswith("/infer"):
            length = reply.headers.get(_HEADER_LENGTH)
            version, outputs = tensor_bodies.read(
                reply.body, None if length is None else int(length)
            )
            return Predictions(described.model, version, outputs)
        signature = described.signatures.get(version_in(reply.body))
        if signature is None:
            return None
        codec = JsonAsking(signature)
        many = asked.path.endswith("/batch_predict")
        batch, version = (codec.read_rows if many else codec.read_row)(reply.body)
        return Predictions(described.model, version, columns_of(batch))


def outcome_of(status: int, headers: Mapping[str, str], body: bytes, url: str) -> Outcome:
    """What a reply means: a result, or which error."""
    if status == HTTPStatus.OK and body[:_MOST_BLANKS].lstrip().startswith(b"{"):
        return Outcome(Kind.ANSWERED, Reply(body, headers))
    told = _told(body)
    if told is not None:
        error = rebuilt(
            str(told["code"]),
            str(told["error"]),
            field=told.get("field"),
            row=told.get("row"),
            retry_after_s=_rest_s(headers),
        )
        if told.get("request_id"):
            error.add_note(f"request {told['request_id']} to {url}")
        return Outcome(_KINDS.get(status, Kind.ANSWERED), error=error)
    return Outcome(_KINDS.get(status, Kind.SPOILT), error=_foreign(status, headers, body, url))


def _told(body: bytes) -> dict[str, Any] | None:
    """The failure in a body of ours."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    ours = isinstance(told, dict) and {"error", "code"} <= set(told)
    return told if ours else None


def _foreign(status: int, headers: Mapping[str, str], body: bytes, url: str) -> ForetellError:
    """The error for a reply that no Foretell server wrote: a proxy did, or another server."""
    rest_s = _rest_s(headers)
    words = f"{url} answered {status} {_phrase(status)}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return rebuilt("overloaded", words, retry_after_s=rest_s)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return rebuilt("not_ready", words, retry_after_s=rest_s)
    code = {401: "unauthenticated", 403: "forbidden", 413: "too_large"}.get(status)
    if code is not None:
        return rebuilt(code, words)
    if "location" in headers:
        return NoAnswer(f"{words}; name the address it leads to: {headers['location']}")
    shown = body[:_MOST_SHOWN].decode("utf-8", "replace").strip()
    return NoAnswer(f"{words}, which is no answer of a Foretell server: {shown}")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _rest_s(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds: a number, or a date after the reply's own."""
    told = headers.get("retry-after")
    if told is None:
        return None
    if told.isascii() and told.isdigit() and len(told) < 10:
        return float(told)
    try:
        later = parsedate_to_datetime(told) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return max(0.0, later.total_seconds())
