"""A form is what a body is written in: JSON, Arrow, Parquet, CSV or NDJSON, by its media types.

Rules:

1. The Content-Type says what is read. What common clients send along with JSON is JSON.
2. The Accept says what is written. Without one, or where it leaves the choice, a request is
   answered in its own form.
3. Of what Accept names, the greatest q wins, then what is named rather than a wildcard, then
   what stands first. Empty elements don't count (RFC 9110, "Lists").
"""

from enum import Enum
from typing import NamedTuple

from foretell.transports.asgi.exchange import Told
from foretell.transports.rest.errors import HttpRefusal
from foretell.transports.rest.exchange import is_read_as_json, media_type


class Form(Enum):
    """The media types of a form; what it is written as stands first."""

    JSON = (b"application/json",)
    ARROW = (b"application/vnd.apache.arrow.stream",)
    PARQUET = (b"application/vnd.apache.parquet",)
    CSV = (b"text/csv",)
    NDJSON = (b"application/x-ndjson", b"application/jsonl", b"application/ndjson")


JSON_WILL_DO = frozenset(
    {b"*/*", b"application/json", b"application/json, text/plain, */*", b"application/json, */*"}
)
"""What nearly all clients send as Accept."""

_FORMS: dict[bytes, Form] = {kind: form for form in Form for kind in form.value}
_LISTED = ", ".join(kind.decode() for kind in _FORMS)


class Forms(NamedTuple):
    """What a request is read as, what its answer is written as, and the answer's media type."""

    sent: Form
    wanted: Form
    content_type: bytes

    @property
    def are_json(self) -> bool:
        return self.sent is Form.JSON and self.wanted is Form.JSON


def negotiated(told: Told) -> Forms:
    """The forms of a request with these headers. Raises HttpRefusal (415, 406)."""
    kind = media_type(told.get(b"content-type", b""))
    sent = _FORMS.get(kind)
    if sent is None:
        if not is_read_as_json(kind):
            raise HttpRefusal(
                415,
                f"the Content-Type is {kind.decode('latin-1')}, but this route reads {_LISTED}",
            )
        sent, kind = Form.JSON, Form.JSON.value[0]
    accept = told.get(b"accept", b"").strip(b" \t,") or b"*/*"
    content_type = kind if accept == b"*/*" else _chosen(accept, kind)
    return Forms(sent, _FORMS[content_type], content_type)


def _chosen(accept: bytes, own: bytes) -> bytes:
    """The media type to answer in; `own` is that of the request."""
    named = filter(bytes.strip, accept.lower().split(b","))
    ranges = sorted(map(_range, named), key=lambda told: told[:2])
    refused = {name for rank, _, name in ranges if rank == 0}
    for rank, _, name in ranges:
        if rank < 0:
            candidates = (name,) if name in _FORMS else (own, *_FORMS)
            for kind in candidates:
                if kind not in refused and _is_within(kind, name):
                    return kind
    raise HttpRefusal(406, f"nothing the Accept names is written here; this route writes {_LISTED}")


def _range(told: bytes) -> tuple[float, int, bytes]:
    """-q, how wide it is, and the media range itself. A q that is none counts as 1."""
    name, *parameters = (part.strip() for part in told.split(b";"))
    q = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition(b"=")
        if key.strip() == b"q":
            try:
                q = float(value)
            except ValueError:
                continue
    q = min(max(q, 0.0), 1.0) if q == q else 1.0  # noqa: PLR0124 - NaN
    return -q, name.count(b"*"), name


def _is_within(kind: bytes, name: bytes) -> bool:
    return name in (kind, b"*/*") or (
        name.endswith(b"/*") and kind.startswith(name.removesuffix(b"*"))
    )
