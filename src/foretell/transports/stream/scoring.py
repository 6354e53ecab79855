"""Scoring turns messages into records, without I/O: a result or a dead letter for each.

Rules:

1. Messages that are scored together are one batch of the model. One that the model fails on is
   found in halves and fails alone (`executors.attempt`), as at the doors of the server.
2. Fields of a message that are no inputs of the model are left alone; everything else is judged
   by the signature, in the same words as online.
3. A result has the bytes that the REST door answers with, behind its `id`.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from foretell.codecs.json_rows import JsonRows
from foretell.core.batch import Batch
from foretell.core.manifest import Manifest
from foretell.engine.executors import Outcome, ProcessDied
from foretell.engine.executors.inline import InlineExecutor
from foretell.engine.fleet import Loaded
from foretell.errors import BadSettings, ForetellError, InvalidInput, ModelFailed
from foretell.transports.stream.condition import Condition
from foretell.transports.stream.formats import Formats, Row
from foretell.transports.stream.message import Message, Record, Told
from foretell.transports.stream.windows.past import Past

_TAKEN = {"id", "prediction", "probability", "outputs", "model_version"}


POISON = "poison"
"""The code of a dead letter that ended each process it was scored in."""

CARRIED = frozenset(("traceparent", "tracestate", "x-request-id"))
"""Headers of a message that its result has, too."""


class Choices(NamedTuple):
    """What of a message and its answer is published."""

    merged: bool = False
    key: str | None = None
    when: str | None = None
    form: str = "json"


class Scored(NamedTuple):
    """What became of messages, in their order; `left_out` are those that `when` did not want."""

    results: list[Record]
    dead: list[Record]
    left_out: int


class Read(NamedTuple):
    """Messages with what they tell or what is wrong with them; and a batch of each that is well."""

    taken: list[tuple[Message, Told | ForetellError]]
    batches: list[Batch]

    @property
    def well(self) -> list[Message]:
        """The messages that `batches` are of."""
        return [message for message, told in self.taken if not isinstance(told, ForetellError)]


class Scorer:
    """Scores the messages of one stream with one loaded version. Raises BadSettings."""

    def __init__(self, loaded: Loaded, choices: Choices) -> None:
        self._signature = loaded.signature
        self._model, self._version = loaded.name, loaded.version
        self._executor = InlineExecutor(loaded.predict)
        self._codec = JsonRows(loaded.signature)
        self._digest = _digest_of(loaded.manifest)
        self._formats = Formats(loaded.signature, choices.form)
        self._headers = (
            ("foretell-model", loaded.name.encode()),
            ("foretell-model-version", loaded.version.encode()),
        )
        self._choices = choices
        self._condition = None
        if choices.when is not None:
            self._condition = Condition(choices.when, loaded.signature)
        if choices.key in _TAKEN and not choices.merged:
            raise BadSettings(f"--key {choices.key}: results have a field of that name already")

    def id_of(self, position: str) -> str:
        """The id of what becomes of the message at `position`: of this model, always the same."""
        return hashlib.sha256(f"{self._digest} {position}".encode()).hexdigest()[:32]

    def score(self, messages: Sequence[Message]) -> Scored:
        """A record for each of `messages`, but those that nobody wants; all are scored here."""
        read = self.read(self.decoded(messages))
        return self.records(read, [(one, 1) for one in self.outcomes(read.batches)])

    def decoded(self, messages: Sequence[Message]) -> list[Row]:
        """The rows of `messages`, in their order."""
        return [row for message in messages for row in self._formats.rows(message)]

    def read(self, rows: Sequence[Row], past: Past | None = None) -> Read:
        """What of `rows` can be scored, and what is wrong with the others.

        `past`, which has recalled these, fills in what they lack.
        """
        taken: list[tuple[Message, Told | ForetellError]] = []
        batches: list[Batch] = []
        for message, told in rows:
            if isinstance(told, ForetellError):
                taken.append((message, told))
                continue
            try:
                whole, row = self._accepted(message, told, past)
            except InvalidInput as error:
                taken.append((message, error))
            else:
                taken.append((message, whole))
                batches.append(Batch(self._signature.inputs, 1, (row,)))
        return Read(taken, batches)

    def _accepted(
        self, message: Message, told: Told, past: Past | None
    ) -> tuple[Told, tuple[Any, ...]]:
        if past is None:
            return told, self._codec.accept_told(told)
        told, key, event = past.filled(message, told)
        row = self._codec.accept_told(told)
        past.happened(key, event)
        return told, row

    def outcomes(self, batches: Sequence[Batch]) -> list[Outcome]:
        """One for each of `batches`, scored together, in this process."""
        return self._executor.run(batches) if batches else []

    def records(self, read: Read, outcomes: Sequence[tuple[Outcome, int]]) -> Scored:
        """Records for what was read; `outcomes` are those of its batches, with their attempts."""
        results: list[Record] = []
        dead: list[Record] = []
        left_out, following = 0, iter(outcomes)
        for message, told in read.taken:
            if isinstance(told, ForetellError):
                dead.append(self._dead(message, told, message.deliveries))
                continue
            outcome, attempts = next(following)
            if isinstance(outcome, Exception):
                code = POISON if isinstance(outcome, ProcessDied) else ""
                dead.append(self._dead(message, _failure(outcome), attempts, code))
            elif self._condition is None or self._condition.holds(outcome.rows[0]):
                results.append(self._result(message, told, outcome))
            else:
                left_out += 1
        return Scored(results, dead, left_out)

    def _result(self, message: Message, told: Told, outputs: Batch) -> Record:
        own = self.id_of(message.position)
        answer = self._codec.encode_row(outputs, self._version)
        if self._choices.merged:
            # an answer's name counts; the producer's other fields, `id` among them, stay
            merged = {**told, **msgspec.json.decode(answer), "result_id": own}
            return self._record(own, msgspec.json.encode(merged), message, told)
        before = b'{"id":"%b",' % own.encode()
        if self._choices.key is not None:
            key = msgspec.json.encode(told.get(self._choices.key))
            before += b"%b:%b," % (msgspec.json.encode(self._choices.key), key)
        return self._record(own, before + answer[1:], message, told)

    def _record(self, own: str, value: bytes, message: Message, told: Told) -> Record:
        key = message.key
        if key is None and self._choices.key is not None:
            key = _key_of(told.get(self._choices.key))
        if not message.headers:
            return Record(own, value, key, self._headers)
        carried = (one for one in message.headers if one[0].lower() in CARRIED)
        return Record(own, value, key, (*carried, *self._headers))

    def _dead(
        self, message: Message, error: ForetellError, attempts: int, code: str = ""
    ) -> Record:
        own = self.id_of(message.position)
        letter: dict[str, Any] = {"id": own, "position": message.position}
        letter |= {"error": error.message, "code": code or error.code}
        if error.field is not None:
            letter["field"] = error.field
        letter |= {"attempts": attempts, "model": self._model, "model_version": self._version}
        if message.key is not None:
            letter |= _told_raw("key", message.key)
        if message.headers:
            headers = ({"name": name} | _told_raw("value", raw) for name, raw in message.headers)
            letter["headers"] = [*headers]
        letter |= _told_raw("value", message.value)
        return Record(own, msgspec.json.encode(letter), message.key, message.headers)


def _key_of(told: Any) -> bytes | None:
    """A field as a message's key: texts as they are, anything else as JSON."""
    if told is None:
        return None
    return told.encode() if isinstance(told, str) else msgspec.json.encode(told)


def _told_raw(name: str, raw: bytes) -> dict[str, str]:
    """Bytes in a document: as a text, or as base64 where they are no UTF-8."""
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw).decode()}


def _failure(outcome: Outcome) -> ForetellError:
    if isinstance(outcome, ForetellError):
        return outcome
    return ModelFailed(f"the model failed on this message: {type(outcome).__name__}: {outcome}")


def _digest_of(manifest: Manifest) -> str:
    """One digest for all files of the version, and its name."""
    parts = [manifest.name, manifest.version, *(a.sha256 for a in manifest.files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
