"""Columnar is every request that is not JSON both ways: tables, and NDJSON, in and out.

Rules:

1. A table is many rows, on `/predict`, too: there, one row is answered as one, several as
   `/batch_predict` does.
2. `X-Model-Version` names the version, for the forms that have no place for it.
3. Tables are read and written in a thread: meanwhile, others are answered.
4. NDJSON that is answered in NDJSON is a stream (`lines`).
"""

import asyncio
import time
from typing import Any, NamedTuple, Protocol

from starlette.types import Receive, Scope, Send

from foretell.codecs.json_rows import JsonRows
from foretell.codecs.tables import arrow_tables, csv_tables, ndjson
from foretell.codecs.tables.arrow_tables import TableLimits
from foretell.core.batch import Batch
from foretell.core.call import Answer, Target
from foretell.core.field import Scalar
from foretell.core.signature import Signature
from foretell.engine.dataplane import DataPlane
from foretell.errors import InvalidInput
from foretell.transports.asgi.bodies import Bodies
from foretell.transports.asgi.caching import cache_headers, call_of
from foretell.transports.asgi.exchange import Told, unless_gone
from foretell.transports.rest.exchange import Reply, deadline_of, replied, whole
from foretell.transports.rest.tables.forms import Form, Forms
from foretell.transports.rest.tables.lines import Stream, answer_lines

_HAVE_NAMES = (Form.JSON, Form.NDJSON)
"""Forms whose answers have a place for the model's name and class labels."""


class Endpoint(Protocol):
    """What this needs to know of a path."""

    @property
    def target(self) -> Target: ...
    @property
    def codec(self) -> JsonRows: ...
    @property
    def many(self) -> bool: ...
    @property
    def asked(self) -> tuple[str, str]: ...
    def decode(self, body: bytes, max_rows: int) -> Batch:
        """The rows of a JSON body."""
        ...


class Asked(NamedTuple):
    """Which path was asked, in what forms, and whether for names, too."""

    endpoint: Endpoint
    forms: Forms
    verbose: bool


class Columnar:
    """Answers for every endpoint of the data plane."""

    def __init__(
        self, dataplane: DataPlane, bodies: Bodies, *, max_rows: int, max_body_bytes: int
    ) -> None:
        self._dataplane = dataplane
        self._bodies = bodies
        self._limits = TableLimits(max_rows, max_body_bytes)

    async def answer(self, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises what is wrong with it before anything is sent."""
        endpoint, forms, verbose = asked
        if verbose and forms.wanted not in _HAVE_NAMES:
            raise InvalidInput(
                "verbose is for answers in JSON and NDJSON; leave it out", field="verbose"
            )
        if forms.sent is forms.wanted is Form.NDJSON:
            stream = Stream(
                self._dataplane,
                endpoint.target,
                endpoint.codec,
                self._limits.max_bytes,
                verbose,
                endpoint.asked,
            )
            with self._bodies.holding() as held:
                await answer_lines(stream, forms.content_type, scope, receive, send, held)
            return

        async def work(told: Told, request_id: str) -> Reply:
            deadline = deadline_of(told, time.monotonic())
            body = await whole(told, receive, self._limits.max_bytes, held)
            batch = await asyncio.to_thread(self._read, endpoint, forms.sent, body)
            call = call_of(told, request_id, deadline)
            inferring = self._dataplane.infer(endpoint.target, batch, call)
            answer = await unless_gone(receive, inferring)
            written = await asyncio.to_thread(_written, endpoint, forms.wanted, answer, verbose)
            version = (b"x-model-version", answer.version.encode())
            return Reply(written, forms.content_type, (version, *cache_headers(answer)))

        with self._bodies.holding() as held:
            await replied(scope, send, work, endpoint.asked)

    def _read(self, endpoint: Endpoint, form: Form, body: bytes) -> Batch:
        signature, max_rows = endpoint.codec.signature, self._limits.max_rows
        if not body.strip() and form is not Form.JSON:
            raise InvalidInput(f"the body is empty; send {form.value[0].decode()}")
        if form is Form.ARROW:
            return arrow_tables.read_stream(signature, body, self._limits)
        if form is Form.PARQUET:
            return arrow_tables.read_parquet(signature, body, self._limits)
        if form is Form.CSV:
            return csv_tables.read_csv(signature, body, max_rows=max_rows)
        if form is Form.NDJSON:
            return ndjson.read_lines(endpoint.codec, body, max_rows=max_rows)
        return endpoint.decode(body, max_rows)


def _written(endpoint: Endpoint, form: Form, answer: Answer, verbose: bool) -> bytes:
    outputs, model = answer.outputs, answer.model if verbose else None
    if form is Form.ARROW:
        return arrow_tables.write_stream(outputs)
    if form is Form.PARQUET:
        return arrow_tables.write_parquet(outputs)
    if form is Form.CSV:
        return csv_tables.write_csv(outputs, _labels(endpoint.codec.signature))
    if form is Form.NDJSON:
        return ndjson.write_lines(endpoint.codec, outputs, answer.version, model=model)
    one = outputs.n_rows == 1 and not endpoint.many
    encode = endpoint.codec.encode_row if one else endpoint.codec.encode_rows
    return encode(outputs, answer.version, model=model)


def _labels(signature: Signature) -> dict[str, tuple[Scalar, ...]]:
    """The class labels of each field of probabilities; one a target when there are several."""
    named = [f.name for f in signature.outputs if f.name.split("_")[0] == "probability"]
    labels: Any = signature.class_labels or ()
    if not any(isinstance(label, tuple | list) for label in labels):
        labels = (labels,)
    return dict(zip(named, labels, strict=True)) if len(named) == len(labels) else {}
